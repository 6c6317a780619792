"""Data lists of the public skull sets, on tiny NRRD files in the archives' own folders."""

from pathlib import Path

import nrrd
import numpy as np
import pytest
from monai.transforms import LoadImaged

from monai_sparse_refine.data import (
    SKULLBREAK_KINDS,
    mug500_skulls,
    paired_skulls,
    segthor_cases,
    skullbreak_cases,
    skullfix_cases,
)
from monai_sparse_refine.errors import InputError

HEADER = {
    "space": "left-posterior-superior",
    "space directions": np.diag([0.5, 0.5, 1.0]),
    "space origin": np.zeros(3),
}


def _write(path: Path, value: int = 1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    volume = np.zeros((4, 5, 6), np.uint8)
    volume[1, 1, : 1 + value] = 1
    nrrd.write(str(path), volume, HEADER)
    return path


def _skullbreak(root: Path, *, names=("000", "001"), implant: bool = True) -> Path:
    for name in names:
        _write(root / "complete_skull" / f"{name}.nrrd", 3)
        for kind in SKULLBREAK_KINDS:
            _write(root / "defective_skull" / kind / f"{name}.nrrd", 1)
            if implant:
                _write(root / "implant" / kind / f"{name}.nrrd", 2)
    return root


def _skullfix(root: Path, *, names=("000", "001")) -> Path:
    for name in names:
        for part in ("complete_skull", "defective_skull", "implant"):
            _write(root / part / f"{name}.nrrd")
    return root


def test_skullbreak_pairs_every_skull_with_its_five_holes(tmp_path):
    cases = skullbreak_cases(_skullbreak(tmp_path))
    assert len(cases) == 2 * 5
    assert {case["name"] for case in cases} >= {"000_bilateral", "001_random_2"}
    for case in cases:
        name, kind = case["name"].split("_", 1)
        assert case["kind"] == kind
        assert Path(case["image"]) == tmp_path / "defective_skull" / kind / f"{name}.nrrd"
        assert Path(case["label"]) == tmp_path / "complete_skull" / f"{name}.nrrd"
        assert Path(case["implant"]) == tmp_path / "implant" / kind / f"{name}.nrrd"


def test_skullbreak_takes_some_kinds_and_some_skulls(tmp_path):
    cases = skullbreak_cases(_skullbreak(tmp_path, implant=False), kinds=["random_1"], names=["001"])
    assert [case["name"] for case in cases] == ["001_random_1"]
    assert "implant" not in cases[0]


def test_skullfix_is_found_in_the_training_set_folder_too(tmp_path):
    direct = skullfix_cases(_skullfix(tmp_path / "a"))
    nested = skullfix_cases(_skullfix(tmp_path / "b" / "training_set").parent)
    assert [case["name"] for case in direct] == [case["name"] for case in nested] == ["000", "001"]
    assert all(Path(case["image"]).is_file() and Path(case["implant"]).is_file() for case in nested)
    assert nested[0]["kind"] == "skullfix"


def test_the_listed_files_load_with_their_spacing(tmp_path):
    case = skullfix_cases(_skullfix(tmp_path))[0]
    loaded = LoadImaged(["image", "label"], ensure_channel_first=True)(case)
    assert loaded["image"].shape == loaded["label"].shape == (1, 4, 5, 6)
    np.testing.assert_allclose(loaded["label"].pixdim, [0.5, 0.5, 1.0])


def test_mug500_finds_complete_skulls_in_nested_folders_only(tmp_path):
    for name in ("A0002", "A0001", "B0001", "implant"):
        _write(tmp_path / "part" / name / f"{name}.nrrd")
    assert [case["name"] for case in mug500_skulls(tmp_path)] == ["A0001", "A0002"]
    chosen = mug500_skulls(tmp_path, names=["A0002"])
    assert chosen == [{"label": str(tmp_path / "part" / "A0002" / "A0002.nrrd"), "name": "A0002"}]


def test_plain_folders_pair_by_name_whatever_the_format(tmp_path):
    for name in ("x", "y"):
        _write(tmp_path / "whole" / f"{name}.nrrd")
        _write(tmp_path / "holed" / f"{name}.nrrd")
    cases = paired_skulls(tmp_path / "holed", tmp_path / "whole", kind="mine")
    assert [(case["name"], case["kind"]) for case in cases] == [("x", "mine"), ("y", "mine")]


@pytest.mark.parametrize(
    ("read", "message"),
    [
        (lambda root: skullbreak_cases(root / "no"), "no such folder"),
        (lambda root: skullfix_cases(root), "complete_skull"),
        (lambda root: mug500_skulls(root / "no"), "no such folder"),
        (lambda root: mug500_skulls(root), "A0001.nrrd"),
        (lambda root: skullbreak_cases(root, kinds=["cube"]), "kinds has"),
        (lambda root: paired_skulls(root / "a", root / "b"), "no such file or folder"),
    ],
)
def test_a_folder_of_another_kind_is_told(tmp_path, read, message):
    with pytest.raises(InputError, match=message):
        read(tmp_path)


def test_a_missing_partner_and_a_missing_name_are_told(tmp_path):
    root = _skullbreak(tmp_path)
    with pytest.raises(InputError, match="'007'"):
        skullbreak_cases(root, names=["000", "007"])
    (root / "defective_skull" / "random_1" / "001.nrrd").unlink()
    with pytest.raises(InputError, match="random_1 lacks 1 of 2 cases, the first is '001'"):
        skullbreak_cases(root)


def test_two_files_of_one_mug500_skull_are_told(tmp_path):
    _write(tmp_path / "a" / "A0001.nrrd")
    _write(tmp_path / "b" / "A0001.nrrd")
    with pytest.raises(InputError, match="there twice"):
        mug500_skulls(tmp_path)


def _segthor(root: Path, names=("Patient_01", "Patient_02")) -> Path:
    for name in names:
        for file in (f"{name}.nii.gz", "GT.nii.gz"):
            path = root / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"")
    return root


def test_segthor_pairs_ct_and_truth_of_every_patient(tmp_path):
    cases = segthor_cases(_segthor(tmp_path / "a"))
    assert [case["name"] for case in cases] == ["Patient_01", "Patient_02"]
    assert cases[0]["image"].endswith("Patient_01/Patient_01.nii.gz")
    assert cases[0]["label"].endswith("Patient_01/GT.nii.gz")
    _segthor(tmp_path / "b" / "train")
    (tmp_path / "b" / "train" / "Patient_02" / "GT.nii.gz").unlink()  # as in the test set
    assert [case["name"] for case in segthor_cases(tmp_path / "b")] == ["Patient_01"]
    assert segthor_cases(tmp_path / "a", names=["Patient_02"])[0]["name"] == "Patient_02"


def test_segthor_mistakes_are_told(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        segthor_cases(tmp_path / "no")
    with pytest.raises(InputError, match="no Patient_NN"):
        segthor_cases(tmp_path)
    with pytest.raises(InputError, match="'Patient_09'"):
        segthor_cases(_segthor(tmp_path), names=["Patient_09"])
