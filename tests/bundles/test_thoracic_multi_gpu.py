"""Both trainings of the thoracic bundle with two processes (gloo, on the CPU): torchrun and multi_gpu_train.json."""

import json
import os
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

BUNDLE = Path(__file__).resolve().parents[2] / "bundles" / "thoracic_organ_refinement"
LAUNCHER = (
    *(sys.executable, "-W", "ignore"),
    *("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"),
)
TINY = {
    "train.json": {"patch": "[32, 24, 24]", "dense_spacing": 6.0, "network_def#channels": "[4, 4, 8, 8]"},
    "train_refiner.json": {
        **{"patch": "[24, 24, 16]", "patches_per_case": 3, "validation_patches": 1, "engine": "native"},
        **{"first_seed": 0, "network_def#channels": "[4, 6, 8, 8, 8]"},
    },
}


@pytest.fixture(scope="module")
def patients(tmp_path_factory) -> dict[str, Path]:
    """Four organs of simple shapes, 5 mm, of two patients to train on and two to validate."""
    folder = tmp_path_factory.mktemp("patients")
    labels = np.zeros((40, 36, 30), np.uint8)
    labels[8:24, 14:28, 3:15] = 2
    labels[18:23, 6:10, :] = 1
    labels[12:17, 5:10, :20] = 4
    labels[18:22, 11:14, 17:] = 3
    (folder / "masks").mkdir()
    for name in "abcd":
        nib.save(nib.Nifti1Image(labels, np.diag([5.0, 5, 5, 1])), folder / "masks" / f"{name}.nii.gz")
    split = folder / "split.json"
    split.write_text(json.dumps({"training": ["a", "b"], "validation": ["c", "d"]}))
    return {"masks_dir": folder / "masks", "split": split, "work_dir": folder / "work"}


@pytest.mark.slow
@pytest.mark.parametrize(("config", "steps"), [("train.json", 1), ("train_refiner.json", 3)])
def test_two_processes_share_the_epoch_and_one_writes(config, steps, patients):
    options = {**patients, **TINY[config], "variants": 1, "max_epochs": 1, "val_interval": 1, "batch_size": 1}
    result = subprocess.run(
        [
            *(*LAUNCHER, "-m", "monai.bundle", "run"),
            f"--config_file={[str(BUNDLE / 'configs' / name) for name in (config, 'multi_gpu_train.json')]}",
            f"--bundle_root={BUNDLE}",
            *(f"--{name}={value}" for name, value in options.items()),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=400,
        env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    )
    assert result.returncode == 0, result.stdout
    folder = patients["work_dir"] / ("unet" if config == "train.json" else "refiner") / "checkpoints"
    state = torch.load(folder / "checkpoint_epoch=1.pt", weights_only=True)
    # Two patients, two processes: half the epoch each.
    assert {int(entry["step"]) for entry in state["optimizer"]["state"].values()} == {steps}
    best = torch.load(folder / "best.pt", weights_only=True)["model"]
    assert set(state["network"]) == set(best) and not any(name.startswith("module.") for name in best)
    assert result.stdout.count("Epoch[1] Metrics") == 1
