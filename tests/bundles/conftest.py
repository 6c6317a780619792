"""Bundles run as a user runs them, and trainings of the skull completion bundle: tiny skulls, a tiny network."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import pytest

from monai_sparse_refine.data import skull_phantom

BUNDLES = Path(__file__).resolve().parents[2] / "bundles"
TINY = {
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


def _start(
    bundle: str,
    *configs: str,
    launcher: Sequence[str] = (),
    stderr: int = subprocess.STDOUT,
    **overrides: object,
) -> subprocess.Popen[str]:
    """Start a bundle's configuration files with overrides, on one thread."""
    root = BUNDLES / bundle
    names = [str(root / "configs" / name) for name in configs]
    return subprocess.Popen(
        [
            *(launcher or (sys.executable, "-W", "ignore")),
            *("-m", "monai.bundle", "run"),
            f"--config_file={names if len(names) > 1 else names[0]}",
            f"--bundle_root={root}",
            *(f"--{name}={value}" for name, value in overrides.items()),
        ],
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    )


@pytest.fixture(scope="session")
def run_bundle() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Function that runs a bundle's configuration files with overrides to their end."""

    def run(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        with _start(*arguments, stderr=subprocess.PIPE, **options) as process:
            try:
                output, errors = process.communicate(timeout=600)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        return subprocess.CompletedProcess(process.args, process.returncode, output, errors)

    return run


@pytest.fixture(scope="session")
def start_training(tiny_skulls: Path) -> Callable[..., subprocess.Popen]:
    """Function that starts a training with configuration files, a launcher and overrides, output in one pipe."""

    def start(*configs: str, **options: Any) -> subprocess.Popen[str]:
        return _start("skull_completion", *configs, **{**TINY, "dataset_dir": tiny_skulls, **options})

    return start
