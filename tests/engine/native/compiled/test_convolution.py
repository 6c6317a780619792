"""Compiled kernels against the plain path: the same results, and the same bits for every number of threads."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import monai_sparse_refine.engine.native as native
from monai_sparse_refine.engine.native.compiled import build
from monai_sparse_refine.engine.native.compiled.convolution import runs
from monai_sparse_refine.engine.native.compiled.index import build_index

# Sums of up to 64 * 5**4 products, added in another order; a product that is missing or wrong is off by 1e-3 or more.
TOLERANCE = {torch.float32: 2e-5, torch.float64: 1e-12}


def plain(function: Any, *arguments: Any) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(build.VARIABLE, "off")
        build.library.cache_clear()
        result = function(*arguments)
    build.library.cache_clear()
    return result


def random_rows(seed: int, dimension: int, count: int, *, reach: int = 6, shuffled: bool = True) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    space = torch.randint(-reach, reach + 1, (count, dimension), generator=generator) * 4
    rows = torch.unique(
        torch.cat([torch.randint(0, 2, (count, 1), generator=generator), space // 2], 1), dim=0
    )
    return (rows[torch.randperm(len(rows), generator=generator)] if shuffled else rows).int()


def run(make: Any, rows: Tensor, width: int, dtype: torch.dtype, stride: int) -> list[Tensor]:
    """Output and all gradients of a layer."""
    torch.manual_seed(0)
    layer = make().to(dtype)
    leaf = torch.randn(len(rows), width, dtype=dtype, requires_grad=True)
    y = layer(native.SparseTensor(leaf, rows, tensor_stride=stride)).F
    y.backward(torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=dtype))
    assert leaf.grad is not None
    return [y.detach(), leaf.grad, *(p.grad for p in layer.parameters() if p.grad is not None)]


def assert_same(ours: list[Tensor], theirs: list[Tensor], dtype: torch.dtype) -> None:
    assert len(ours) == len(theirs)
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.shape == other.shape
        if other.numel():
            scale = float(other.abs().max()) + 1
            assert float((mine - other).abs().max()) <= TOLERANCE[dtype] * scale


LAYERS = ["MinkowskiConvolution", "MinkowskiConvolutionTranspose", "MinkowskiGenerativeConvolutionTranspose"]


@settings(max_examples=120, deadline=None)
@given(
    name=st.sampled_from(LAYERS),
    seed=st.integers(0, 2**20),
    dimension=st.integers(1, 4),
    count=st.sampled_from([1, 5, 127, 128, 300]),
    kernel=st.integers(1, 5),
    stride=st.integers(1, 2),
    dilation=st.integers(1, 2),
    widths=st.tuples(*[st.sampled_from([1, 3, 4, 7, 8, 9, 16, 17, 33, 48, 64])] * 2),
    dtype=st.sampled_from(list(TOLERANCE)),
    shuffled=st.booleans(),
)
def test_layers(
    name: str,
    seed: int,
    dimension: int,
    count: int,
    kernel: int,
    stride: int,
    dilation: int,
    widths: tuple[int, int],
    dtype: torch.dtype,
    shuffled: bool,
) -> None:
    kernel = kernel if kernel**dimension <= 130 else 2
    rows = random_rows(seed, dimension, count, shuffled=shuffled)

    def make() -> Any:
        return getattr(native, name)(*widths, kernel, stride=stride, dilation=dilation, dimension=dimension)

    ours = run(make, rows, widths[0], dtype, 2)
    assert_same(ours, plain(run, make, rows, widths[0], dtype, 2), dtype)


@pytest.mark.parametrize("far", [False, True])
def test_many_rows(far: bool) -> None:
    """Several blocks, segments and threads; far apart, so that keys are sorted instead of put on a grid."""
    rows = random_rows(0, 3, 30000, reach=24)
    if far:
        rows[rows[:, 0] == 1, 1:] += 2**20
    for width, out in ((8, 8), (1, 8), (40, 24)):

        def make(width: int = width, out: int = out) -> Any:
            return native.MinkowskiConvolution(width, out, 3, dimension=3)

        ours = run(make, rows, width, torch.float32, 2)
        assert_same(ours, plain(run, make, rows, width, torch.float32, 2), torch.float32)
        before = torch.get_num_threads()
        for threads in (2, 5):
            torch.set_num_threads(threads)
            again = run(make, rows, width, torch.float32, 2)
            torch.set_num_threads(before)
            assert all(torch.equal(a, b) for a, b in zip(ours, again, strict=True))


@given(st.lists(st.integers(-200, 200), min_size=1, max_size=60, unique=True))
def test_runs(steps: list[int]) -> None:
    first, lengths, order = runs(torch.tensor(steps))
    visited = [
        step + i for step, length in zip(first.tolist(), lengths.tolist(), strict=True) for i in range(length)
    ]
    assert visited == sorted(steps) == [steps[i] for i in order.tolist()]
    assert max(lengths.tolist()) <= 32


@given(st.lists(st.integers(0, 500), min_size=1, max_size=80), st.booleans())
def test_index(cells: list[int], ordered: bool) -> None:
    distinct = list(dict.fromkeys(cells))
    distinct = sorted(distinct) if ordered else distinct
    index = build_index(torch.tensor(distinct, dtype=torch.int32), 501)
    assert index.distinct and (index.order is None) == (distinct == sorted(distinct))
    found = index.at(torch.arange(501)).tolist()
    assert found == [distinct.index(cell) + 1 if cell in distinct else 0 for cell in range(501)]
    if len(distinct) < len(cells):
        assert not build_index(torch.tensor(cells, dtype=torch.int32), 501).distinct
