"""A dense UNet's bundle gets the refine step from a second configuration file alone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.networks.nets import UNet

from monai_sparse_refine.networks import MaskRefiner

REPOSITORY = Path(__file__).resolve().parents[2]
CONFIGS = REPOSITORY / "examples" / "dense_then_refine" / "configs"
AFFINE = np.array([[-2.0, 0.3, 0, 40], [0.3, 2.0, 0, -30], [0, 0, 4.0, 7], [0, 0, 0, 1]])


@pytest.fixture
def dense_bundle(tmp_path) -> Path:
    """Untrained weights for the UNet and for a refiner that grows whatever it gets; one noisy CT."""
    torch.manual_seed(0)
    (tmp_path / "models").mkdir()
    (tmp_path / "input").mkdir()
    (tmp_path / "refiner" / "configs").mkdir(parents=True)
    network = UNet(3, 1, 5, channels=(4, 8), strides=(2,), num_res_units=2)
    state = network.state_dict()
    *_, last = (name for name, value in state.items() if value.shape == (5,))
    state[last][0] += 1.0  # some background, for the refined label to grow into
    torch.save(state, tmp_path / "models" / "model.pt")
    refiner = {"channels": [4, 4, 6], "head_bias": 3.0, "engine": "native"}
    torch.save(MaskRefiner(**refiner).state_dict(), tmp_path / "refiner" / "model.pt")
    target = "monai_sparse_refine.networks.MaskRefiner"
    inference = {"weights": "$@bundle_root + '/model.pt'", "network_def": {"_target_": target, **refiner}}
    (tmp_path / "refiner" / "configs" / "inference.json").write_text(json.dumps(inference))
    scan = np.random.default_rng(0).normal(0, 300, (20, 18, 10)).astype(np.float32)
    nib.save(nib.Nifti1Image(scan, AFFINE), tmp_path / "input" / "scan.nii.gz")
    return tmp_path


def run(bundle: Path, *configs: str) -> subprocess.CompletedProcess:
    files = [str(CONFIGS / name) for name in configs]
    overrides = {
        "bundle_root": bundle,
        "device": "cpu",
        "network_def#channels": "[4, 8]",
        "network_def#strides": "[2]",
        "inferer#roi_size": "[16, 16, 16]",
    }
    if "refine.json" in configs:
        bounds = {"refine_gate#max_volume_change": 99, "refine_gate#min_dice": 0}
        overrides |= {**bounds, "refine_labels": "['heart']"}
    arguments = [f"--{name}={value}" for name, value in overrides.items()]
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "monai.bundle",
        "run",
        f"--config_file={files}",
        *arguments,
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=REPOSITORY)


def test_the_refine_step_is_added_by_configuration_alone(dense_bundle):
    result = run(dense_bundle, "inference.json", "refine.json")
    assert result.returncode == 0, result.stdout + result.stderr
    before, after = (
        nib.load(dense_bundle / "output" / f"scan_{name}.nii.gz") for name in ("seg", "seg_refined")
    )
    np.testing.assert_allclose(after.affine, AFFINE, atol=1e-5)
    assert after.shape == before.shape == (20, 18, 10)
    old, new = np.asarray(before.dataobj), np.asarray(after.dataobj)
    for label in (1, 3, 4):
        np.testing.assert_array_equal(new == label, old == label)
    assert (old == 2).any() and not np.array_equal(new == 2, old == 2)
    assert "'label': 'heart'" in result.stdout


def test_without_it_the_bundle_is_the_plain_one(dense_bundle):
    result = run(dense_bundle, "inference.json")
    assert result.returncode == 0, result.stdout + result.stderr
    assert [path.name for path in (dense_bundle / "output").iterdir()] == ["scan_seg.nii.gz"]
