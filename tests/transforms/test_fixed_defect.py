import warnings

import nibabel as nib
import pytest
import torch

from monai_sparse_refine.data import defect_cases, skull_phantom
from monai_sparse_refine.errors import InputError
from monai_sparse_refine.transforms import FixedCranialDefectd, cases_with_room


@pytest.fixture(scope="module")
def skull():
    return skull_phantom(2, spacing=4.0)


def test_same_seed_same_hole_in_any_order(skull):
    cut = FixedCranialDefectd("image", implant_key="implant")
    first = cut({"image": skull, "kind": "random", "seed": 7})
    cut({"image": skull, "kind": "cube", "seed": 8})
    again = cut({"image": skull, "kind": "random", "seed": 7})
    assert torch.equal(first["image"].as_tensor(), again["image"].as_tensor())
    assert torch.equal((first["image"] + first["implant"]).as_tensor(), skull.as_tensor())
    assert 0.005 < float(first["implant"].sum() / skull.sum()) < 0.3
    assert first["implant"].affine.equal(skull.affine)


def test_kind_and_seed_matter(skull):
    cut = FixedCranialDefectd("image")
    holes = [
        cut({"image": skull, "kind": kind, "seed": seed})["image"].as_tensor()
        for kind, seed in (("random", 7), ("random", 9), ("bilateral", 7))
    ]
    assert not torch.equal(holes[0], holes[1]) and not torch.equal(holes[0], holes[2])


def test_the_size_that_was_drawn_is_told_and_its_range_may_differ_by_kind(skull):
    cut = FixedCranialDefectd("image", size_mm={"random": (20.0, 21.0)}, size_key="size_mm")
    assert 20 <= cut({"image": skull, "kind": "random", "seed": 7})["size_mm"] <= 21
    assert 42 <= cut({"image": skull, "kind": "bilateral", "seed": 7})["size_mm"] <= 60


@pytest.fixture
def face(skull, tmp_path):
    """File of a skull cut off below its vault: no room for any hole."""
    half = skull.clone()
    half[..., half.shape[-1] // 3 :] = 0
    return _save(half, tmp_path / "face.nii.gz")


def _save(mask, path):
    nib.save(nib.Nifti1Image(mask[0].numpy().astype("uint8"), mask.affine.numpy()), path)
    return {"label": str(path), "name": path.name.removesuffix(".nii.gz")}


def test_cases_without_room_are_named_and_left_out(skull, face, tmp_path):
    whole = _save(skull, tmp_path / "whole.nii.gz")
    cases = defect_cases([whole, face], kinds=["random", "cube"])
    with pytest.warns(UserWarning, match="2 of 4 cases have no room for their hole: face_random, face_cube"):
        kept = cases_with_room(cases)
    assert kept == cases[:2]
    with pytest.raises(InputError, match="complete vault"):
        cases_with_room(cases[2:])
    assert cases_with_room([]) == []


def test_nothing_is_said_where_all_have_room(skull, tmp_path):
    cases = defect_cases([_save(skull, tmp_path / "whole.nii.gz")], kinds=["random"])
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*no room")
        assert cases_with_room(cases) == cases
