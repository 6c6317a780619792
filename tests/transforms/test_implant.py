from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from monai.data import MetaTensor
from scipy import ndimage

from monai_sparse_refine.data import skull_phantom
from monai_sparse_refine.errors import InputError
from monai_sparse_refine.transforms import RandCranialDefect
from monai_sparse_refine.transforms.implant import (
    CompleteMask,
    CompleteMaskD,
    CompleteMaskd,
    ExtractImplant,
    ExtractImplantD,
    ExtractImplantd,
)
from monai_sparse_refine.transforms.implant_cleaning import clean_implant


def dome(spacing=(1.0, 1.0, 1.0), *, thickness=4.0) -> np.ndarray:
    """A hollow half ball of bone, 30 mm in radius, open at the bottom."""
    shape = [int(70 / s) for s in spacing[:2]] + [int(36 / spacing[2])]
    x, y, z = (i * s for i, s in zip(np.indices(shape), spacing, strict=True))
    radius = np.sqrt((x - 35) ** 2 + (y - 35) ** 2 + z**2)
    return (radius <= 30) & (radius > 30 - thickness)


def hole_like(skull, spacing, centre=(35, 35, 30), radius=11.0) -> np.ndarray:
    grid = np.indices(skull.shape)
    squares = [(i * s - c) ** 2 for i, s, c in zip(grid, spacing, centre, strict=True)]
    return np.sum(squares, axis=0) <= radius**2


def film(bone, skull) -> np.ndarray:
    """One voxel of noise on all the bone there is, inside and outside."""
    return ndimage.binary_dilation(bone) & ~skull


def dice(a, b) -> float:
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def extract(completed, defective, spacing=1.0, **options) -> np.ndarray:
    result = ExtractImplant(spacing=spacing, **options)(completed[None], defective[None])
    assert result.dtype == np.uint8 and result.shape == (1, *completed.shape)
    return result[0].astype(bool)


SPACINGS = [(1.0, 1.0, 1.0), (0.7, 0.9, 1.6), (1.0, 1.0, 2.5)]


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("thickness", [2.0, 4.0])
def test_a_clean_implant_stays_as_it_is(spacing, thickness):
    skull = dome(spacing, thickness=thickness)
    implant = skull & hole_like(skull, spacing)
    assert dice(extract(skull, skull & ~implant, spacing), implant) > 0.995


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("thickness", [2.0, 4.0])
def test_a_film_on_the_bone_goes_and_the_implant_stays(spacing, thickness):
    skull = dome(spacing, thickness=thickness)
    implant = skull & hole_like(skull, spacing)
    bone = skull & ~implant
    completed = skull | film(bone, skull)
    assert dice(completed & ~bone, implant) < 0.5
    result = extract(completed, bone, spacing)
    assert dice(result, implant) > 0.92
    assert (implant & ~result).sum() <= 0.005 * implant.sum()


def test_an_angular_hole_keeps_its_corners_and_its_contact():
    skull = dome()
    grid = np.indices(skull.shape)
    implant = skull & (abs(grid[0] - 35) <= 10) & (abs(grid[1] - 35) <= 10) & (grid[2] > 10)
    bone = skull & ~implant
    result = extract(skull, bone)
    assert (implant & ~result).sum() <= 0.002 * implant.sum()
    rim = implant & ndimage.binary_dilation(bone)
    assert (rim & ~result).sum() <= 0.02 * rim.sum()


def test_noise_without_a_hole_leaves_nothing():
    skull = dome()
    assert not extract(skull | film(skull, skull), skull).any()


def test_both_of_two_holes_are_kept_but_not_a_blob():
    skull, spacing = dome(), (1.0, 1.0, 1.0)
    left, right = (hole_like(skull, spacing, centre=(35 + dx, 35, 15)) & skull for dx in (-26, 26))
    implant = left | right
    blob = np.zeros_like(skull)
    blob[2:6, 2:6, 28:32] = True  # 0.06 ml in the air
    result = extract(skull | blob, skull & ~implant)
    assert (result & left).any() and (result & right).any() and not (result & blob).any()
    assert extract(skull | blob, skull & ~implant, min_volume_ml=0, min_relative_volume=0)[blob].all()


def test_small_parts_are_measured_in_millilitres_and_against_the_largest():
    bone = np.zeros((40, 40, 40), dtype=bool)
    completed = bone.copy()
    completed[2:18, 2:18, 2:18] = True  # 4096 voxels
    completed[30:36, 30:36, 30:36] = True  # 216 voxels
    count = {}
    for spacing in (0.5, 1.0):
        for fraction in (0.0, 0.1):
            kept = extract(completed, bone, spacing, min_volume_ml=0.1, min_relative_volume=fraction)
            count[spacing, fraction] = int(kept.sum())
    assert count == {(0.5, 0.0): 4096, (0.5, 0.1): 4096, (1.0, 0.0): 4312, (1.0, 0.1): 4096}


