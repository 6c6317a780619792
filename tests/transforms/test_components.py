"""Small components go, holes are filled, and nothing else happens to a mask."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from monai.data import MetaTensor
from scipy import ndimage

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


@pytest.mark.parametrize(
    ("near", "voxels"),
    [
        (None, 512 + 64),
        (8, 512 + 64),  # the gap is four voxels of 2 mm
        (7.9, 512),
        (0, 512),
    ],
)
def test_large_components_that_lie_too_far_off_go(near, voxels):
    clean = KeepMajorComponents(fraction=0.1, near_mm=near, spacing=(2, 1, 1))
    assert clean(pieces()).sum() == voxels


def test_a_chain_of_pieces_stays_and_what_is_off_it_goes():
    mask = np.zeros((1, 40, 6, 6), bool)
    for start, length in ((0, 10), (13, 6), (22, 6), (34, 6)):
        mask[0, start : start + length] = True
    out = KeepMajorComponents(fraction=0.5, near_mm=4, spacing=1)(mask)
    assert out[0, :30].sum() == 22 * 36 and not out[0, 30:].any()


def dumbbell() -> np.ndarray:
    """Blocks of 24 x 16 x 8 (with a hole) and 8 x 8 x 8 voxels, and a bar of 4 x 2 between them; 1 x 1 x 2 mm."""
    mask = np.zeros((1, 48, 18, 10), np.uint8)
    mask[0, 1:25, 1:17, 1:9] = 1
    mask[0, 12, 8, 4] = 0
    mask[0, 25:34, 6:10, 4:6] = 1
    mask[0, 34:42, 4:12, 1:9] = 1
    return mask


@pytest.mark.parametrize(("neck", "stays"), [(None, True), (3, True), (5, False), (6, False), (8, True)])
def test_what_hangs_on_by_a_thin_neck_goes(neck, stays):
    """A ball of 8 mm fits nowhere into the smaller block, which is then no part of its own."""
    out = KeepMajorComponents(neck_mm=neck, fill_holes=False, spacing=(1, 1, 2))(dumbbell())
    assert out[0, 1:25, 1:17, 1:9].sum() == 24 * 16 * 8 - 1
    assert bool(out[0, 38:42].any()) == stays and (out <= dumbbell()).all()


def test_an_organ_that_was_torn_stays_in_one_piece():
    """Nearly half of it hangs on the rest by a thin neck."""
    mask = np.ones((1, 40, 14, 14), np.uint8)
    mask[0, 19:22] = 0
    mask[0, 19:22, 6:8, 6:8] = 1
    out = KeepMajorComponents(neck_mm=8, spacing=1)(mask)
    np.testing.assert_array_equal(out, mask)


def test_a_neck_needs_a_width_and_a_spacing():
    with pytest.raises(InputError, match="neck_mm"):
        KeepMajorComponents(neck_mm=0)
    with pytest.raises(InputError, match="spacing"):
        KeepMajorComponents(neck_mm=5)(dumbbell())
    source = MetaTensor(dumbbell(), affine=np.diag([1.0, 1, 2, 1]))
    assert KeepMajorComponentsd("m", neck_mm=6)({"m": source})["m"][0, 36:].sum() == 0


def test_the_spacing_is_that_of_the_mask():
    source = MetaTensor(torch.from_numpy(pieces()), affine=np.diag([2.0, 1, 1, 1]))
    assert KeepMajorComponents(near_mm=7.9)(source).sum() == 512
    assert KeepMajorComponentsd("m", near_mm=8)({"m": source})["m"].sum() == 512 + 64
    with pytest.raises(InputError, match="spacing"):
        KeepMajorComponents(near_mm=5)(pieces())


@given(hnp.arrays(bool, st.tuples(*[st.integers(1, 7)] * 3)))
def test_holes_are_what_flooding_from_outside_does_not_reach(mask):
    out = KeepMajorComponents(fraction=0)(mask[None])[0]
    np.testing.assert_array_equal(out, ndimage.binary_fill_holes(mask))


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
    with pytest.raises(InputError, match="near_mm"):
        KeepMajorComponents(near_mm=-1)
