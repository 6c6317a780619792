"""The training example: one epoch on two processes, then a second one on a single process."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

REPOSITORY = Path(__file__).resolve().parents[2]
SCRIPT = REPOSITORY / "examples" / "train_with_ignite.py"
SMALL = ["--phantoms", "4", "--spacing", "8", "--channels", "4", "4", "6"]


def run(*command: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-W", "ignore", *command],
        capture_output=True,
        text=True,
        timeout=600,
        env=environment,
    )


@pytest.mark.slow
def test_accumulation_two_processes_and_resume(tmp_path):
    options = [str(SCRIPT), "--work-dir", str(tmp_path), *SMALL]
    launcher = ["-m", "torch.distributed.run", "--nproc_per_node=2", "--rdzv_backend=c10d"]
    first = run(*launcher, "--rdzv_endpoint=localhost:0", *options, "--epochs", "1", "--accumulate", "2")
    assert first.returncode == 0, first.stdout + first.stderr
    state = torch.load(tmp_path / "checkpoints" / "checkpoint_epoch=1.pt", weights_only=True)
    # Four cases, two processes, two cases a step: the optimizer has made one.
    assert {int(s["step"]) for s in state["optimizer"]["state"].values()} == {1}
    with (tmp_path / "validation.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 4 and set(rows[0]) == {
        "case",
        "implant_dice",
        "border_dice",
        "hd95_mm",
        "error_percent",
    }
    second = run(*options, "--epochs", "2", "--accumulate", "2")
    assert second.returncode == 0, second.stdout + second.stderr
    assert "resuming after epoch 1 of 2" in second.stdout
    state = torch.load(tmp_path / "checkpoints" / "checkpoint_epoch=2.pt", weights_only=True)
    assert {int(s["step"]) for s in state["optimizer"]["state"].values()} == {1 + 2}
    assert (tmp_path / "best.pt").is_file()