@settings(max_examples=30)
@given(
    hnp.arrays(bool, (6, 5, 4)),
    hnp.arrays(bool, (6, 5, 4)),
    st.sampled_from([0.0, 1.0, 3.0]),
    st.sampled_from([0.0, 0.002, 1.0]),
)
def test_always_a_part_of_the_difference_and_all_of_it_when_off(completed, defective, core, volume):
    off = extract(completed, defective, core_mm=0, min_volume_ml=0, min_relative_volume=0)
    np.testing.assert_array_equal(off, completed & ~defective)
    result = extract(completed, defective, core_mm=core, min_volume_ml=volume)
    assert not (result & ~off).any()


def test_the_plain_difference_needs_no_spacing_but_cleaning_does():
    mask = np.ones((1, 3, 3, 3), dtype=np.uint8)
    assert ExtractImplant(core_mm=0, min_volume_ml=0, min_relative_volume=0)(mask, 0 * mask).sum() == 27
    with pytest.raises(InputError, match="spacing is not known"):
        ExtractImplant()(mask, mask)


def test_bad_options_and_shapes_are_named():
    with pytest.raises(InputError, match="core_mm is -1"):
        ExtractImplant(core_mm=-1)
    with pytest.raises(InputError, match=r"completed \(3, 3, 3\), defective \(3, 3, 4\)"):
        ExtractImplant(spacing=1)(np.ones((3, 3, 3)), np.ones((3, 3, 4)))
    with pytest.raises(InputError, match="implant_key"):
        ExtractImplantd(["a", "b"], "defective", "implant")


def test_dictionaries_carry_the_affine_and_give_back_every_input_voxel():
    spacing = (0.7, 0.9, 1.6)
    affine = torch.diag(torch.tensor([*spacing, 1.0], dtype=torch.float64))
    skull = dome(spacing)
    implant = skull & hole_like(skull, spacing)
    bone = skull & ~implant
    completed = skull | film(bone, skull)

    def case(mask):
        return MetaTensor(torch.as_tensor(mask[None].astype(np.uint8)), affine=affine)

    data = {"pred": case(completed), "image": case(bone)}
    data = ExtractImplantd("pred", "image", "implant")(data)
    data = CompleteMaskd("completed", "image", "implant")(data)
    assert dice(data["implant"][0].numpy() > 0, implant) > 0.9 and data["pred"].sum() == completed.sum()
    assert torch.equal(data["completed"], data["image"] | data["implant"])
    for key in ("implant", "completed"):
        assert data[key].dtype == torch.uint8 and data[key].shape == (1, *skull.shape)
        assert torch.equal(data[key].affine, affine)
    np.testing.assert_array_equal(data["implant"][0].numpy(), extract(completed, bone, spacing))
    assert ExtractImplantD is ExtractImplantd and CompleteMaskD is CompleteMaskd


def test_a_shared_one_cleans_the_same_masks_once(monkeypatch):
    skull, spacing = dome(), (1.0, 1.0, 1.0)
    bone = skull & ~hole_like(skull, spacing)
    calls = []

    def counted(*arguments, **options):
        calls.append(options["spacing"])
        return clean_implant(*arguments, **options)

    monkeypatch.setattr("monai_sparse_refine.transforms.implant.clean_implant", counted)

    def case(mask, millimetres=1.0):
        affine = torch.diag(torch.tensor([millimetres] * 3 + [1.0], dtype=torch.float64))
        return MetaTensor(torch.as_tensor(mask[None].astype(np.uint8)), affine=affine)

    shared = ExtractImplant()
    first = shared(case(skull), case(bone))
    again = ExtractImplantd("pred", "image", extract=shared)({"pred": case(skull), "image": case(bone)})
    assert len(calls) == 1 and first.any()
    assert torch.equal(first.as_tensor(), again["implant"].as_tensor()) and first.dtype == torch.uint8
    # What differs is looked at anew: the implant, the bone, the spacing.
    assert not shared(case(bone), case(bone)).any() and len(calls) == 2
    less = bone.copy()
    less[:, :, :12] = False
    assert (shared(case(skull | less), case(less)) != first).any() and len(calls) == 3
    shared(case(skull | less, 2.0), case(less, 2.0))
    assert len(calls) == 4
    assert torch.equal(shared(case(skull), case(bone)).as_tensor(), first.as_tensor()) and len(calls) == 5


