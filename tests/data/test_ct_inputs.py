"""CTs are checked before work starts, and paired with their true masks."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from monai_sparse_refine.data import ct_cases, preflight_ct
from monai_sparse_refine.errors import InputError


def _save(path: Path, volume: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(volume, np.eye(4)), path)
    return path


def _ct() -> np.ndarray:
    volume = np.full((8, 8, 8), -1000, np.int16)
    volume[2:6, 2:6, 2:6] = 40
    return volume


def test_good_files_pass(tmp_path):
    ct = _save(tmp_path / "in" / "a.nii.gz", _ct())
    weights = tmp_path / "w.pt"
    torch.save({"x": torch.zeros(1)}, weights)
    assert preflight_ct(ct, tmp_path / "out", weights=[weights]) == [ct]
    assert preflight_ct(tmp_path / "in", None) == [ct]


def test_every_problem_is_told(tmp_path):
    _save(tmp_path / "mask.nii.gz", (_ct() > 0).astype(np.uint8))
    _save(tmp_path / "flat.nii.gz", _ct()[0])
    with pytest.raises(InputError) as caught:
        preflight_ct(tmp_path, tmp_path, weights=[tmp_path / "no.pt"])
    lines = str(caught.value).splitlines()
    assert len(lines) == 4
    for text in ("mask.nii.gz: is a binary mask", "3D", "is the input folder", "no such file"):
        assert any(text in line for line in lines), text


def test_nothing_to_read(tmp_path):
    with pytest.raises(InputError, match="no such file or folder"):
        preflight_ct(tmp_path / "no", None)


def test_truth_is_found_by_name(tmp_path):
    cts = [_save(tmp_path / "ct" / name, _ct()) for name in ("a.nii.gz", "b_ct.nii.gz")]
    for name in ("a.nii.gz", "b_organs.nii.gz"):
        _save(tmp_path / "truth" / name, (_ct() > 0).astype(np.uint8))
    cases = ct_cases(cts, truth_dir=tmp_path / "truth")
    assert [Path(case["truth"]).name for case in cases] == ["a.nii.gz", "b_organs.nii.gz"]
    assert ct_cases(cts) == [{"image": str(path)} for path in cts]
    with pytest.raises(InputError, match="no mask for 'c'"):
        ct_cases([tmp_path / "c.nii.gz"], truth_dir=tmp_path / "truth")
