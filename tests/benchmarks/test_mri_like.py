"""MRI-like skulls from a hand-made brain: two thin surfaces, holes through both, the same at every resolution."""

import nibabel as nib
import numpy as np
import pytest
import torch
from scipy import ndimage

from benchmarks.mri_like import (
    CUBE_MM,
    GRID,
    THICKNESS_RANGE_MM,
    cut_ball,
    make_head,
    mirrored,
    patient_of,
    read_head,
    split_brains,
    surfaces,
)
from monai_sparse_refine.errors import InputError


def ellipsoid():
    x, y, z = (np.mgrid[:36, :44, :24] + 0.5 - np.array([18, 22, 12]).reshape(3, 1, 1, 1)) * 4.0
    return (x / 60) ** 2 + (y / 75) ** 2 + (z / 42) ** 2 < 1  # mm


@pytest.fixture(scope="module")
def head():
    return make_head(ellipsoid(), (4.0, 4.0, 4.0), name="brain", seed=1)


def test_the_outer_surface_lies_the_thickness_outside_the_cavity(head):
    outer, inner = head.distances.numpy()
    low, high = THICKNESS_RANGE_MM
    assert low - 0.01 <= (inner - outer).min() < (inner - outer).max() <= high + 0.01
    solid = outer < 0
    edges = [solid[0], solid[-1], solid[:, 0], solid[:, -1], solid[..., 0], solid[..., -1]]
    assert not any(edge.any() for edge in edges)
    reach = ndimage.distance_transform_edt(inner >= 0, sampling=CUBE_MM / GRID)
    assert reach[solid].max() < high + 3  # smoothing rounds by some millimetres


@pytest.mark.parametrize("size", [30, 60])
def test_surfaces_are_thin(head, size):
    skull = surfaces(head, size)
    assert skull.shape == (1, size, size, size) and skull.dtype == torch.uint8
    mask = skull[0].numpy() > 0
    # Nowhere three voxels thick: an opening with the six-neighbourhood leaves nothing.
    assert not ndimage.binary_opening(mask).any()


def test_two_spaces_are_enclosed(head):
    _, count = ndimage.label(surfaces(head, 60)[0].numpy() == 0)
    assert count == 3  # outside, bone and scalp, cavity


def test_a_hole_goes_through_both_surfaces_and_is_the_same_at_every_size(head):
    share, centres = [], []
    for size in (30, 60):
        skull = surfaces(head, size)
        holed = cut_ball(head, skull, seed=3, radius_mm=(35.0, 35.0))
        removed = (skull > 0) & (holed == 0)
        assert not bool((holed > skull).any())
        share.append(float(removed.sum() / skull.sum()))
        centres.append(np.argwhere(removed[0].numpy()).mean(0) * CUBE_MM / size)
    _, count = ndimage.label(holed[0].numpy() == 0)
    assert count == 1  # at 60 nothing is enclosed any more
    assert share[0] == pytest.approx(share[1], rel=0.3)
    np.testing.assert_allclose(centres[0], centres[1], atol=8)


def test_a_mirrored_head_is_another_one_and_twice_mirrored_the_same(head):
    assert not torch.equal(mirrored(head).distances, head.distances)
    assert torch.equal(mirrored(mirrored(head)).distances, head.distances)


def test_patients_are_never_on_both_sides_of_the_split(tmp_path):
    names = ["0522c0727a_x", "0522c0727b_x", *(f"0522c00{n}_x" for n in range(10, 16))]
    files = [tmp_path / f"{name}.nii.gz" for name in names]
    for seed in range(8):
        training, test = split_brains(files, seed=seed, test=3)
        assert sorted(training + test) == sorted(files)
        sides = [{patient_of(file.name) for file in side} for side in (training, test)]
        assert not sides[0] & sides[1] and len(sides[1]) == 3
    with pytest.raises(InputError, match="too few"):
        split_brains(files, test=7)


def test_a_file_without_brain_is_refused(tmp_path):
    nib.save(nib.Nifti1Image(np.full((4, 4, 4), 2, np.uint8), np.eye(4)), tmp_path / "x.nii.gz")
    with pytest.raises(InputError, match="label 1"):
        read_head(tmp_path / "x.nii.gz", seed=0)
