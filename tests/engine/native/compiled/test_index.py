"""Cells of coordinates through the compiled kernels, against Python's own sets and the plain path."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from monai_sparse_refine.engine.native.compiled.index import (
    Grid,
    bounds,
    build_index,
    distinct_cells,
    union_targets,
)

Rows = list[tuple[int, ...]]
some_rows = st.lists(st.tuples(st.integers(0, 2), *[st.integers(-9, 9)] * 3), min_size=1, max_size=40)


def tensor(rows: Rows) -> Tensor:
    return torch.tensor(rows, dtype=torch.int32)


def grid_of(rows: Rows, step: int) -> Grid:
    """The box of the rows' cells."""
    cells = [(row[0], *(c // step for c in row[1:])) for row in rows]
    low = [min(column) for column in zip(*cells, strict=True)]
    length = [max(column) - first + 1 for column, first in zip(zip(*cells, strict=True), low, strict=True)]
    return Grid((1, step, step, step), low, length)


@given(some_rows)
def test_bounds(rows: Rows) -> None:
    columns = list(zip(*rows, strict=True))
    assert bounds(tensor(rows)) == ([min(c) for c in columns], [max(c) for c in columns])


def test_bounds_of_many_rows_with_every_number_of_threads() -> None:
    rows = torch.randint(-1000, 1000, (70_000, 4), dtype=torch.int32)
    expected = rows.amin(0).tolist(), rows.amax(0).tolist()
    before = torch.get_num_threads()
    for threads in (1, 3):
        torch.set_num_threads(threads)
        found = bounds(rows)
        torch.set_num_threads(before)
        assert found == expected


@settings(deadline=None)
@given(some_rows, st.integers(1, 5))
def test_distinct_cells(rows: Rows, step: int) -> None:
    """Steps that are powers of two, and that are not; negative coordinates go to the cell below."""
    expected = sorted({(row[0], *(c // step * step for c in row[1:])) for row in rows})
    assert list(map(tuple, distinct_cells(tensor(rows), grid_of(rows, step)).tolist())) == expected


@settings(deadline=None)
@given(some_rows, some_rows, st.integers(1, 3))
def test_find(rows: Rows, queries: Rows, step: int) -> None:
    """Only the coordinates themselves are found: nothing outside the box, nor between two cells."""
    rows = list(dict.fromkeys((row[0], *(c * step for c in row[1:])) for row in rows))
    grid = grid_of(rows, step)
    index = build_index(grid.keys(tensor(rows)), 64 * grid.words)
    found = index.find(tensor(queries + rows), grid).tolist()
    assert found == [rows.index(q) + 1 if q in rows else 0 for q in map(tuple, queries + rows)]


def test_far_coordinates_do_not_wrap_round() -> None:
    far = 2**31 - 8
    rows = [(0, far, -far, 0), (0, far + 2, -far, 1)]
    grid = grid_of(rows, 1)
    index = build_index(grid.keys(tensor(rows)), 64 * grid.words)
    queries = [(0, -far, far, 0), (0, far, -far, 0), (0, far + 2, -far, 1), (0, 0, 0, 0)]
    assert index.find(tensor(queries), grid).tolist() == [0, 1, 2, 0]


def test_union_targets() -> None:
    targets, rows = union_targets(torch.tensor([3, 0, 1, 0], dtype=torch.int32), 5)
    assert targets.tolist() == [2, 5, 0, 6] and rows == 7
