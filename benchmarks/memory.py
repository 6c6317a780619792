"""The memory of this process: what it holds, and its peak since."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

__all__ = ["peak", "start"]


def start() -> int:
    """Bytes held now. From here on :func:`peak` counts; where that is not Linux, from the process's start."""
    try:
        # Forgets the peak that reading the data and importing have set.
        Path("/proc/self/clear_refs").write_text("5")
        return _status("VmRSS")
    except OSError:
        return peak()


def peak() -> int:
    """Most bytes held."""
    try:
        return _status("VmHWM")
    except OSError:
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024


def _status(entry: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(entry))
