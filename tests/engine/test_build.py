"""Building a wheel without compiling; and telling a build that works from one that does not."""

from __future__ import annotations

import os
from pathlib import Path
from types import ModuleType

import pytest

from monai_sparse_refine.engine import build
from monai_sparse_refine.engine.build import InstallError
from monai_sparse_refine.engine.toolchain import Blas

WHEEL = "minkowskiengine-0.5.4-cp311-cp311-linux_x86_64.whl"


def test_the_installed_engine_works(minkowski: ModuleType) -> None:
    assert build.verify() is None


@pytest.mark.parametrize(
    ("module", "problem"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "signal 11"),
        ("raise ImportError('undefined symbol: _ZN2at')", "undefined symbol: _ZN2at"),
        ("", "no attribute 'MinkowskiConvolution'"),
    ],
)
def test_verify_says_what_is_wrong(tmp_path: Path, module: str, problem: str) -> None:
    (tmp_path / "MinkowskiEngine.py").write_text(module)
    assert problem in str(build.verify(tmp_path))


def test_pip_failure_is_passed_on() -> None:
    with pytest.raises(InstallError, match=r"pip.*no-such-command.*failed:\n.*unknown command"):
        build.pip("no-such-command")


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, str]]:
    """Replaces the compilation; has the environment that it would have run in."""
    seen: dict[str, dict[str, str]] = {}

    def compile_(wheels: Path, environment: dict[str, str], log: Path, *, cuda: bool) -> None:
        seen["environment"] = environment
        pip = Path(environment["PATH"].split(os.pathsep)[0]) / "pip"
        seen["pip"] = {"text": pip.read_text(), "executable": str(os.access(pip, os.X_OK))}
        (wheels / WHEEL).touch()

    monkeypatch.setattr(build, "_compile", compile_)
    monkeypatch.setattr(build, "try_wheel", lambda wheel, kind: None)
    return seen


def test_build_keeps_the_installed_engine_and_the_users_flags(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compiled: dict[str, dict[str, str]]
) -> None:
    blas = Blas("system", "/opt/blas", ("-I/opt/blas/include",), ("-L/opt/blas/lib",))
    monkeypatch.setattr(build.toolchain, "find_system_blas", lambda: blas)
    monkeypatch.setenv("CXXFLAGS", "-march=native")
    monkeypatch.setenv("MAX_JOBS", "3")
    wheel, kind = build.build_wheel(tmp_path, blas="auto", cuda=False, log=tmp_path / "log")
    assert (wheel.name, kind) == (WHEEL, "system")
    assert [path.name for path in wheel.parent.iterdir()] == [WHEEL]
    assert compiled["environment"]["CXXFLAGS"] == "-march=native -g0 -I/opt/blas/include"
    assert compiled["environment"]["LDFLAGS"].endswith("-L/opt/blas/lib")
    assert compiled["environment"]["MAX_JOBS"] == "3"
    assert compiled["pip"] == {"text": "#!/bin/sh\nexit 0\n", "executable": "True"}


def test_blas_of_pypi_is_installed_where_it_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compiled: dict[str, dict[str, str]]
) -> None:
    installed: list[tuple[str, ...]] = []
    monkeypatch.setattr(build.toolchain, "find_system_blas", lambda: None)
    monkeypatch.setattr(build.toolchain, "pypi_blas_folder", lambda: tmp_path if installed else None)
    monkeypatch.setattr(build.toolchain, "find_pypi_blas", lambda links: Blas("pypi", str(links)))
    monkeypatch.setattr(build, "pip", lambda *arguments: installed.append(arguments))
    _, kind = build.build_wheel(tmp_path, blas="auto", cuda=False, log=tmp_path / "log")
    assert kind == "pypi"
    assert installed == [("install", "scipy-openblas32")]


def test_a_build_that_does_not_work_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compiled: dict[str, dict[str, str]]
) -> None:
    monkeypatch.setattr(build.toolchain, "find_system_blas", lambda: Blas("system", "here"))
    monkeypatch.setattr(build, "try_wheel", lambda wheel, kind: "ended by signal 11")
    with pytest.raises(InstallError, match=r"does not work \(ended by signal 11\); see .*log"):
        build.build_wheel(tmp_path, blas="auto", cuda=False, log=tmp_path / "log")


def test_a_failing_compilation_shows_the_end_of_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build.sys, "executable", "/bin/false")
    monkeypatch.setattr(build.toolchain, "find_system_blas", lambda: Blas("system", "here"))
    log = tmp_path / "build.log"
    with pytest.raises(InstallError, match=f"the build failed; the end of {log}"):
        build.build_wheel(tmp_path, blas="system", cuda=False, log=log)
