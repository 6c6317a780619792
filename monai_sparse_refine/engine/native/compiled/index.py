"""Occupied cells as bits, and coordinates as cells, through the compiled kernels."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from monai_sparse_refine.engine.native.compiled.calls import call, run


class _Grid(ctypes.Structure):
    _fields_ = [
        ("width", ctypes.c_int32),
        ("step", ctypes.c_void_p),
        ("low", ctypes.c_void_p),
        ("length", ctypes.c_void_p),
    ]


class Grid:
    """A box of cells.

    Args:
        step: coordinates per cell along each axis, batch axis (1) first.
        low: first cell.
        length: number of cells.
    """

    def __init__(self, step: Sequence[int], low: Sequence[int], length: Sequence[int]) -> None:
        self._kept = [torch.tensor(list(values), dtype=torch.int64) for values in (step, low, length)]
        pointers = (values.data_ptr() for values in self._kept)
        self.struct = _Grid(len(self._kept[0]), *pointers)
        cells = 1
        for n in length:
            cells *= n
        self.words = (cells + 63) // 64

    def keys(self, coordinates: Tensor) -> Tensor:
        """(N,) int32 number of the cell of every coordinate, all of them inside."""
        keys = torch.empty(len(coordinates), dtype=torch.int32)
        run("coordinate_keys", coordinates.contiguous(), len(coordinates), ctypes.byref(self.struct), keys)
        return keys


class CellIndex(NamedTuple):
    """Set of cells as bits, the number of set bits before each word, and the rows in the order of their cells.

    ``bits`` (words + 1,) int64, ``rank`` (words + 1,) int32, ``order`` (1 + N,) int32 rows + 1 after a 0, or None where
    rows are in that order; ``distinct`` is False if two rows share a cell.
    """

    bits: Tensor
    rank: Tensor
    order: Tensor | None
    distinct: bool

    def at(self, cells: Tensor) -> Tensor:
        """(n,) int32: row + 1 of each cell (n,), 0 where there is none."""
        cells = cells.to(torch.int32).contiguous()
        rows = torch.empty_like(cells)
        run("index_at", self.bits, self.rank, self.order, cells, len(cells), rows)
        return rows

    def find(self, coordinates: Tensor, grid: Grid) -> Tensor:
        """(n,) int32: row + 1 of any coordinates (n, 1 + D), 0 where there is none."""
        rows = torch.empty(len(coordinates), dtype=torch.int32)
        where = ctypes.byref(grid.struct)
        coordinates = coordinates.contiguous()
        run("coordinate_find", coordinates, len(coordinates), where, self.bits, self.rank, self.order, rows)
        return rows


def build_index(keys: Tensor, cells: int) -> CellIndex:
    """Index of (N,) int32 keys in [0, cells)."""
    words = (cells + 63) // 64
    bits, rank = _no_bits(words)
    order = torch.empty(len(keys) + 1, dtype=torch.int32)
    state = call("index_build", keys, len(keys), words, bits, rank, order)
    return CellIndex(bits, rank, None if state == 1 else order, state >= 0)


def distinct_cells(coordinates: Tensor, grid: Grid) -> Tensor:
    """(M, 1 + D) int32: first coordinates of the cells that hold any of (N, 1 + D), in ascending order."""
    bits, rank = _no_bits(grid.words)
    where = ctypes.byref(grid.struct)
    coordinates = coordinates.contiguous()
    count = call("cells_mark", coordinates, len(coordinates), where, grid.words, bits, rank)
    rows = torch.empty(count, coordinates.shape[1], dtype=torch.int32)
    run("cells_list", bits, rank, grid.words, where, rows)
    return rows


def bounds(coordinates: Tensor) -> tuple[list[int], list[int]]:
    """Inclusive bounds of (N, 1 + D) int32 coordinates, N > 0."""
    coordinates = coordinates.contiguous()
    low = torch.empty(coordinates.shape[1], dtype=torch.int32)
    high = torch.empty_like(low)
    run("coordinate_bounds", coordinates, len(coordinates), coordinates.shape[1], low, high)
    return low.tolist(), high.tolist()


def union_targets(found: Tensor, first: int) -> tuple[Tensor, int]:
    """United row (n,) int32 of every row: row - 1 where it was found, else the next from ``first`` on; their number."""
    targets = torch.empty_like(found)
    return targets, call("union_targets", found, len(found), first, targets)


def _no_bits(words: int) -> tuple[Tensor, Tensor]:
    # Fresh pages from NumPy cost nothing until they are written.
    return torch.from_numpy(np.zeros(words + 1, dtype=np.int64)), torch.empty(words + 1, dtype=torch.int32)
