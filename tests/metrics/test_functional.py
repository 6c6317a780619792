from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from monai.data import MetaTensor
from scipy import ndimage

from monai_sparse_refine.errors import InputError
from monai_sparse_refine.metrics import (
    border_dice,
    border_gap,
    dice,
    functional,
    hd95,
    reconstruction_error,
    surface_dice,
    volume_ml,
)

masks = hnp.arrays(bool, (5, 4, 6))
spacings = st.tuples(*[st.sampled_from([0.5, 1.0, 2.5])] * 3)


def cube(start, size=(4, 4, 4), shape=(20, 20, 20)) -> np.ndarray:
    mask = np.zeros(shape, dtype=np.uint8)
    mask[tuple(slice(a, a + n) for a, n in zip(start, size, strict=True))] = 1
    return mask


def test_dice_of_shifted_cubes():
    assert dice(cube((4, 4, 4)), cube((5, 4, 4))) == pytest.approx(2 * 48 / 128)
    assert dice(cube((0, 0, 0)), cube((10, 10, 10))) == 0
    empty = np.zeros((20, 20, 20))
    assert dice(empty, empty) == 1
    assert dice(empty, cube((1, 1, 1))) == dice(cube((1, 1, 1)), empty) == 0


def test_every_container_gives_the_same():
    a, b = cube((4, 4, 4)), cube((5, 4, 4))
    affine = torch.diag(torch.tensor([1.0, 2.0, 3.0, 1.0]))
    for convert in (
        torch.as_tensor,
        lambda m: m[None],
        lambda m: m * 0.9,
        lambda m: MetaTensor(m, affine=affine),
    ):
        assert dice(convert(a), b) == dice(a, b)
        assert hd95(convert(a), b, spacing=(1, 2, 3)) == hd95(a, b, spacing=(1, 2, 3))
    assert hd95(MetaTensor(a, affine=affine), b) == hd95(a, b, spacing=(1, 2, 3))
    assert volume_ml(MetaTensor(a, affine=affine)) == pytest.approx(64 * 6 / 1000)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_hd95_of_shifted_plates_is_the_shift_in_mm(axis):
    # Two plates across the whole volume, three voxels apart: every distance is the same.
    spacing = (0.5, 1.5, 4.0)
    first, second = (np.zeros((9, 9, 9), dtype=bool) for _ in range(2))
    first[(slice(None),) * axis + (2,)] = True
    second[(slice(None),) * axis + (5,)] = True
    assert hd95(first, second, spacing=spacing) == pytest.approx(3 * spacing[axis])


def test_hd95_takes_the_percentile_of_both_directions_pooled():
    # A line of 20 voxels and the same line with one voxel 7 mm off: 20 zeros + 21 values of which one is 7.
    line = np.zeros((30, 30, 3), dtype=bool)
    line[5:25, 5, 1] = True
    other = line.copy()
    other[5, 12, 1] = True
    pooled = np.array([0.0] * 40 + [7.0])
    assert hd95(line, other, spacing=1) == np.percentile(pooled, 95) == 0
    other[6:9, 12, 1] = True
    assert hd95(line, other, spacing=1) == np.percentile([0.0] * 40 + [7.0] * 4, 95) == 7


def reference_hd95(a, b, spacing):
    """The plain way, over the whole volume."""
    edges = [m & ~ndimage.binary_erosion(m) for m in (a, b)]
    maps = [ndimage.distance_transform_edt(~e, sampling=spacing) for e in edges]
    return np.percentile(np.concatenate([maps[1][edges[0]], maps[0][edges[1]]]), 95)


@settings(max_examples=60)
@given(masks, masks, spacings)
def test_hd95_equals_the_plain_computation(a, b, spacing):
    if a.any() and b.any():
        assert hd95(a, b, spacing=spacing) == pytest.approx(reference_hd95(a, b, spacing))
        assert hd95(a, b, spacing=spacing) == hd95(b, a, spacing=spacing)
        assert hd95(a, b, spacing=spacing) < np.linalg.norm(np.multiply(a.shape, spacing))
    assert hd95(a, a, spacing=spacing) == 0


def test_nothing_predicted_is_the_worst_distance_not_the_best():
    empty = np.zeros((20, 20, 20))
    diagonal = pytest.approx(np.sqrt(10**2 + 20**2 + 60**2))
    assert hd95(empty, cube((4, 4, 4)), spacing=(0.5, 1, 3)) == diagonal
    assert hd95(cube((4, 4, 4)), empty, spacing=(0.5, 1, 3)) == diagonal
    assert hd95(empty, empty, spacing=1) == 0


def plate_with_hole():
    """A plate of 21 x 21 x 3 voxels with a square hole of 9 x 9, and what fills the hole."""
    whole = cube((2, 2, 4), (21, 21, 3), (25, 25, 11)).astype(bool)
    implant = cube((8, 8, 4), (9, 9, 3), (25, 25, 11)).astype(bool)
    return whole & ~implant, implant


