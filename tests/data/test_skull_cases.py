import json

import nibabel as nib
import numpy as np
import pytest

from monai_sparse_refine.data.skull_cases import (
    complete_skulls,
    completion_cases,
    defect_cases,
    phantom_cases,
    read_split,
)
from monai_sparse_refine.errors import InputError


def _write(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    mask = np.ones((2, 2, 2), np.uint8)
    mask[0, 0, 0] = 0
    nib.save(nib.Nifti1Image(mask, np.eye(4)), path)
    return path


@pytest.fixture
def folder(tmp_path):
    for name in ("b", "a", "c"):
        _write(tmp_path / "skulls" / f"{name}.nii.gz")
    return tmp_path / "skulls"


def test_complete_skulls_are_sorted_or_in_the_order_of_the_split(folder):
    assert [case["name"] for case in complete_skulls(folder)] == ["a", "b", "c"]
    chosen = complete_skulls(folder, names=["c", "a"])
    assert [case["name"] for case in chosen] == ["c", "a"]
    assert chosen[0]["label"] == str(folder / "c.nii.gz")
    assert complete_skulls(None) == []
    with pytest.raises(InputError, match="'d'"):
        complete_skulls(folder, names=["a", "d"])


def test_split_parts(tmp_path, monkeypatch):
    path = tmp_path / "split.json"
    path.write_text(json.dumps({"training": ["a"], "test": ["b", "c"]}))
    assert read_split(path, "test") == ["b", "c"]
    monkeypatch.setenv("HOME", str(tmp_path))
    assert read_split("~/split.json", "training") == ["a"]
    with pytest.raises(InputError, match="validation"):
        read_split(path, "validation")
    with pytest.raises(InputError, match="cannot be read"):
        read_split(tmp_path / "no.json", "test")


def test_phantoms_are_made_once(tmp_path, monkeypatch):
    cases = phantom_cases(tmp_path, count=2, first_seed=5, spacing=6.0)
    assert [case["name"] for case in cases] == ["phantom_00005_6mm", "phantom_00006_6mm"]
    before = {case["label"]: nib.load(case["label"]).get_fdata() for case in cases}
    stamp = (tmp_path / "phantom_00005_6mm.nii.gz").stat().st_mtime_ns
    assert phantom_cases(tmp_path, count=2, first_seed=5, spacing=6.0) == cases
    assert (tmp_path / "phantom_00005_6mm.nii.gz").stat().st_mtime_ns == stamp
    monkeypatch.setenv("HOME", str(tmp_path))
    assert phantom_cases("~", count=2, first_seed=5, spacing=6.0) == cases
    first, second = before.values()
    assert first.shape != second.shape or (first != second).any()
    assert not list(tmp_path.glob(".*"))  # no temporary file stays


def test_defect_cases_have_their_own_seeds_and_names(folder):
    cases = defect_cases(complete_skulls(folder), kinds=["bilateral", "cube"])
    assert len(cases) == 6
    assert len({case["name"] for case in cases}) == len({case["seed"] for case in cases}) == 6
    assert all(case["image"] == case["label"] for case in cases)
    rotating = defect_cases(complete_skulls(folder), kinds=["bilateral", "cube"], per_case=1)
    assert [case["kind"] for case in rotating] == ["bilateral", "cube", "bilateral"]


def test_completion_cases_find_their_truth_by_name(folder, tmp_path):
    defective = [_write(tmp_path / "defective" / f"{name}.nii.gz") for name in ("a", "c")]
    cases = completion_cases(defective, truth_dir=folder)
    assert [case["truth"] for case in cases] == [str(folder / "a.nii.gz"), str(folder / "c.nii.gz")]
    single = completion_cases(defective[:1], truth_dir=folder / "b.nii.gz")
    assert single[0]["truth"] == str(folder / "b.nii.gz")
    assert "truth" not in completion_cases(defective)[0]
    completion_cases(defective, truth_dir=folder, same_grid=True)
    wrong = tmp_path / "wrong" / "a.nii.gz"
    wrong.parent.mkdir()
    first = nib.load(folder / "a.nii.gz")
    nib.save(nib.Nifti1Image(np.asarray(first.dataobj) * np.uint8(255), first.affine), wrong)
    with pytest.raises(InputError, match="values 0, 255"):
        completion_cases(defective[:1], truth_dir=wrong)
    image = nib.load(folder / "a.nii.gz")
    moved = tmp_path / "moved" / "a.nii.gz"
    moved.parent.mkdir()
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), image.affine @ np.diag([-1.0, 1, 1, 1])), moved)
    for truth in (moved, moved.parent):
        completion_cases(defective[:1], truth_dir=truth)
        with pytest.raises(InputError, match="its affine places it up to"):
            completion_cases(defective[:1], truth_dir=truth, same_grid=True)
    other = _write(tmp_path / "defective" / "x.nii.gz")
    with pytest.raises(InputError, match="'x'"):
        completion_cases([*defective, other], truth_dir=folder)
