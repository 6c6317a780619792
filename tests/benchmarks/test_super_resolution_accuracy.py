"""The super-resolution benchmark on a coarse phantom: its cases, its baselines and what it writes."""

import csv

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from benchmarks.super_resolution_accuracy import main, result_tables
from benchmarks.super_resolution_baselines import BASELINES
from benchmarks.super_resolution_cases import coarsen, factor_cases, in_plane_cases, organ_cases
from monai_sparse_refine.metrics import dice
from monai_sparse_refine.networks import DenseSuperResolver


@pytest.fixture
def fine() -> MetaTensor:
    """A ball in [1, 24, 24, 16] voxels of 1 x 1 x 1.5 mm."""
    axes = np.meshgrid(np.arange(24) - 11.5, np.arange(24) - 11.5, np.arange(16) - 7.5, indexing="ij")
    mask = axes[0] ** 2 + axes[1] ** 2 + (1.5 * axes[2]) ** 2 < 81
    return MetaTensor(
        torch.from_numpy(mask.astype(np.uint8))[None], affine=torch.diag(torch.tensor([1, 1, 1.5, 1.0]))
    )


def test_baselines_bring_a_ball_back(fine):
    (case,) = factor_cases("set", "ball", fine, (2,))
    assert case.coarse.shape == (1, 12, 12, 8) and case.task == "x2"
    scores = {name: dice(method(case.coarse, fine.shape[1:]), fine) for name, method in BASELINES.items()}
    assert all(score > 0.9 for score in scores.values()), scores
    assert min(scores, key=scores.__getitem__) == "nearest", scores


def test_rules_order_the_coarse_masks_by_size(fine):
    sizes = [int(coarsen(fine, 3, rule=rule).sum()) for rule in ("half", "nearest", "any")]
    assert sizes[2] > max(sizes[:2]) and abs(sizes[0] - sizes[1]) < 0.2 * sizes[0]


def test_tasks_follow_the_scans_own_resolution():
    scan = MetaTensor(torch.zeros(1, 256, 200, 30, dtype=torch.uint8), affine=torch.eye(4))
    cases = list(in_plane_cases("set", "scan", scan))
    assert [case.task for case in cases] == ["64 to 128", "64 to 256", "128 to 256"]
    assert [tuple(case.coarse.shape[1:]) for case in cases] == [(64, 50, 8), (64, 50, 8), (128, 100, 15)]
    assert [tuple(case.truth.shape[1:]) for case in cases] == [(128, 100, 15), (256, 200, 30), (256, 200, 30)]


def test_organs_are_cut_out_one_by_one(fine, tmp_path):
    labels = fine[0].numpy() * 2
    labels[0, 0, 0] = 1  # too small to count
    nib.save(nib.Nifti1Image(labels, fine.affine.numpy()), tmp_path / "a.nii.gz")
    cases = list(
        organ_cases([{"label": str(tmp_path / "a.nii.gz"), "name": "a"}], {"one": 1, "two": 2}, (2,))
    )
    assert [case.test_set for case in cases] == ["organs: two"]
    assert int(cases[0].truth.sum()) == int(fine.sum())


def test_the_best_of_each_task_is_bold():
    rows = [
        {
            "test_set": "s",
            "case": "a",
            "task": "x2",
            "method": method,
            "dice": score,
            "re_percent": 1 - score,
            "hd95_mm": 1.0,
            "surface_dice_1_voxel": score,
        }
        for method, score in (("linear", 0.8), ("ours", 0.9))
    ]
    table = result_tables(rows)
    assert "### s: 1 masks" in table
    assert "| x2 (1) | ours | **0.9000** | **0.100** | **1.00** | **0.9000** |" in table
    assert "| linear | 0.8000 | 0.200 | **1.00** | 0.8000 |" in table


def test_the_command_writes_page_csv_and_no_picture_unasked(fine, tmp_path):
    nib.save(nib.Nifti1Image(fine[0].numpy(), fine.affine.numpy()), tmp_path / "ball.nii.gz")
    scans = ["--scans", str(tmp_path), "--scan-names", "ball", "--rules"]
    main([*scans, "--output", str(tmp_path / "out"), "--engine", "native"])
    with (tmp_path / "out" / "super_resolution.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert {row["method"] for row in rows} == {*BASELINES, "ours"}
    assert {row["task"] for row in rows} == {"x2", "x4"}  # too few voxels for the in-plane tasks
    page = (tmp_path / "out" / "super_resolution.md").read_text()
    assert "`python -m benchmarks.super_resolution_accuracy --scans DIR/" in page and "dense twin" in page
    twin = DenseSuperResolver(channels=(4, 6), step_channels=(5, 3))  # another width than the bundle's
    torch.save(twin.state_dict(), tmp_path / "twin.pt")
    dense = ["--dense-weights", str(tmp_path / "twin.pt")]
    main([*scans, *dense, "--output", str(tmp_path / "out"), "--engine", "native"])
    parameters = sum(parameter.numel() for parameter in twin.parameters())
    page = (tmp_path / "out" / "super_resolution.md").read_text()
    assert f'"dense twin" has {parameters:,} parameters' in page and "| x2 (1) | dense twin |" in page
    with pytest.raises(SystemExit, match="no test case"):
        main(["--output", str(tmp_path / "none")])
