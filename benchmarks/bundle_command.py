"""A bundle's inference as a user starts it: seconds and peak memory of the whole process."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

__all__ = ["CommandCost", "run_bundle"]

BUNDLES = Path(__file__).resolve().parents[1] / "bundles"


class CommandCost(NamedTuple):
    """Seconds from start to end, and the most memory that the process held, in GB."""

    seconds: float
    gigabytes: float


def run_bundle(bundle: str, **options: object) -> CommandCost:
    """Run a bundle's ``inference.json`` on the native engine in a process of its own.

    Args:
        bundle: its name.
        options: what the configuration is overridden with, ``dataset_dir`` and ``output_dir`` among it.

    Raises:
        subprocess.CalledProcessError: it failed; what it printed on stderr is on stderr.
    """
    root = BUNDLES / bundle
    command = [
        *(sys.executable, "-W", "ignore", "-m", "monai.bundle", "run"),
        f"--config_file={root / 'configs' / 'inference.json'}",
        f"--bundle_root={root}",
        "--engine=native",
        *(f"--{name}={value}" for name, value in options.items()),
    ]
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    # getrusage has the largest of all children; wait4 has this one.
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise subprocess.CalledProcessError(process.returncode, command)
    return CommandCost(seconds, usage.ru_maxrss / 1e6)  # Linux counts in KB
