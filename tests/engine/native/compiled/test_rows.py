"""Row operations of the compiled kernels against PyTorch in double precision."""

from __future__ import annotations

import pytest
import torch

from monai_sparse_refine.engine.native.compiled.rows import add_rows, moments, scale_rows, take_rows

TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-12}
SHAPES = [(1, 1), (63, 3), (64, 8), (2049, 5), (5000, 16), (300, 70)]


@pytest.fixture(params=list(TOLERANCE))
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    return request.param


@pytest.mark.parametrize("shape", SHAPES)
def test_moments(shape: tuple[int, int], dtype: torch.dtype) -> None:
    rows = torch.randn(shape, dtype=dtype) + 3
    mean, variance = moments(rows)
    exact = rows.double()
    torch.testing.assert_close(mean, exact.mean(0), rtol=TOLERANCE[dtype], atol=0)
    torch.testing.assert_close(variance, exact.var(0, unbiased=False), rtol=1e-5, atol=TOLERANCE[dtype])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("rectified", [False, True])
def test_scale_rows(shape: tuple[int, int], dtype: torch.dtype, rectified: bool) -> None:
    rows, scale, shift = (torch.randn(n, dtype=dtype) for n in (shape, shape[1:], shape[1:]))
    expected = rows * scale + shift
    found = scale_rows(rows, scale, shift, rectified=rectified)
    expected = expected.relu() if rectified else expected
    torch.testing.assert_close(found, expected, rtol=0, atol=4 * TOLERANCE[dtype])


@pytest.mark.parametrize("shape", SHAPES)
def test_rows_by_number(shape: tuple[int, int], dtype: torch.dtype) -> None:
    rows = torch.randn(shape, dtype=dtype)
    source = torch.randint(0, len(rows) + 1, (777,), dtype=torch.int32)
    padded = torch.cat([torch.zeros_like(rows[:1]), rows])
    assert torch.equal(take_rows(rows, source), padded[source.long()])
    target = torch.randperm(len(rows) + 9)[: len(rows)].to(torch.int32)
    result = torch.randn(len(rows) + 9, shape[1], dtype=dtype)
    expected = result.index_add(0, target, rows)
    add_rows(rows, target, result)
    assert torch.equal(result, expected)
