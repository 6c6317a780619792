"""Holes of plain shapes on a coarse phantom: what they take, and that every method is scored on each."""

import csv
import json

import nibabel as nib
import numpy as np
import pytest
import torch

from benchmarks.skull_cases import OWN_HOLES
from benchmarks.skull_shapes import LEAST_ML, LEVEL, main, shape_cases
from monai_sparse_refine.data import skull_phantom
from monai_sparse_refine.transforms.vault import vault_of
from monai_sparse_refine.volume import as_mask


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("skulls")
    skull = skull_phantom(4, spacing=4.0)
    nib.save(nib.Nifti1Image(skull[0].numpy().astype(np.uint8), skull.affine.numpy()), folder / "a.nii.gz")
    return folder


def test_every_shape_takes_bone_of_the_vault_alone(folder):
    cases = list(shape_cases("phantom", {"label": str(folder / "a.nii.gz"), "name": "a"}, seed=1))
    assert len({case.kind for case in cases}) == len(cases) >= 8
    for case in cases:
        lost = as_mask(case.complete) & ~as_mask(case.defective)
        assert not (as_mask(case.defective) & ~as_mask(case.complete)).any()
        assert lost.sum() * 64.0 / 1000 == pytest.approx(case.size_mm, abs=0.06) and case.size_mm >= LEAST_ML
    level = next(case for case in cases if case.kind == LEVEL)
    bone, affine = as_mask(level.complete), level.complete.affine.numpy().astype(float)
    vault = vault_of(bone, affine)
    height = {
        name: vault.above_base(vault.local(np.argwhere(mask) @ affine[:3, :3].T + affine[:3, 3]))
        for name, mask in (("kept", as_mask(level.defective)), ("lost", as_mask(level.true_implant)))
    }
    assert height["lost"].min() > height["kept"].max() - 1.0
    # The draws depend on the seed alone.
    again, other = (
        next(iter(shape_cases("phantom", {"label": str(folder / "a.nii.gz"), "name": "a"}, seed=seed)))
        for seed in (1, 2)
    )
    assert torch.equal(again.defective, cases[0].defective)
    assert not torch.equal(other.defective, cases[0].defective)


def test_command_scores_every_hole_by_every_method(folder, tmp_path):
    (tmp_path / "split.json").write_text(json.dumps({"validation": ["a"]}))
    main(
        [
            *("--patients", str(folder), "--split", str(tmp_path / "split.json"), "--engine", "native"),
            *("--output", str(tmp_path)),
        ]
    )
    rows = list(csv.DictReader((tmp_path / "skull_shapes.csv").open()))
    shapes = {row["shape"] for row in rows}
    assert "none" in shapes and all(float(row["added_ml"]) >= 0 for row in rows if row["shape"] == "none")
    rows = [row for row in rows if row["shape"] != "none"]
    shapes -= {"none"}
    assert len(rows) == 5 * len(shapes) and {row["method"] for row in rows} >= {"ours", "mirror image"}
    assert all(float(row["implant_dice"]) == 0 for row in rows if row["method"].startswith("identity"))
    page = (tmp_path / "skull_shapes.md").read_text()
    assert f"{LEVEL}: 1 holes" in page and "complete: 1 skulls" in page
    assert "| identity (hole left open) | 0 of 1 | none |" in page and all(shape in page for shape in shapes)


def test_whole_heads_are_scored_but_for_what_a_scan_lacks_by_itself(folder, tmp_path, monkeypatch):
    skull = nib.load(folder / "a.nii.gz")
    bone = np.argwhere(np.asarray(skull.dataobj) > 0)
    world = nib.affines.apply_affine(skull.affine, bone)
    top = tuple(world[world[:, 2].argmax()].tolist())
    monkeypatch.setitem(OWN_HOLES, "a", (top, 30.0))
    cases = list(shape_cases("scan", {"label": str(folder / "a.nii.gz"), "name": "a"}, seed=100))
    assert cases and LEVEL not in {case.kind for case in cases}  # it would go through the hole there is
    assert all(case.unscored is not None and not (case.true_implant * case.unscored).any() for case in cases)
    options = ["--scans", str(folder), "--scan-names", "a", "--engine", "native", "--output", str(tmp_path)]
    phantoms = ["--phantoms", "1", "--phantom-spacing", "5", "--phantom-dir", str(tmp_path / "phantoms")]
    main(options + phantoms)
    rows = list(csv.DictReader((tmp_path / "skull_shapes.csv").open()))
    scan, phantom = (
        [row for row in rows if row["test_set"] == name]
        for name in ("whole-head scans", "procedural phantoms")
    )
    assert {row["shape"] for row in scan} == {case.kind for case in cases}  # nothing about it as a whole
    assert "none" in {row["shape"] for row in phantom}
    page = (tmp_path / "skull_shapes.md").read_text()
    assert "heads that are whole at the top. Those below" in page and "patients" not in page
    assert "whole-head scans, complete" not in page


def test_nothing_to_score_is_told(tmp_path):
    with pytest.raises(SystemExit, match="no case"):
        main(["--output", str(tmp_path), "--engine", "native"])
