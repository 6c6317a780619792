"""What a build needs: found where it is there, with advice where it is not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from monai_sparse_refine.engine import toolchain

needs_compiler = pytest.mark.skipif(toolchain.find_compiler() is None, reason="needs a C++ compiler")


def by_name(checks: list[toolchain.Check]) -> dict[str, toolchain.Check]:
    return {check.name: check for check in checks}


def test_missing_compiler_is_said_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler -m64")
    assert toolchain.find_compiler() is None
    assert not toolchain.compiles("int main() {}")
    checks = by_name(toolchain.run_checks())
    assert checks["C++ compiler"].found is None
    assert "apt-get install g++" in checks["C++ compiler"].advice
    assert checks["OpenMP"].found is None


def test_compiler_may_have_options(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "python3 -O")
    assert toolchain.find_compiler() == ["python3", "-O"]


@needs_compiler
def test_compiles_tells_good_from_bad() -> None:
    assert toolchain.compiles("int main() {}")
    assert not toolchain.compiles("#include <no_such_header.h>\nint main() {}")
    assert not toolchain.compiles("int missing(); int main() { return missing(); }")


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolchain.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(toolchain, "scripts_path", lambda: "")
    checks = by_name(toolchain.run_checks())
    assert [name for name in ("pip", "setuptools", "numpy", "ninja") if checks[name].found] == []
    assert checks["pip"].advice.endswith("-m ensurepip`")
    assert checks["ninja"].advice.endswith("-m pip install ninja`")


@pytest.mark.parametrize(("choice", "found"), [("system", None), ("auto", "PyPI"), ("pypi", "PyPI")])
def test_without_system_headers_blas_comes_from_pypi(
    monkeypatch: pytest.MonkeyPatch, choice: str, found: str | None
) -> None:
    monkeypatch.setattr(toolchain, "find_system_blas", lambda: None)
    monkeypatch.setattr(toolchain.sys, "platform", "linux")
    check = by_name(toolchain.run_checks(choice))["BLAS with headers"]
    assert check.found is None if found is None else found in str(check.found)
    assert "apt-get install libopenblas-dev" in check.advice


def test_system_blas_is_preferred(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolchain, "find_system_blas", lambda: toolchain.Blas("system", "/opt/blas"))
    assert by_name(toolchain.run_checks())["BLAS with headers"].found == "/opt/blas"
    assert "PyPI" in str(by_name(toolchain.run_checks("pypi"))["BLAS with headers"].found)


def test_pypi_blas_is_linked_under_the_expected_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "scipy_openblas32"
    for part in ("__init__.py", "include/cblas.h", "lib/libscipy_openblas.so"):
        (package / part).parent.mkdir(parents=True, exist_ok=True)
        (package / part).touch()
    monkeypatch.setattr(toolchain, "pypi_blas_folder", lambda: package)
    links = tmp_path / "links"
    links.mkdir()
    for _ in range(2):  # a link that is there already is replaced
        blas = toolchain.find_pypi_blas(links)
        assert blas is not None
    assert (links / "libopenblas.so").resolve() == package / "lib" / "libscipy_openblas.so"
    assert f"-I{package}/include" in blas.compile_flags
    assert "-Dcblas_sgemm=scipy_cblas_sgemm" in blas.compile_flags
    assert "-Wl,-rpath,$ORIGIN/../scipy_openblas32/lib" in blas.link_flags
    (package / "include" / "cblas.h").unlink()
    assert toolchain.find_pypi_blas(links) is None
    monkeypatch.setattr(toolchain, "pypi_blas_folder", lambda: None)
    assert toolchain.find_pypi_blas(links) is None


def test_nvcc_counts_only_with_a_cuda_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nvcc = tmp_path / "bin" / "nvcc"
    nvcc.parent.mkdir()
    nvcc.touch(mode=0o755)
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    monkeypatch.setattr(torch.version, "cuda", None)
    assert toolchain.find_nvcc() is None
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    assert toolchain.find_nvcc() == str(nvcc)
