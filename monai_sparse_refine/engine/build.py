"""Builds a wheel of MinkowskiEngine against the installed torch, and finds out whether a build works."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from monai_sparse_refine.engine import toolchain
from monai_sparse_refine.engine.toolchain import Blas

VERSION = "0.5.4"
_GIB_PER_JOB = 2.0  # the largest source file takes 1.8 GB to compile
_PACKAGE_ROOT = Path(__file__).resolve().parents[2]
# Two neighbours under a kernel of ones: each output is the sum of both features.
_PROGRAM = """
import torch
from monai_sparse_refine.engine.library import import_library
engine = import_library()
rows = torch.tensor([[0, 0, 0, 0], [0, 0, 0, 1]], dtype=torch.int32)
layer = engine.MinkowskiConvolution(1, 1, kernel_size=3, dimension=3)
torch.nn.init.ones_(layer.kernel)
out = layer(engine.SparseTensor(torch.tensor([[1.0], [2.0]]), rows)).F
out.sum().backward()
assert out.tolist() == [[3.0], [3.0]], f"a convolution gave {out.tolist()}, expected 3 and 3"
"""


class InstallError(RuntimeError):
    """The build, the download or the check of what was built failed; the message says how to go on."""


def pip(*arguments: str) -> None:
    """Run this environment's pip.

    Raises:
        InstallError: it failed; with the end of what it said.
    """
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    if process.returncode:
        raise InstallError(f"`{' '.join(command)}` failed:\n{_tail(process.stdout + process.stderr)}")


def verify(target: Path | None = None) -> str | None:
    """Import MinkowskiEngine and compute, in a process of its own (a bad build crashes it).

    Args:
        target: folder that it is in, or None for this environment.

    Returns:
        None if all is well, else the last thing that was said.
    """
    paths = [str(path) for path in (target, _PACKAGE_ROOT) if path] + [os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    command = [sys.executable, "-c", _PROGRAM]
    try:
        process = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=300, check=False
        )
    except subprocess.TimeoutExpired:
        return "a convolution of two voxels took more than 5 minutes"
    if process.returncode == 0:
        return None
    return (process.stderr.strip().splitlines() or [f"ended by signal {-process.returncode}"])[-1]


def try_wheel(wheel: Path, kind: str) -> str | None:
    """What is wrong with a wheel (None: nothing); what is installed stays as it is.

    Args:
        wheel: the file.
        kind: the BLAS it loads; that of PyPI is installed where it is missing.
    """
    if kind == "pypi" and not toolchain.pypi_blas_folder():
        pip("install", toolchain.PYPI_BLAS)
    with tempfile.TemporaryDirectory() as name:
        pip("install", "--no-deps", "--no-index", "--target", name, str(wheel))
        if kind == "pypi" and (folder := toolchain.pypi_blas_folder()):
            (Path(name) / folder.name).symlink_to(folder)
        return verify(Path(name))


def build_wheel(folder: Path, *, blas: str, cuda: bool, log: Path) -> tuple[Path, str]:
    """Build and try out a wheel; this takes minutes.

    Args:
        folder: an empty folder to work in.
        blas: "system", "pypi", or "auto" for the system's if it has headers, else PyPI's.
        cuda: build the CUDA kernels, too.
        log: file for what the compiler says.

    Returns:
        The wheel, alone in its folder, and which BLAS it loads ("system" or "pypi").

    Raises:
        InstallError: the download or the compilation failed, or what came of it does not work.
    """
    programs, links, wheels = (folder / part for part in ("programs", "links", "wheels"))
    for made in (programs, links, wheels):
        made.mkdir()
    # MinkowskiEngine's setup.py calls `pip uninstall MinkowskiEngine` before it compiles; this one does not.
    (programs / "pip").write_text("#!/bin/sh\nexit 0\n")
    (programs / "pip").chmod(0o755)
    chosen = _choose_blas(blas, links)
    kernels = "CUDA" if cuda else "the CPU"
    print(f"Building MinkowskiEngine {VERSION} for {kernels} and torch {torch.__version__}.")
    print(f"BLAS: {chosen.where}. This takes some minutes; what the compiler says is in {log}", flush=True)
    _compile(wheels, _environment(chosen, programs), log, cuda=cuda)
    wheel = next(wheels.glob("*.whl"))
    if problem := try_wheel(wheel, chosen.kind):
        raise InstallError(f"the new build does not work ({problem}); see {log}")
    return wheel, chosen.kind


def _tail(text: str, lines: int = 25) -> str:
    return "\n".join(text.strip().splitlines()[-lines:])


def _choose_blas(blas: str, links: Path) -> Blas:
    if blas != "pypi" and (found := toolchain.find_system_blas()):
        return found
    if not toolchain.pypi_blas_folder():
        print(f"Installing {toolchain.PYPI_BLAS} from PyPI.")
        pip("install", toolchain.PYPI_BLAS)
    if found := toolchain.find_pypi_blas(links):
        return found
    raise InstallError(
        f"{toolchain.PYPI_BLAS} is installed, but its library or headers are not where expected"
    )


def _jobs() -> int:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return max(1, min(os.cpu_count() or 1, int(memory / _GIB_PER_JOB)))


def _environment(blas: Blas, programs: Path) -> dict[str, str]:
    environment = dict(os.environ)
    compile_flags = " ".join(["-g0", *blas.compile_flags])
    for variable, flags in (
        ("CFLAGS", compile_flags),
        ("CXXFLAGS", compile_flags),
        ("LDFLAGS", " ".join(blas.link_flags)),
    ):
        environment[variable] = f"{environment.get(variable, '')} {flags}".strip()
    environment["PATH"] = os.pathsep.join([str(programs), toolchain.scripts_path()])
    environment.setdefault("MAX_JOBS", str(_jobs()))
    return environment


def _compile(wheels: Path, environment: dict[str, str], log: Path, *, cuda: bool) -> None:
    # Without --no-cache-dir pip would take the wheel that it once built for another torch.
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-cache-dir", "wheel", "-v"]
    command += ["--wheel-dir", str(wheels), "--no-deps", "--use-pep517", "--no-build-isolation"]
    command += ["--no-binary", "MinkowskiEngine", f"MinkowskiEngine=={VERSION}"]
    for option in ("--force_cuda" if cuda else "--cpu_only", "--blas=openblas"):
        command.append(f"--config-settings=--global-option={option}")
    start = time.monotonic()
    with log.open("w", encoding="utf-8") as out:
        process = subprocess.Popen(command, env=environment, stdout=out, stderr=subprocess.STDOUT)
        try:
            while process.poll() is None:
                try:
                    process.wait(timeout=30)
                except subprocess.TimeoutExpired:
                    print(f"  {time.monotonic() - start:.0f} s", flush=True)
        finally:
            if process.poll() is None:  # interrupted
                process.terminate()
    if process.returncode:
        raise InstallError(f"the build failed; the end of {log}:\n{_tail(log.read_text(errors='replace'))}")
    print(f"Built in {time.monotonic() - start:.0f} s.")
