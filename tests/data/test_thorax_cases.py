"""Rendered cases are made once; deformed organs are other patients on other grids."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from monai_sparse_refine.data import deform_organs, rendered_thorax_cases
from monai_sparse_refine.errors import InputError


@pytest.fixture
def masks(tmp_path) -> Path:
    folder = tmp_path / "masks"
    folder.mkdir()
    for name in ("a", "b"):
        nib.save(nib.Nifti1Image(_labels(), np.diag([4.0, 4, 5, 1])), folder / f"{name}.nii.gz")
    return folder


def _labels() -> np.ndarray:
    x, y, z = np.ogrid[:30, :30, :24]
    labels = np.zeros((30, 30, 24), np.uint8)
    labels[(x - 15) ** 2 + (y - 16) ** 2 + (z - 9) ** 2 < 49] = 2
    labels[((x - 15) ** 2 + (y - 5) ** 2 < 6) & (z >= 0)] = 1
    labels[((x - 10) ** 2 + (y - 6) ** 2 < 9) & (z < 18)] = 4
    labels[((x - 15) ** 2 + (y - 9) ** 2 < 5) & (z > 16)] = 3
    return labels


def test_pairs_are_made_once_and_named_after_case_and_seed(masks, tmp_path):
    folder = tmp_path / "rendered"
    cases = rendered_thorax_cases(masks, folder, variants=1, first_seed=7, deform=False)
    assert [case["name"] for case in cases] == ["a_000007", "b_001007"]
    ct, label = (nib.load(cases[0][key]) for key in ("image", "label"))
    assert ct.shape == label.shape and ct.get_data_dtype() == np.int16
    assert (np.asarray(label.dataobj) > 0).sum() == (_labels() > 0).sum()
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert rendered_thorax_cases(masks, folder, first_seed=7, deform=False) == cases
    assert before == {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


def test_a_split_does_not_change_seeds(masks, tmp_path):
    cases = rendered_thorax_cases(masks, tmp_path / "r", names=["b"], first_seed=7, deform=False)
    assert [case["name"] for case in cases] == ["b_001007"]
    with pytest.raises(InputError, match="lacks 1 cases of the split, the first is 'c'"):
        rendered_thorax_cases(masks, tmp_path / "r", names=["a", "c"])
    with pytest.raises(InputError, match="give --masks_dir"):
        rendered_thorax_cases(None, tmp_path / "r")


def test_deformed_organs_are_still_organs():
    source = MetaTensor(torch.from_numpy(_labels()[None]), affine=np.diag([4.0, 4, 5, 1]))
    seen = set()
    for seed in range(4):
        out = deform_organs(source, seed=seed)
        assert torch.equal(out, deform_organs(source, seed=seed))
        assert out.dtype == torch.uint8 and set(out.unique().tolist()) <= {0, 1, 2, 3, 4}
        mm = np.linalg.norm(out.affine.numpy()[:3, :3], axis=0)
        assert 0.9 < mm[0] < 1.6 and 1.4 < mm[2] < 3.5
        volume = float((out == 2).sum() * np.prod(mm))
        assert 0.2 < volume / ((_labels() == 2).sum() * 80) < 1.6  # a cut may take some
        seen.add((tuple(out.shape), volume))
    assert len(seen) == 4
