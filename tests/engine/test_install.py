"""The install command: what it leaves alone, what it keeps, and what it says."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from monai_sparse_refine.engine import build, install
from monai_sparse_refine.engine.build import InstallError
from monai_sparse_refine.engine.toolchain import Check

WHEEL = "minkowskiengine-0.5.4-cp311-cp311-linux_x86_64.whl"


class Machine:
    """Stands in for this machine: nothing is installed, and what happens is noted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.works = False
        self.installed: list[str] = []
        self.built: list[bool] = []
        self.bad_wheels: set[str] = set()
        self.failing: set[bool] = set()  # values of `cuda` for which a build fails
        self.missing: list[Check] = []
        self.nvcc: str | None = None
        monkeypatch.setattr(build, "verify", lambda target=None: None if self.works else "not there")
        monkeypatch.setattr(build, "pip", self.pip)
        monkeypatch.setattr(
            build, "try_wheel", lambda wheel, kind: "bad" if kind in self.bad_wheels else None
        )
        monkeypatch.setattr(build, "build_wheel", self.build_wheel)
        monkeypatch.setattr(install.toolchain, "run_checks", lambda blas: self.missing)
        monkeypatch.setattr(install.toolchain, "find_nvcc", lambda: self.nvcc)

    def pip(self, *arguments: str) -> None:
        self.installed.append(arguments[-1])
        self.works = True

    def build_wheel(self, folder: Path, *, blas: str, cuda: bool, log: Path) -> tuple[Path, str]:
        self.built.append(cuda)
        if cuda in self.failing:
            raise InstallError("the build failed; the end of it")
        (folder / "wheels").mkdir()
        (folder / "wheels" / WHEEL).touch()
        return folder / "wheels" / WHEEL, "pypi" if blas == "pypi" else "system"


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


def cache(wheel_dir: Path, kind: str, *, cuda: bool = False) -> Path:
    wheel = wheel_dir / install.cache_key(kind, cuda=cuda) / WHEEL
    wheel.parent.mkdir(parents=True)
    wheel.touch()
    return wheel


def test_cache_key_has_all_that_a_wheel_is_tied_to(monkeypatch: pytest.MonkeyPatch) -> None:
    key = install.cache_key("pypi", cuda=False)
    assert sys.implementation.cache_tag in key
    assert f"torch{torch.__version__}-cpu-pypi" in key
    monkeypatch.setattr(torch, "__version__", "9.9.9+cu130")
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    assert install.cache_key("system", cuda=True).endswith("torch9.9.9+cu130-cu13.0-system")


def test_wheel_dir_is_chosen_by_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(install.WHEELS_VARIABLE, str(tmp_path))
    assert install.default_wheel_dir() == tmp_path
    monkeypatch.delenv(install.WHEELS_VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert install.default_wheel_dir() == tmp_path / "monai_sparse_refine" / "wheels"


def test_one_that_works_is_left_alone(machine: Machine, tmp_path: Path) -> None:
    machine.works = True
    install.install(wheel_dir=tmp_path)
    assert machine.installed == machine.built == []
    install.install(wheel_dir=tmp_path, force=True)
    assert machine.built == [False]


def test_a_build_is_kept_and_found_again(machine: Machine, tmp_path: Path) -> None:
    install.install(wheel_dir=tmp_path)
    kept = tmp_path / install.cache_key("system", cuda=False) / WHEEL
    assert machine.installed == [str(kept)]
    assert kept.is_file()
    assert [path.name for path in tmp_path.iterdir()] == [kept.parent.name]  # nothing half-built stays
    machine.works = False
    machine.missing = [Check("C++ compiler", None, "install one")]  # not needed for a wheel that is there
    install.install(wheel_dir=tmp_path)
    assert machine.installed == [str(kept), str(kept)]
    assert machine.built == [False]


def test_cached_wheels_of_other_versions_are_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system, pypi = cache(tmp_path, "system"), cache(tmp_path, "pypi")
    assert install.cached_wheels(tmp_path, blas="auto", cuda=False) == [(system, "system"), (pypi, "pypi")]
    assert install.cached_wheels(tmp_path, blas="pypi", cuda=False) == [(pypi, "pypi")]
    assert install.cached_wheels(tmp_path, blas="auto", cuda=True) == []
    monkeypatch.setattr(torch, "__version__", "9.9.9")
    assert install.cached_wheels(tmp_path, blas="auto", cuda=False) == []


def test_a_cached_wheel_that_does_not_work_is_passed_over(machine: Machine, tmp_path: Path) -> None:
    cache(tmp_path, "system")
    pypi = cache(tmp_path, "pypi")
    machine.bad_wheels = {"system"}
    install.install(wheel_dir=tmp_path)
    assert machine.installed == [str(pypi)]
    assert machine.built == []


def test_a_failing_cuda_build_ends_with_one_for_the_cpu(machine: Machine, tmp_path: Path) -> None:
    machine.nvcc = "/usr/local/cuda/bin/nvcc"
    machine.failing = {True}
    install.install(wheel_dir=tmp_path)
    assert machine.built == [True, False]
    assert machine.installed == [str(tmp_path / install.cache_key("system", cuda=False) / WHEEL)]
    machine.works = False
    install.install(wheel_dir=tmp_path / "other", cpu_only=True)
    assert machine.built == [True, False, False]


def test_a_failing_build_changes_nothing(
    machine: Machine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = cache(tmp_path, "system")
    machine.works = True
    machine.failing = {False}
    assert install.main(["--force", "--wheel-dir", str(tmp_path)]) == 1
    assert machine.installed == []
    assert kept.is_file()
    assert "MinkowskiEngine was not installed:\nthe build failed" in capsys.readouterr().err


def test_what_is_missing_is_said_before_anything_starts(
    machine: Machine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.missing = [
        Check("C++ compiler", None, "install a compiler: `apt-get install g++`"),
        Check("ninja", "/usr/bin/ninja", ""),
    ]
    assert install.main(["--wheel-dir", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert "missing  C++ compiler: install a compiler: `apt-get install g++`" in said
    assert "ninja" not in said
    assert machine.built == []


def test_check_only_reports(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    machine.missing = [Check("ninja", None, "`pip install ninja`"), Check("pip", "found", "")]
    assert install.main(["--check"]) == 1
    said = capsys.readouterr().out
    assert "missing  ninja: `pip install ninja`" in said
    assert "found    pip: found" in said
    machine.missing, machine.works = [], True
    assert install.main(["--check"]) == 0
    assert "works" in capsys.readouterr().out
    assert machine.installed == machine.built == []


def test_an_unwritable_folder_is_one_line(
    machine: Machine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert install.main(["--wheel-dir", str(tmp_path / "file")]) == 1
    assert str(tmp_path / "file") in capsys.readouterr().err