def test_border_dice_counts_only_what_is_near_the_bone():
    bone, implant = plate_with_hole()
    pred = implant.copy()
    pred[12, 12, :] = False  # the middle, 5 voxels from the bone on all sides
    assert border_dice(pred, implant, bone, spacing=1.0, distance_mm=4) == 1
    assert border_dice(pred, implant, bone, spacing=1.0, distance_mm=5) < 1
    assert border_dice(pred, implant, bone, spacing=0.8, distance_mm=4) < 1
    pred = implant.copy()
    pred[8, :, :] = False  # one side of the rim: 27 of 72 voxels of the outermost ring
    ring = 3 * (81 - 49)
    assert border_dice(pred, implant, bone, spacing=1.0, distance_mm=1) == pytest.approx(
        2 * (ring - 27) / (2 * ring - 27)
    )


@settings(max_examples=60)
@given(masks, masks, masks, spacings, st.sampled_from([0.5, 1.0, 2.0, 4.0]), st.booleans())
def test_border_dice_equals_the_plain_computation(pred, true, bone, spacing, distance, many):
    if not bone.any() or not pred.any() or not true.any():
        return
    near = ndimage.distance_transform_edt(~bone, sampling=spacing) <= distance * (1 + 1e-9)
    total = (pred & near).sum() + (true & near).sum()
    expected = 2 * (pred & true & near).sum() / total if total else 0
    limit = functional.MANY
    try:
        functional.MANY = 0 if many else limit
        assert border_dice(pred, true, bone, spacing=spacing, distance_mm=distance) == pytest.approx(expected)
    finally:
        functional.MANY = limit


def test_border_dice_at_its_ends():
    bone, implant = plate_with_hole()
    empty = np.zeros_like(bone)
    assert border_dice(implant, implant, bone, spacing=1) == 1
    assert border_dice(empty, implant, bone, spacing=1) == 0
    assert border_dice(implant, empty, bone, spacing=1) == 0
    assert border_dice(empty, empty, bone, spacing=1) == 1
    with pytest.raises(InputError, match="defective is empty"):
        border_dice(implant, implant, empty, spacing=1)


def test_reconstruction_error_is_a_percentage_of_the_volume():
    assert reconstruction_error(cube((4, 4, 4)), cube((5, 4, 4))) == pytest.approx(100 * 32 / 8000)
    assert reconstruction_error(np.ones((2, 2, 2)), np.zeros((2, 2, 2))) == 100


def test_volume_in_millilitres():
    assert volume_ml(np.ones((10, 10, 10)), spacing=(0.5, 2.0, 3.0)) == pytest.approx(3.0)


@pytest.mark.parametrize("missing", [0, 1, 3])
def test_border_gap_is_the_width_of_the_missing_rim(missing):
    bone, implant = plate_with_hole()
    pred = implant.copy()
    pred[8 : 8 + missing] = False
    assert border_gap(pred, implant, bone) == missing
    # A gap at one of four sides is forgiven where a fifth of the edge may be missed... but not the half of
    # it.
    assert border_gap(pred, implant, bone, percentile=50) == 0


def test_border_gap_at_its_ends():
    bone, implant = plate_with_hole()
    empty = np.zeros_like(bone)
    assert border_gap(empty, implant, bone) == 25
    assert border_gap(implant, empty, bone) == 0
    assert border_gap(implant | bone, implant, bone) == 0
    assert border_gap(bone, implant, bone) == 0


@given(masks, masks)
def test_an_exact_implant_leaves_no_gap(implant, bone):
    assert border_gap(implant, implant, bone & ~implant) == 0


def test_wrong_input_is_named():
    with pytest.raises(InputError, match=r"a \(2, 2, 2\), b \(2, 2, 3\)"):
        dice(np.ones((2, 2, 2)), np.ones((2, 2, 3)))
    with pytest.raises(InputError, match="spacing is not known"):
        hd95(np.ones((2, 2, 2)), np.ones((2, 2, 2)))
    with pytest.raises(InputError, match=r"one channel of one case"):
        volume_ml(np.ones((2, 2, 2, 2)), spacing=1)


def test_surface_dice_of_shifted_cubes():
    a, b = cube((4, 4, 4)), cube((6, 4, 4))
    assert surface_dice(a, a, tolerance=0, spacing=1) == 1
    assert surface_dice(a, b, tolerance=2, spacing=1) == 1
    # By hand: 56 surface voxels each, of which the four faces along the shift share 2 x 12 and touch more within 1.
    surfaces = [np.argwhere(functional.surface(mask.astype(bool))) for mask in (a, b)]
    near = 0
    for own, other in (surfaces, surfaces[::-1]):
        distances = np.linalg.norm(own[:, None] - other[None], axis=-1).min(1)
        near += int((distances <= 1).sum())
    assert surface_dice(a, b, tolerance=1, spacing=1) == pytest.approx(near / 112)
    assert surface_dice(a, b, tolerance=1, spacing=(1, 1, 1)) < 1
    assert surface_dice(a, b, tolerance=1, spacing=0.5) == 1


def test_surface_dice_of_empty_masks():
    empty = np.zeros((5, 5, 5))
    full = np.ones((5, 5, 5))
    assert surface_dice(empty, empty, tolerance=1, spacing=1) == 1
    assert (
        surface_dice(empty, full, tolerance=1, spacing=1)
        == surface_dice(full, empty, tolerance=1, spacing=1)
        == 0
    )


@given(masks, masks, spacings)
def test_surface_dice_grows_with_the_tolerance_to_one(a, b, spacing):
    values = [surface_dice(a, b, tolerance=t, spacing=spacing) for t in (0, 1, 2.5, 100)]
    assert values == sorted(values)
    assert values[-1] == (1 if a.any() == b.any() else 0)
