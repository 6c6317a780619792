"""Compiles ``kernels.cpp`` with the C++ compiler that is there, once per machine, and loads it.

The library is kept in the user's cache folder under a name made of the source, the compiler and the CPU, so that it
is compiled again when one of them changes. Without a compiler, or where anything fails, the engine computes with
PyTorch alone: same results, slower.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import logging
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

VARIABLE = "MONAI_SPARSE_KERNEL"
CACHE_VARIABLE = "MONAI_SPARSE_KERNEL_CACHE"
_SOURCE = Path(__file__).with_name("kernels.cpp")  # includes the headers beside it
_FLAGS = ("-O3", "-std=c++17", "-shared", "-fPIC", "-pthread")
_TARGETS = (("-march=native",), ("-mcpu=native",), ())  # the first that the compiler takes
_SECONDS = 300

logger = logging.getLogger(__name__)


class CompileError(RuntimeError):
    """There is no compiler, or it failed; the message says what it said."""


@functools.lru_cache(maxsize=1)
def library() -> ctypes.CDLL | None:
    """The compiled kernels, or None where they are switched off or cannot be made.

    Raises:
        ValueError: the environment variable ``MONAI_SPARSE_KERNEL`` is neither "auto" nor "off".
    """
    problem: Exception
    choice = os.environ.get(VARIABLE, "").strip().lower() or "auto"
    if choice not in ("auto", "off"):
        raise ValueError(f"the environment variable {VARIABLE} is {choice!r}, expected 'auto' or 'off'")
    if choice == "off":
        return None
    try:
        return _loaded(cache_folder())
    except CompileError as error:
        problem, advice = error, "Install a C++ compiler such as g++"
    except OSError as error:
        problem, advice = error, f"Set {CACHE_VARIABLE} to a folder that can be written"
    logger.warning(
        "The native engine computes with PyTorch alone, several times slower (%s). %s, or set %s=off to silence this.",
        problem,
        advice,
        VARIABLE,
    )
    return None


def _loaded(folder: Path) -> ctypes.CDLL:
    path = compiled(folder)
    try:
        return ctypes.CDLL(str(path))
    except OSError:  # a file that was cut off, or a cache that moved here from another system
        path.unlink(missing_ok=True)
        return ctypes.CDLL(str(compiled(folder)))


def cache_folder() -> Path:
    """``MONAI_SPARSE_KERNEL_CACHE``, or a folder in the user's cache."""
    if chosen := os.environ.get(CACHE_VARIABLE):
        return Path(chosen)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "monai_sparse_refine" / "kernels"


def compiled(folder: Path) -> Path:
    """Path of the library in ``folder``, compiled if it is not there yet.

    Several processes may do so at once: each compiles under a name of its own and renames.

    Raises:
        CompileError: there is no compiler, or it failed.
        OSError: the folder cannot be written.
    """
    command = shlex.split(os.environ.get("CXX", "")) or ["c++"]
    program = shutil.which(command[0])
    if program is None:
        raise CompileError(f"there is no C++ compiler {command[0]!r}")
    target = folder / f"kernels-{_fingerprint(command, program)}.so"
    if target.is_file():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    logger.info("Compiling the native engine's kernels (once, some seconds) into %s", target)
    with tempfile.TemporaryDirectory(dir=folder, prefix="compiling-") as name:
        made = Path(name) / target.name
        problem = ""
        for flags in _TARGETS:
            problem = _compile([*command, *_FLAGS, *flags, str(_SOURCE), "-o", str(made)])
            if not problem:
                os.replace(made, target)
                return target
    raise CompileError(f"{shlex.join(command)} failed: {problem}")


def _compile(command: list[str]) -> str:
    """What went wrong, in a line; empty if nothing did."""
    try:
        process = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error).splitlines()[0]
    if process.returncode == 0:
        return ""
    said = process.stderr.strip().splitlines()
    return next((line for line in said if "error" in line), said[-1] if said else "no message")


def _fingerprint(command: list[str], program: str) -> str:
    """Hash of all that the library depends on."""
    status = os.stat(program)
    parts = [*command, str(Path(program).resolve()), str(status.st_size), str(status.st_mtime_ns), *_FLAGS]
    parts += [platform.machine(), platform.system(), _cpu()]
    code = [path.read_bytes() for path in (_SOURCE, *sorted(_SOURCE.parent.glob("*.h")))]
    return hashlib.sha256(b"\0".join(["\0".join(parts).encode(), *code])).hexdigest()[:20]


def _cpu() -> str:
    """What tells one CPU from another that cannot run its code."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    wanted = ("model name", "flags", "Features", "CPU part")
    return "\n".join(sorted({line for line in lines if line.startswith(wanted)}))
