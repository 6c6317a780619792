"""How the kernels are compiled, kept and done without."""

from __future__ import annotations

import logging
import multiprocessing
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import monai_sparse_refine.engine.native as native
from monai_sparse_refine.engine import toolchain
from monai_sparse_refine.engine.native.compiled import build


@pytest.fixture(scope="module", autouse=True)
def kernels() -> None:
    """Each test sets its own path."""


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    monkeypatch.delenv(build.VARIABLE, raising=False)
    monkeypatch.setenv(build.CACHE_VARIABLE, str(tmp_path))
    build.library.cache_clear()
    yield tmp_path
    build.library.cache_clear()


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A source that compiles in no time."""
    if not toolchain.find_compiler():
        pytest.skip("there is no C++ compiler")
    source = tmp_path / "kernels.cpp"
    source.write_text('extern "C" int answer() { return 42; }\n')
    monkeypatch.setattr(build, "_SOURCE", source)


def says_42() -> bool:
    build.library.cache_clear()
    found = build.library()
    return found is not None and found.answer() == 42


def a_convolution() -> torch.Tensor:
    layer = native.MinkowskiConvolution(1, 2, 3, dimension=2)
    rows = torch.tensor([[0, 0, 0], [0, 0, 1]]).int()
    return layer(native.SparseTensor(torch.ones(2, 1), rows)).F


def script(folder: Path, text: str) -> str:
    path = folder / "compiler"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_off(monkeypatch: pytest.MonkeyPatch, fresh: Path) -> None:
    monkeypatch.setenv(build.VARIABLE, "off")
    assert build.library() is None
    assert a_convolution().shape == (2, 2)
    assert not list(fresh.iterdir())


def test_an_unknown_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(build.VARIABLE, "fast")
    with pytest.raises(ValueError, match="MONAI_SPARSE_KERNEL is 'fast', expected 'auto' or 'off'"):
        build.library()


def test_without_a_compiler(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with caplog.at_level(logging.WARNING):
        assert a_convolution().shape == (2, 2)
        assert a_convolution().shape == (2, 2)
    assert len(caplog.records) == 1
    assert (
        "no C++ compiler 'no-such-compiler'). Install a C++ compiler" in caplog.text
        and "MONAI_SPARSE_KERNEL=off" in caplog.text
    )


@pytest.mark.parametrize("text", ["echo 'x.cpp:1: error: no such luck' >&2; exit 1", "exit 0", "exit 3"])
def test_a_compiler_that_fails(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, fresh: Path, text: str
) -> None:
    monkeypatch.setenv("CXX", script(fresh, text))
    with caplog.at_level(logging.WARNING):
        assert build.library() is None
    assert len(caplog.records) == 1
    assert a_convolution().shape == (2, 2)
    assert not list(fresh.glob("kernels-*")) and not list(fresh.glob("compiling-*"))


def test_a_folder_that_cannot_be_written(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, fresh: Path
) -> None:
    (fresh / "file").touch()
    monkeypatch.setenv(build.CACHE_VARIABLE, str(fresh / "file" / "folder"))
    assert build.library() is None
    assert len(caplog.records) == 1
    assert "Set MONAI_SPARSE_KERNEL_CACHE to a folder that can be written" in caplog.text


def test_a_kept_library_that_does_not_load_is_compiled_again(answer: None, fresh: Path) -> None:
    path = build.compiled(fresh)
    path.unlink()
    path.write_bytes(b"no library")
    assert says_42()
    assert path.stat().st_size > 100


def test_compiled_once(answer: None, fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert says_42()
    (kept,) = fresh.glob("kernels-*")
    changed = kept.stat().st_mtime_ns
    monkeypatch.setattr(build, "_compile", lambda command: pytest.fail("compiled again"))
    assert says_42()
    assert build.compiled(fresh) == kept and kept.stat().st_mtime_ns == changed


def test_another_source_is_another_library(answer: None, fresh: Path) -> None:
    assert says_42()
    build._SOURCE.write_text('extern "C" int answer() { return 6 * 7; }\n')
    assert says_42()
    assert len(list(fresh.glob("kernels-*.so"))) == 2


def test_two_processes_at_once(answer: None, fresh: Path) -> None:
    with multiprocessing.get_context("fork").Pool(2) as pool:
        paths = pool.map(build.compiled, [fresh, fresh])
    assert paths[0] == paths[1] and [*fresh.glob("kernels-*"), *fresh.glob("compiling-*")] == [paths[0]]


def test_in_a_forked_process_after_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a DataLoader's worker does, which sets one thread: OpenMP would hang with more after a fork."""
    monkeypatch.delenv(build.CACHE_VARIABLE)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        expected = forked_sum(0)
        with multiprocessing.get_context("fork").Pool(1, torch.set_num_threads, (1,)) as pool:
            assert pool.apply_async(forked_sum, (0,)).get(timeout=60) == expected
    finally:
        torch.set_num_threads(before)


def forked_sum(seed: int) -> float:
    torch.manual_seed(seed)
    rows = torch.nn.functional.pad((torch.rand(20, 20, 20) > 0.2).nonzero(), (1, 0)).int()
    layer = native.MinkowskiConvolution(1, 2, 3, dimension=3)
    with torch.no_grad():
        return float(layer(native.SparseTensor(torch.ones(len(rows), 1), rows)).F.double().sum())
