"""Calls of the compiled kernels with tensors; every argument is contiguous, on the CPU, and of the right length."""

from __future__ import annotations

import ctypes
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from monai_sparse_refine.engine.native.compiled.build import library

LONGEST_RUN = 32
_NAMES = {torch.float32: "float32", torch.float64: "float64"}


def usable(*tensors: Tensor) -> bool:
    """Whether the kernels are there and take these tensors: on the CPU, all float32 or all float64."""
    dtype = tensors[0].dtype
    if dtype not in _NAMES or any(t.dtype != dtype or t.device.type != "cpu" for t in tensors):
        return False
    return library() is not None


class CellIndex(NamedTuple):
    """Set of cells as bits, the number of set bits before each word, and the row + 1 of each set bit.

    ``bits`` (words + 1,) int64, ``rank`` (words + 1,) int32, ``order`` (N,) int32 or None where rows are in the order
    of their cells; ``distinct`` is False if two rows share a cell.
    """

    bits: Tensor
    rank: Tensor
    order: Tensor | None
    distinct: bool

    def at(self, cells: Tensor) -> Tensor:
        """(n,) int32: row + 1 of each cell (n,), 0 where there is none."""
        cells = cells.to(torch.int32).contiguous()
        rows = torch.empty_like(cells)
        order = ctypes.c_void_p() if self.order is None else _pointer(self.order)
        _call(
            "index_at",
            _pointer(self.bits),
            _pointer(self.rank),
            order,
            _pointer(cells),
            _long(len(cells)),
            _pointer(rows),
            _threads(),
        )
        return rows


def build_index(keys: Tensor, cells: int) -> CellIndex:
    """Index of (N,) int32 keys in [0, cells)."""
    words = (cells + 63) // 64
    bits = torch.from_numpy(
        np.zeros(words + 1, dtype=np.int64)
    )  # fresh pages cost nothing until they are written
    rank = torch.empty(words + 1, dtype=torch.int32)
    order = torch.empty_like(keys)
    state = _function("index_build")(
        _pointer(keys), _long(len(keys)), _long(words), _pointer(bits), _pointer(rank), _pointer(order)
    )
    return CellIndex(bits, rank, None if state == 1 else order, state >= 0)


class _Neighbours(ctypes.Structure):
    _fields_ = [
        ("volume", ctypes.c_int32),
        ("table", ctypes.c_void_p),
        ("bits", ctypes.c_void_p),
        ("rank", ctypes.c_void_p),
        ("order", ctypes.c_void_p),
        ("keys", ctypes.c_void_p),
        ("outside", ctypes.c_void_p),
        ("runs", ctypes.c_int32),
        ("run_step", ctypes.c_void_p),
        ("run_length", ctypes.c_void_p),
        ("run_offset", ctypes.c_void_p),
    ]


class Neighbours:
    """Where the rows under a kernel come from: a table, or an index with the cell of every row.

    Args:
        volume: number of offsets, K.
        table: (n, K) int32 row + 1, instead of all that follows.
        index: of the side whose rows are looked up.
        keys: (n,) int32 cell of every row that looks.
        steps: (K,) differences of keys.
        outside: (n,) bool, rows without neighbours.
    """

    def __init__(
        self,
        volume: int,
        *,
        table: Tensor | None = None,
        index: CellIndex | None = None,
        keys: Tensor | None = None,
        steps: Tensor | None = None,
        outside: Tensor | None = None,
    ) -> None:
        self.volume = volume
        self._kept: list[Tensor] = []  # what the pointers point to
        self.struct = _Neighbours(volume=volume)
        if table is not None:
            self.struct.table = self._keep(table)
            return
        assert index is not None and keys is not None and steps is not None
        self.struct.bits, self.struct.rank = self._keep(index.bits), self._keep(index.rank)
        self.struct.order = None if index.order is None else self._keep(index.order)
        self.struct.keys = self._keep(keys.to(torch.int32))
        self.struct.outside = None if outside is None else self._keep(outside)
        first, lengths, order = runs(steps)
        self.struct.runs = len(first)
        self.struct.run_step, self.struct.run_length = self._keep(first), self._keep(lengths)
        self.struct.run_offset = self._keep(order)

    def _keep(self, tensor: Tensor) -> int:
        self._kept.append(tensor.contiguous())
        return self._kept[-1].data_ptr()


