"""Small components go, holes are filled, and nothing else happens to a mask."""

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from monai_sparse_refine.errors import InputError
from monai_sparse_refine.transforms import KeepMajorComponents, KeepMajorComponentsD, KeepMajorComponentsd


def pieces() -> np.ndarray:
    mask = np.zeros((1, 20, 12, 10), np.uint8)
    mask[0, 1:9, 1:9, 1:9] = 1  # 512, with a hole
    mask[0, 4, 4, 4] = 0
    mask[0, 12:16, 2:6, 2:6] = 1  # 64
    mask[0, 18, 10, 8] = 1
    return mask


@pytest.mark.parametrize(("fraction", "voxels"), [(0, 512 + 64 + 1), (0.1, 512 + 64), (0.2, 512), (1, 512)])
def test_components_below_the_fraction_go(fraction, voxels):
    assert KeepMajorComponents(fraction=fraction)(pieces()).sum() == voxels


def test_holes_stay_where_asked():
    out = KeepMajorComponents(fraction=0, fill_holes=False)(pieces())
    np.testing.assert_array_equal(out, pieces())


def test_voxels_that_touch_diagonally_are_one_component():
    mask = np.zeros((1, 4, 4, 4), bool)
    mask[0, 0, 0, 0] = mask[0, 1, 1, 1] = True
    assert KeepMajorComponents(fraction=1)(mask).sum() == 2


def test_containers_stay_and_an_empty_mask_passes():
    source = MetaTensor(torch.from_numpy(pieces()).float(), affine=np.diag([2.0, 1, 1, 1]))
    out = KeepMajorComponentsd("m")({"m": source})["m"]
    assert isinstance(out, MetaTensor) and out.dtype == torch.float32 and out.shape == source.shape
    torch.testing.assert_close(out.affine, source.affine)
    assert not KeepMajorComponents()(np.zeros((1, 3, 3, 3))).any()
    assert KeepMajorComponentsD is KeepMajorComponentsd


def test_a_bad_fraction_is_told():
    with pytest.raises(InputError, match="fraction"):
        KeepMajorComponents(fraction=1.5)
