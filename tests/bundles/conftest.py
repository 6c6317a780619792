"""Trainings of the skull completion bundle for tests: tiny skulls, a tiny network, one thread."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import nibabel as nib
import pytest

from monai_sparse_refine.data import skull_phantom

BUNDLE = Path(__file__).resolve().parents[2] / "bundles" / "skull_completion"
TINY = {
    "bundle_root": BUNDLE,
    "phantoms": 0,
    "validation_phantoms": 2,
    "validation_kinds": "['random']",
    "real_repeats": 1,
    "phantom_spacing": 6.0,
    "working_spacing": 6.0,
    "channels": "[4, 4, 6, 6, 8]",
    "val_interval": 1,
    "num_workers": 0,
    "engine": "native",
}


@pytest.fixture(scope="session")
def tiny_skulls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four complete skulls of 6 mm voxels to train on."""
    folder = tmp_path_factory.mktemp("tiny_skulls")
    for seed in range(4):
        skull = skull_phantom(seed, spacing=6.0)
        nib.save(nib.Nifti1Image(skull[0].numpy(), skull.affine.numpy()), folder / f"skull{seed}.nii.gz")
    return folder


@pytest.fixture(scope="session")
def start_training(tiny_skulls: Path) -> Callable[..., subprocess.Popen]:
    """Function that starts a training with configuration files, a launcher and overrides, output in one pipe."""

    def start(*configs: str, launcher: Sequence[str] = (), **overrides: object) -> subprocess.Popen:
        names = [str(BUNDLE / "configs" / name) for name in configs]
        values = {**TINY, "dataset_dir": tiny_skulls, **overrides}
        return subprocess.Popen(
            [
                *(launcher or (sys.executable, "-W", "ignore")),
                *("-m", "monai.bundle", "run"),
                f"--config_file={names if len(names) > 1 else names[0]}",
                *(f"--{name}={value}" for name, value in values.items()),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )

    return start