def runs(steps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Steps as runs of adjacent cells: first step (int64) and length of each, and the steps in their order (int32)."""
    ordered, order = torch.sort(steps.long())
    first: list[int] = []
    lengths: list[int] = []
    for step in ordered.tolist():
        if first and step == first[-1] + lengths[-1] and lengths[-1] < LONGEST_RUN:
            lengths[-1] += 1
        else:
            first.append(step)
            lengths.append(1)
    return torch.tensor(first), torch.tensor(lengths, dtype=torch.int32), order.to(torch.int32)


def convolve(
    source: Tensor,
    kernel: Tensor,
    neighbours: Neighbours,
    rows: int,
    *,
    transposed: bool = False,
    mirrored: bool = False,
    bias: Tensor | None = None,
    rectified: bool = False,
) -> Tensor:
    """Sum over k of source[neighbour k] @ kernel[k]; (rows, Cout).

    Args:
        source: (N, Cin).
        kernel: (K, Cin, Cout), or (K, Cout, Cin) if ``transposed``.
        mirrored: read the kernel's offsets in reverse.
        bias: (Cout,), added at the end.
        rectified: negative results become 0.
    """
    out = kernel.shape[1] if transposed else kernel.shape[2]
    source, kernel = source.contiguous(), kernel.contiguous()
    result = source.new_empty(rows, out)
    kept = None if bias is None else bias.contiguous()
    _call(
        f"convolve_{_NAMES[source.dtype]}",
        _pointer(source),
        _pointer(kernel),
        ctypes.c_void_p() if kept is None else _pointer(kept),
        _pointer(result),
        source.shape[1],
        out,
        int(transposed),
        int(mirrored),
        int(rectified),
        ctypes.byref(neighbours.struct),
        _long(rows),
        _threads(),
    )
    return result


def kernel_gradient(gathered: Tensor, straight: Tensor, neighbours: Neighbours) -> Tensor:
    """(K, P, Q): sums over rows i of outer(gathered[neighbour k of i], straight[i]), for (N, P) and (n, Q)."""
    gathered, straight = gathered.contiguous(), straight.contiguous()
    width, out = gathered.shape[1], straight.shape[1]
    result = gathered.new_empty(neighbours.volume, width, out)
    _call(
        f"kernel_gradient_{_NAMES[gathered.dtype]}",
        _pointer(gathered),
        _pointer(straight),
        _pointer(result),
        width,
        out,
        ctypes.byref(neighbours.struct),
        _long(len(straight)),
        _threads(),
    )
    return result


def convolve_single(source: Tensor, kernel: Tensor, positions: Tensor, *, transposed: bool = False) -> Tensor:
    """(n, Cout): source[r] @ kernel[k] where positions - 1 = r * K + k, 0 where positions (n,) int32 is 0."""
    out = kernel.shape[1] if transposed else kernel.shape[2]
    source, kernel, positions = source.contiguous(), kernel.contiguous(), positions.contiguous()
    result = source.new_empty(len(positions), out)
    _call(
        f"convolve_single_{_NAMES[source.dtype]}",
        _pointer(source),
        _pointer(kernel),
        _pointer(positions),
        _pointer(result),
        len(kernel),
        source.shape[1],
        out,
        int(transposed),
        _long(len(positions)),
        _threads(),
    )
    return result


def neighbour_table(neighbours: Neighbours, rows: int) -> Tensor:
    """(rows, K) int32: row + 1 of every neighbour."""
    table = torch.empty(rows, neighbours.volume, dtype=torch.int32)
    _call("neighbour_table", ctypes.byref(neighbours.struct), _long(rows), _pointer(table), _threads())
    return table


def neighbour_positions(neighbours: Neighbours, rows: int, targets: int) -> Tensor:
    """(targets,) int32: ``i * K + k + 1`` where row i meets the target under offset k, 0 where none does."""
    positions = torch.zeros(targets, dtype=torch.int32)
    _call(
        "neighbour_positions", ctypes.byref(neighbours.struct), _long(rows), _pointer(positions), _threads()
    )
    return positions


def _pointer(tensor: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())


def _long(value: int) -> ctypes.c_int64:
    return ctypes.c_int64(value)


def _threads() -> ctypes.c_int32:
    return ctypes.c_int32(torch.get_num_threads())


def _function(name: str) -> Any:
    found = library()
    assert found is not None
    return getattr(found, name)


def _call(name: str, *arguments: Any) -> None:
    if _function(name)(*arguments):
        raise MemoryError(f"the native engine's kernel {name} found no memory for its buffers")