def test_missing_keys():
    data = {"image": np.zeros((1, 2, 2, 2))}
    assert ExtractImplantd("pred", "image", "implant", allow_missing_keys=True)(data).keys() == data.keys()
    assert CompleteMaskd("completed", "image", "implant", allow_missing_keys=True)(data).keys() == data.keys()
    with pytest.raises(KeyError):
        ExtractImplantd("pred", "image", "implant")(data)
    with pytest.raises(KeyError):
        CompleteMaskd("completed", "image", "implant")(data)


def test_completion_refuses_another_grid():
    with pytest.raises(InputError, match="shapes differ"):
        CompleteMask()(np.zeros((2, 2, 2)), np.zeros((2, 2, 3)))


def cone(skull, spacing, degrees, half_width) -> np.ndarray:
    """What of a dome lies around a direction from its middle, so many degrees from straight up."""
    offset = np.stack(
        [i * s - c for i, s, c in zip(np.indices(skull.shape), spacing, (35, 35, 0), strict=True)], axis=-1
    )
    direction = np.array([np.sin(np.deg2rad(degrees)), 0, np.cos(np.deg2rad(degrees))])
    cosine = offset @ direction / np.maximum(np.linalg.norm(offset, axis=-1), 1e-6)
    return skull & (cosine >= np.cos(np.deg2rad(half_width)))


@pytest.mark.parametrize("spacing", SPACINGS[:2])
def test_a_slit_from_the_hole_is_filled_but_no_film_is_kept(spacing):
    skull = dome(spacing)
    main = cone(skull, spacing, 0, 18)
    grid = np.indices(skull.shape)
    beside = np.abs(grid[1] * spacing[1] - 35) < 1.9
    slit = cone(skull, spacing, 25, 17) & beside & (grid[0] * spacing[0] > 35) & ~main
    bone = skull & ~main & ~slit
    completed = skull | film(bone, skull)
    middle = [35 / spacing[0], 35 / spacing[1], 0]
    parts = {
        known: clean_implant(completed & ~bone, bone, spacing=spacing, middle=middle if known else None)
        for known in (False, True)
    }
    assert (parts[True] & slit).sum() > 0.9 * slit.sum() > 1.2 * (parts[False] & slit).sum()
    beyond = film(bone, skull)
    assert (parts[True] & beyond).sum() < 0.05 * beyond.sum()


def test_what_goes_through_the_wall_elsewhere_is_left_out():
    skull = dome()
    main = skull & hole_like(skull, (1, 1, 1), radius=8.0)
    apart = skull & hole_like(skull, (1, 1, 1), centre=(59, 35, 14), radius=3.0)
    bone = skull & ~main & ~apart
    for reach in (0.0, 20.0, 100.0):
        kept = clean_implant(skull & ~bone, bone, spacing=(1, 1, 1), middle=(35, 35, 0), reach_mm=reach)
        assert not (kept & apart).any() and (kept & main).sum() > 0.95 * main.sum()


def test_the_middle_of_the_head_is_found_from_the_affine():
    skull = skull_phantom(3, spacing=2.0)
    holed = RandCranialDefect(kinds=["cube"], size_mm=(40.0, 40.0))
    holed.set_random_state(0)
    bone = holed(skull)
    plain = ExtractImplant(spacing=2.0)(np.asarray(skull), np.asarray(bone))
    seen = ExtractImplant()(skull, bone)
    truth = (np.asarray(skull) > 0) & (np.asarray(bone) == 0)
    assert dice(np.asarray(seen) > 0, truth) >= dice(plain > 0, truth) > 0.8


def test_the_angle_between_an_implant_and_slanting_bone_is_filled_but_no_film_is_kept():
    index = np.indices((60, 40, 14))
    slab = (index[2] >= 4) & (index[2] < 10)
    implant = slab & (index[0] > 25 + 2 * (index[2] - 4))  # cut aslant: it ends in a thin edge over the bone
    bone = slab & ~implant
    completed = slab | film(bone, slab)
    plain, filled = (extract(completed, bone, corner_voxels=reach) for reach in (0, 2))
    assert (implant & ~filled).sum() < 0.7 * (implant & ~plain).sum()
    added = filled & ~plain
    assert (added & implant).sum() > 0.7 * added.sum()
    # Away from the rest there is no angle, and nothing is farther than two voxels.
    assert not (added & ~ndimage.binary_dilation(plain, np.ones((3, 3, 3)), iterations=2)).any()
