"""The command that a benchmark's page was made by, as a reader may repeat it."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

__all__ = ["command_line"]


def command_line(module: str, arguments: Sequence[str] | None) -> str:
    """The command line, with paths outside the working folder cut to their names.

    Args:
        module: name of the benchmark.
        arguments: what it was called with; None: from the shell.
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    shown = [f"DIR/{Path(word).name}" if os.path.isabs(word) else word for word in given]
    return shlex.join(["python", "-m", f"benchmarks.{module}", *shown])
