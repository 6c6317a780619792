"""A step on another grid: what comes back lies where it lay, whatever the orientation."""

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, Crop, Orientation, Orientationd

from monai_sparse_refine.transforms import CropHeadd, ResampleToSpacingd
from monai_sparse_refine.transforms.ras_grid import on_grid_of, on_ras_grid


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


@pytest.mark.parametrize("oblique", [False, True])
@pytest.mark.parametrize("codes", ["RAS", "LPS", "SAR"])
def test_values_of_a_cropped_head_come_back_to_where_they_were_taken(codes, oblique):
    like = block(codes)
    if oblique:
        turn = nib.eulerangles.euler2mat(0.4, -0.3, 0.5)
        like.affine = torch.from_numpy(nib.affines.from_matvec(turn)) @ like.affine
    chain = Compose(
        [
            CropHeadd("image", reach_mm=20.0),
            Orientationd("image", axcodes="RAS", labels=None),
            ResampleToSpacingd("image", 2.0, threshold=None),
        ]
    )
    box = tuple(slice(1, size - 1) for size in like.shape[1:])
    cropped = Crop()(like, slices=box)
    made = chain({"image": cropped.float()})["image"]
    back = on_grid_of(MetaTensor(made.as_tensor() + 1.0, affine=made.affine), like)
    assert back.shape == tuple(like.shape[1:])
    inverted = chain.inverse({"image": made})["image"]
    np.testing.assert_allclose(back[box], inverted.as_tensor()[0].numpy() + 1.0, atol=1e-5)
    outside = np.ones(back.shape, dtype=bool)
    outside[box] = False
    assert not back[outside].any()
