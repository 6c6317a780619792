from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from monai.data import MetaTensor
from scipy import ndimage

from monai_sparse_refine.errors import InputError
from monai_sparse_refine.volume import (
    as_mask,
    as_tensor,
    as_volume,
    bounding_box,
    case_name,
    check_same_grid,
    check_same_shape,
    spacing_of,
    surface,
    volume_kind,
)

masks = hnp.arrays(bool, hnp.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=6))


@pytest.mark.parametrize("shape", [(2, 3, 4), (1, 2, 3, 4)])
@pytest.mark.parametrize("container", [np.asarray, torch.as_tensor, MetaTensor])
def test_every_container_becomes_the_same_array(shape, container):
    values = np.arange(24, dtype=np.float32).reshape(shape)
    array = as_volume(container(values))
    assert type(array) is np.ndarray and array.shape == (2, 3, 4)
    np.testing.assert_array_equal(array.ravel(), values.ravel())


@pytest.mark.parametrize("shape", [(2, 3), (2, 2, 3, 4), (1, 1, 2, 3, 4)])
def test_other_shapes_are_refused_by_name(shape):
    with pytest.raises(InputError, match=r"truth has shape .*\[1, X, Y, Z\]"):
        as_volume(np.zeros(shape), name="truth")


def test_foreground_is_nonzero_or_above_one_half():
    assert as_mask(np.array([[[0, 1, 7]]], dtype=np.int16)).tolist() == [[[False, True, True]]]
    assert as_mask(np.array([[[0.2, 0.5, 0.6]]])).tolist() == [[[False, False, True]]]


def test_shapes_that_differ_are_both_named():
    check_same_shape(a=np.zeros((1, 2, 3)), b=np.ones((1, 2, 3)))
    with pytest.raises(InputError, match=r"a \(1, 2, 3\), b \(1, 2, 4\)"):
        check_same_shape(a=np.zeros((1, 2, 3)), b=np.zeros((1, 2, 4)))


def test_spacing_comes_from_an_oblique_affine_and_is_never_guessed():
    angle = np.pi / 6
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([0.5, -0.75, 2.5])
    image = MetaTensor(torch.zeros(1, 2, 2, 2), affine=torch.as_tensor(affine))
    assert spacing_of(np.zeros(3), image) == pytest.approx((0.5, 0.75, 2.5))
    assert spacing_of(image, spacing=2) == (2.0, 2.0, 2.0)
    with pytest.raises(InputError, match="spacing is not known"):
        spacing_of(np.zeros((2, 2, 2)))
    for wrong in (0.0, (1, 1, -1), (1, np.nan, 1), (1, 2), "wide"):
        with pytest.raises(InputError, match="three positive finite numbers"):
            spacing_of(spacing=wrong)


def test_spacing_of_a_batch_is_that_of_its_first_case():
    batch = MetaTensor(torch.zeros(2, 1, 2, 2, 2), affine=torch.eye(4))
    batch.meta["affine"] = torch.stack([torch.diag(torch.tensor([2.0, 3, 4, 1])), torch.eye(4)])
    assert spacing_of(batch) == (2.0, 3.0, 4.0)


@given(masks, st.integers(0, 2))
def test_bounding_box_holds_all_and_is_tight(mask, margin):
    box = bounding_box(mask, margin=margin)
    if not mask.any():
        assert box is None
        return
    assert mask[box].sum() == mask.sum()
    for axis, part in enumerate(box):
        lines = np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis})))
        assert part.start == max(0, lines[0] - margin)
        assert part.stop == min(mask.shape[axis], lines[-1] + 1 + margin)


@given(masks)
def test_surface_is_what_an_erosion_takes_away(mask):
    np.testing.assert_array_equal(surface(mask), mask & ~ndimage.binary_erosion(mask))


@pytest.mark.parametrize(
    ("file", "name"),
    [("/a/b.nii.gz", "b"), ("b.NII", "b"), ("x.seg.nrrd", "x"), ("a.b.nrrd", "a.b"), ("c:\\d\\e.nii", "e")],
)
def test_case_name_drops_folder_and_image_suffixes(file, name):
    assert case_name(file) == name


def kind(values, threshold=300.0):
    return volume_kind(np.asarray(values).reshape(1, 1, -1), hu_threshold=threshold, name="x")


def test_masks_and_cts_are_told_apart():
    assert kind(np.array([0, 1, 0], dtype=np.uint8)) == "mask"
    assert kind([False, True]) == "mask"
    assert kind([0.0, 1.0]) == "mask"
    assert kind([-1000, 40, 900]) == "ct"
    clipped = np.concatenate([np.zeros(4000), np.arange(1, 1900), np.arange(-500.0, 1400).clip(0)])
    assert kind(clipped) == "ct"  # a CT whose values below 0 were cut off


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], "no voxels"),
        ([1j], "complex"),
        ([0, np.nan, 1, np.inf], "2 voxels that are NaN or infinite"),
        ([0, 0], "x is empty"),
        ([False, False], "x is empty"),
        ([1, 1], "1 everywhere"),
        ([0, 255], r"values 0, 255; .*\(volume > 0\)"),
        ([0, 1, 2, 5], "values 0, 1, 2, 5; .*label map"),
        ([0.0, 0.25, 1.0], r"values 0, 0.25, 1; .*volume > 0.5"),
        ([7, 7], "the values 7; "),
        (list(range(20)), "and 12 more"),
        ([-1000, 40, 299], "no voxel above hu_threshold=300: values go from -1000 to 299"),
        (np.concatenate([np.arange(200), 1064 + np.arange(300) % 50]), "subtract the offset"),
        # A wide field of view: little of it is head, and most of that is soft tissue.
        (np.concatenate([np.arange(20_000) % 200, 980 + np.arange(2000) % 150]), "subtract the offset"),
        ([0, 0, 0, 1000], r"values 0, 1000; .*\(volume > 0\)"),
        (np.array([0, 17, 1002, 2035] * 3, dtype=np.int32), "values 0, 17, 1002, 2035; .*label map"),
    ],
)
def test_anything_else_is_refused_with_what_was_found(values, message):
    with pytest.raises(InputError, match=message):
        kind(values)


def test_arrays_that_torch_cannot_view_become_tensors_too():
    values = np.arange(6, dtype=np.float32).reshape(1, 2, 3)
    for array in (values, values.astype(">f4"), np.flip(np.flip(values, 1).copy(), 1)):
        assert torch.equal(as_tensor(array), torch.from_numpy(values))
    assert type(as_tensor(MetaTensor(values))) is torch.Tensor
    tensor = torch.from_numpy(values)
    assert as_tensor(tensor).data_ptr() == tensor.data_ptr()


def test_bfloat16_becomes_single_precision():
    assert as_volume(torch.full((2, 2, 2), 0.75, dtype=torch.bfloat16)).dtype == np.float32
    assert as_mask(torch.full((2, 2, 2), 0.75, dtype=torch.bfloat16)).all()


def test_grids_that_only_have_one_shape_are_told_apart():
    volume = torch.zeros(1, 4, 5, 6)
    here = MetaTensor(volume, affine=np.diag([1.0, 1, 2, 1]))
    mirrored = MetaTensor(volume, affine=np.diag([-1.0, 1, 2, 1]))
    check_same_grid(mask=here, image=MetaTensor(volume, affine=np.diag([1.01, 1, 2, 1])))
    check_same_grid(mask=here, image=volume)
    with pytest.raises(InputError, match=r"mask and image have one shape, but .* up to 6.0 mm apart"):
        check_same_grid(mask=here, image=mirrored)
