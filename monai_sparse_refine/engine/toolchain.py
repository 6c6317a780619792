"""What a build of MinkowskiEngine needs on this machine, and what to install where it is missing."""

from __future__ import annotations

import importlib
import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

PYPI_BLAS = "scipy-openblas32"
# The four functions that MinkowskiEngine calls; the library from PyPI has them under other names.
_BLAS_CALLS = ("cblas_sgemm", "cblas_dgemm", "cblas_saxpy", "cblas_daxpy")
_BLAS_PROGRAM = (
    'extern "C" {\n#include <cblas.h>\n}\nint main() { return (void*)&cblas_sgemm == (void*)&cblas_daxpy; }\n'
)


@dataclass(frozen=True)
class Check:
    """One requirement: what was found, or (None) what to do about it."""

    name: str
    found: str | None
    advice: str


@dataclass(frozen=True)
class Blas:
    """A BLAS with C headers that calls itself openblas, and the flags that compile and link against it."""

    kind: str  # "system" or "pypi"
    where: str
    compile_flags: tuple[str, ...] = ()
    link_flags: tuple[str, ...] = ()


def scripts_path() -> str:
    """PATH with this environment's programs first, as in an activated environment."""
    return os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", os.defpath)])


def find_compiler() -> list[str] | None:
    """The command that compiles C++ here (``CXX``, else ``c++``), or None."""
    command = shlex.split(os.environ.get("CXX", "")) or ["c++"]
    return command if shutil.which(command[0]) else None


def compiles(program: str, flags: Sequence[str] = (), *, link_flags: Sequence[str] = ()) -> bool:
    """Whether the C++ program compiles and links here."""
    compiler = find_compiler()
    if compiler is None:
        return False
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "program.cpp"
        source.write_text(program)
        command = [*compiler, *flags, str(source), "-o", str(source.with_suffix("")), *link_flags]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0


def find_system_blas() -> Blas | None:
    """OpenBLAS with headers where compilers look, in this environment (conda), or in Fedora's own folder."""
    prefix = Path(sys.prefix)
    candidates = [
        Blas("system", "the compiler's own folders"),
        Blas(
            "system", str(prefix), (f"-I{prefix}/include",), (f"-L{prefix}/lib", f"-Wl,-rpath,{prefix}/lib")
        ),
        Blas("system", "/usr/include/openblas", ("-I/usr/include/openblas",)),
    ]
    for blas in candidates:
        if compiles(_BLAS_PROGRAM, blas.compile_flags, link_flags=[*blas.link_flags, "-lopenblas"]):
            return blas
    return None


def pypi_blas_folder() -> Path | None:
    """Where the package scipy-openblas32 is installed, or None."""
    importlib.invalidate_caches()  # it may have been installed since Python started
    spec = importlib.util.find_spec("scipy_openblas32")
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations)))


def find_pypi_blas(links: Path) -> Blas | None:
    """The BLAS of the package scipy-openblas32 where that is installed.

    Its functions have a prefix, and its library has another name than MinkowskiEngine links against; so the
    preprocessor renames the calls, and a link renames the library. At run time it is found in the folder
    beside MinkowskiEngine's own.

    Args:
        links: an existing folder in which to put the link.
    """
    package = pypi_blas_folder()
    if package is None:
        return None
    library = package / "lib" / "libscipy_openblas.so"
    if not library.is_file() or not (package / "include" / "cblas.h").is_file():
        return None
    link = links / "libopenblas.so"
    link.unlink(missing_ok=True)
    link.symlink_to(library)
    return Blas(
        "pypi",
        str(package),
        (f"-I{package}/include", *(f"-D{name}=scipy_{name}" for name in _BLAS_CALLS)),
        (f"-L{links}", "-Wl,-rpath,$ORIGIN/../scipy_openblas32/lib"),
    )


def find_nvcc() -> str | None:
    """nvcc, where torch was built with CUDA and could use it."""
    if torch.version.cuda is None:
        return None
    home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")
    return shutil.which("nvcc", path=f"{home}/bin" if home else None)


def run_checks(blas: str = "auto") -> list[Check]:
    """Everything that a build needs, in the order in which to install it.

    Args:
        blas: "system", "pypi", or "auto" for the system's with that from PyPI in reserve.
    """
    compiler = find_compiler()
    python_header = Path(sysconfig.get_path("include")) / "Python.h"
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    checks = [
        Check(
            "C++ compiler",
            shlex.join(compiler) if compiler else None,
            "install a C++ compiler: `apt-get install g++` (Debian, Ubuntu), `dnf install gcc-c++` (Fedora), "
            "or set CXX to the one you have",
        ),
        Check(
            "OpenMP",
            "-fopenmp" if compiles("#include <omp.h>\nint main() {}\n", ["-fopenmp"]) else None,
            "use a compiler with OpenMP: g++, or clang with `apt-get install libomp-dev`",
        ),
        Check(
            "Python headers",
            str(python_header) if python_header.is_file() else None,
            f"install Python's headers: `apt-get install python{version}-dev` (Debian, Ubuntu)",
        ),
    ]
    for module in ("pip", "setuptools", "numpy"):
        found = "found" if importlib.util.find_spec(module) else None
        how = "ensurepip" if module == "pip" else f"pip install {module}"
        checks.append(Check(module, found, f"`{sys.executable} -m {how}`"))
    ninja = shutil.which("ninja", path=scripts_path())
    checks.append(Check("ninja", ninja, f"`{sys.executable} -m pip install ninja`"))
    system = find_system_blas() if blas != "pypi" else None
    reserve = blas != "system" and sys.platform == "linux"
    checks.append(
        Check(
            "BLAS with headers",
            system.where if system else f"{PYPI_BLAS} from PyPI" if reserve else None,
            "install OpenBLAS with its headers: `apt-get install libopenblas-dev` (Debian, Ubuntu), "
            "`dnf install openblas-devel` (Fedora), `conda install openblas`; "
            "or on Linux without root: --blas pypi",
        )
    )
    return checks
