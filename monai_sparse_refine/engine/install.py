"""Build MinkowskiEngine 0.5.4 against the installed torch: ``python -m monai_sparse_refine.engine.install``.

A compiled extension fits one Python and one torch, so a wheel from elsewhere would not do. A build takes some
minutes; its wheel is kept by the versions that it fits (see ``--wheel-dir``), so that the next environment
has it in seconds. Nothing that is installed is replaced before the new build has imported and computed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from monai_sparse_refine.engine import build, toolchain
from monai_sparse_refine.engine.build import VERSION, InstallError
from monai_sparse_refine.engine.toolchain import Check

WHEELS_VARIABLE = "MONAI_SPARSE_WHEELS"


def default_wheel_dir() -> Path:
    """``MONAI_SPARSE_WHEELS``, or a folder in the user's cache."""
    if chosen := os.environ.get(WHEELS_VARIABLE):
        return Path(chosen)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "monai_sparse_refine" / "wheels"


def cache_key(kind: str, *, cuda: bool) -> str:
    """Name of the folder for a wheel: all that the wheel is tied to.

    Args:
        kind: which BLAS it loads, "system" or "pypi".
        cuda: whether it was built with CUDA.
    """
    device = f"cu{torch.version.cuda}" if cuda else "cpu"
    python = f"{sys.implementation.cache_tag}-{sysconfig.get_platform()}"
    return f"minkowski{VERSION}-{python}-torch{torch.__version__}-{device}-{kind}"


def cached_wheels(wheel_dir: Path, *, blas: str, cuda: bool) -> list[tuple[Path, str]]:
    """The wheels there that fit this environment, each with the BLAS it loads; the system's first."""
    kinds = ("system", "pypi") if blas == "auto" else (blas,)
    return [
        (wheel, kind)
        for kind in kinds
        for wheel in sorted((wheel_dir / cache_key(kind, cuda=cuda)).glob("*.whl"))
    ]


def install(*, wheel_dir: Path, blas: str = "auto", cpu_only: bool = False, force: bool = False) -> None:
    """Leave a MinkowskiEngine that works in this environment: the one there, a cached wheel, or a new build.

    Args:
        wheel_dir: where wheels are kept; made if need be.
        blas: "system", "pypi", or "auto" for the system's if it has headers, else PyPI's.
        cpu_only: do not build CUDA kernels, even if torch has CUDA and nvcc is there.
        force: build anew, even if there is one that works.

    Raises:
        InstallError: something is missing or failed; what was installed before is untouched.
    """
    if not force and build.verify() is None:
        print(f"MinkowskiEngine works in {sys.prefix}.")
        return
    cuda = not cpu_only and toolchain.find_nvcc() is not None
    if not force:
        for wheel, kind in cached_wheels(wheel_dir, blas=blas, cuda=cuda):
            problem = build.try_wheel(wheel, kind)
            if problem is None:
                _install_wheel(wheel)
                return
            print(f"Passing over {wheel}: {problem}")
    missing = [check for check in toolchain.run_checks(blas) if check.found is None]
    if missing:
        raise InstallError("\n".join(_describe(check) for check in missing))
    try:
        wheel = _build_into_cache(wheel_dir, blas, cuda=cuda)
    except InstallError as error:
        if not cuda:
            raise
        print(f"{error}\nNot with CUDA, then: building for the CPU. On the GPU the native engine computes.")
        wheel = _build_into_cache(wheel_dir, blas, cuda=False)
    _install_wheel(wheel)


def _build_into_cache(wheel_dir: Path, blas: str, *, cuda: bool) -> Path:
    wheel_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=wheel_dir, prefix="building-") as folder:
        log = wheel_dir / "build.log"
        wheel, kind = build.build_wheel(Path(folder), blas=blas, cuda=cuda, log=log)
        kept = wheel_dir / cache_key(kind, cuda=cuda)
        shutil.rmtree(kept, ignore_errors=True)
        os.replace(wheel.parent, kept)
    return kept / wheel.name


def _install_wheel(wheel: Path) -> None:
    build.pip("install", "--no-deps", "--no-index", "--force-reinstall", str(wheel))
    if problem := build.verify():
        raise InstallError(f"{wheel} is installed in {sys.prefix}, but does not work there: {problem}")
    print(f"Installed MinkowskiEngine {VERSION} in {sys.prefix} from {wheel}")


def _describe(check: Check) -> str:
    if check.found is None:
        return f"  missing  {check.name}: {check.advice}"
    return f"  found    {check.name}: {check.found}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    description = f"Build MinkowskiEngine {VERSION} against the installed torch and install it here."
    parser = argparse.ArgumentParser(
        prog="python -m monai_sparse_refine.engine.install", description=description
    )
    parser.add_argument(
        "--check", action="store_true", help="only say what a build needs, and whether it is there"
    )
    parser.add_argument(
        "--wheel-dir",
        type=Path,
        default=default_wheel_dir(),
        help=f"where wheels are kept (default: %(default)s, or {WHEELS_VARIABLE})",
    )
    parser.add_argument("--force", action="store_true", help="build anew, even if there is one that works")
    parser.add_argument(
        "--cpu-only", action="store_true", help="build without CUDA, even where nvcc is there"
    )
    parser.add_argument(
        "--blas",
        choices=("auto", "system", "pypi"),
        default="auto",
        help="OpenBLAS of the system, of PyPI (needs no root), or the first of them that is there (default)",
    )
    options = parser.parse_args(arguments)
    if options.check:
        checks = toolchain.run_checks(options.blas)
        print("\n".join(_describe(check) for check in checks))
        problem = build.verify()
        print(f"MinkowskiEngine in {sys.prefix}: {'works' if problem is None else problem}")
        return int(any(check.found is None for check in checks))
    try:
        wheel_dir = options.wheel_dir.expanduser().resolve()
        install(wheel_dir=wheel_dir, blas=options.blas, cpu_only=options.cpu_only, force=options.force)
    except (InstallError, OSError) as error:
        print(f"MinkowskiEngine was not installed:\n{error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
