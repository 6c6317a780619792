"""Which engine `get_engine` returns, and what it says where it cannot."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from monai_sparse_refine import engine as rooms
from monai_sparse_refine.engine import ENGINE_VARIABLE, EngineNotFoundError, available_engines, get_engine


@pytest.fixture(autouse=True)
def no_choice_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ENGINE_VARIABLE, raising=False)


@pytest.fixture
def without_minkowski(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "monai_sparse_refine.engine.minkowski", raising=False)
    monkeypatch.delattr(rooms, "minkowski", raising=False)
    monkeypatch.setitem(sys.modules, "MinkowskiEngine", None)


def test_native_is_always_there() -> None:
    assert get_engine("native").__name__ == "monai_sparse_refine.engine.native"
    assert "native" in available_engines()


def test_auto_prefers_minkowski(minkowski: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert get_engine() is minkowski
    assert get_engine("auto", device="cpu") is minkowski
    assert available_engines() == ("minkowski", "native")


@pytest.mark.usefixtures("without_minkowski")
def test_auto_falls_back_on_native() -> None:
    assert get_engine() is get_engine("native")
    assert available_engines() == ("native",)


@pytest.mark.usefixtures("without_minkowski")
def test_missing_minkowski_says_how_to_install_it() -> None:
    with pytest.raises(EngineNotFoundError, match=r"python -m monai_sparse_refine\.engine\.install"):
        get_engine("minkowski")


def test_cpu_build_leaves_other_devices_to_native(minkowski: ModuleType) -> None:
    if minkowski.supports_device("cuda"):
        pytest.skip("this MinkowskiEngine was built with CUDA")
    assert get_engine("auto", device="cuda:0") is get_engine("native")
    with pytest.raises(EngineNotFoundError, match=r"'cuda'.*not built for"):
        get_engine("minkowski", device="cuda")
    assert available_engines(device="cuda") == ("native",)


def test_auto_without_a_device_expects_the_gpu_that_is_there(
    minkowski: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    if minkowski.supports_device("cuda"):
        pytest.skip("this MinkowskiEngine was built with CUDA")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert get_engine() is get_engine("native")
    assert get_engine("auto", device="cpu") is minkowski
    assert get_engine("minkowski") is minkowski


def test_environment_replaces_auto_only(minkowski: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENGINE_VARIABLE, " Native ")
    assert get_engine() is get_engine("native")
    assert get_engine("minkowski") is minkowski


def test_unknown_name_lists_the_choices(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="name is 'spconv', expected one of 'auto', 'minkowski', 'native'"):
        get_engine("spconv")
    monkeypatch.setenv(ENGINE_VARIABLE, "dense")
    with pytest.raises(ValueError, match=f"environment variable {ENGINE_VARIABLE} is 'dense'"):
        get_engine()


def test_broken_build_is_named_as_such(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "MinkowskiEngine.py").write_text("raise ImportError('undefined symbol: _ZN3c10')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "monai_sparse_refine.engine.minkowski", raising=False)
    monkeypatch.delitem(sys.modules, "MinkowskiEngine", raising=False)
    monkeypatch.delattr(rooms, "minkowski", raising=False)
    with pytest.raises(EngineNotFoundError, match=r"undefined symbol.*another torch.*install --force"):
        get_engine("minkowski")
    assert get_engine() is get_engine("native")
