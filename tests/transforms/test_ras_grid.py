"""A step on another grid: what comes back lies where it lay, whatever the orientation."""

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Orientation

from monai_sparse_refine.transforms.ras_grid import on_ras_grid


def block(codes: str) -> MetaTensor:
    volume = torch.zeros(1, 12, 10, 8)
    volume[0, 2:6, 2:8, 2:6] = 1
    return Orientation(axcodes=codes, labels=None)(MetaTensor(volume, affine=np.diag([1.0, 1.0, 2.0, 1.0])))


@pytest.mark.parametrize("codes", ["RAS", "LPS", "SAR"])
@pytest.mark.parametrize("spacing", [1.0, 2.0])
def test_a_step_that_changes_nothing_gives_the_mask_back(codes, spacing):
    like = block(codes)
    mask = like[0].numpy() > 0
    result = on_ras_grid(lambda x: x, mask, like, spacing=spacing)
    assert result.shape == mask.shape
    np.testing.assert_array_equal(result >= 0.5, mask)


def test_the_step_sees_left_and_right_along_the_first_axis():
    seen = []

    def flip(x: MetaTensor) -> torch.Tensor:
        seen.append(tuple(x.shape))
        return x.as_tensor().flip(1)

    for codes in ("RAS", "SAR"):
        like = block(codes)
        result = on_ras_grid(flip, like[0].numpy() > 0, like, spacing=2.0)
        axis = 1 + codes.index("R")
        np.testing.assert_array_equal(result >= 0.5, like.as_tensor().flip(axis)[0].numpy() > 0)
    assert seen == [(1, 6, 5, 8)] * 2
