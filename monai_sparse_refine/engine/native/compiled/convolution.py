"""Convolutions through the compiled kernels: float32 or float64, on the CPU."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from monai_sparse_refine.engine.native.compiled.calls import NAMES, run
from monai_sparse_refine.engine.native.compiled.index import CellIndex

LONGEST_RUN = 32


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
    """Where the rows under a kernel come from: a table, an index with the cell of every row, or each from itself.

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
        if index is None or keys is None or steps is None:
            return
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
    run(
        f"convolve_{NAMES[source.dtype]}",
        source,
        kernel,
        kept,
        result,
        source.shape[1],
        out,
        int(transposed),
        int(mirrored),
        int(rectified),
        ctypes.byref(neighbours.struct),
        rows,
    )
    return result


def kernel_gradient(gathered: Tensor, straight: Tensor, neighbours: Neighbours) -> Tensor:
    """(K, P, Q): sums over rows i of outer(gathered[neighbour k of i], straight[i]), for (N, P) and (n, Q)."""
    gathered, straight = gathered.contiguous(), straight.contiguous()
    width, out = gathered.shape[1], straight.shape[1]
    result = gathered.new_empty(neighbours.volume, width, out)
    run(
        f"kernel_gradient_{NAMES[gathered.dtype]}",
        gathered,
        straight,
        result,
        width,
        out,
        ctypes.byref(neighbours.struct),
        len(straight),
    )
    return result


def convolve_single(source: Tensor, kernel: Tensor, positions: Tensor, *, transposed: bool = False) -> Tensor:
    """(n, Cout): source[r] @ kernel[k] where positions - 1 = r * K + k, 0 where positions (n,) int32 is 0."""
    out = kernel.shape[1] if transposed else kernel.shape[2]
    source, kernel, positions = source.contiguous(), kernel.contiguous(), positions.contiguous()
    result = source.new_empty(len(positions), out)
    run(
        f"convolve_single_{NAMES[source.dtype]}",
        source,
        kernel,
        positions,
        result,
        len(kernel),
        source.shape[1],
        out,
        int(transposed),
        len(positions),
    )
    return result


def neighbour_table(neighbours: Neighbours, rows: int) -> Tensor:
    """(rows, K) int32: row + 1 of every neighbour."""
    table = torch.empty(rows, neighbours.volume, dtype=torch.int32)
    run("neighbour_table", ctypes.byref(neighbours.struct), rows, table)
    return table


def neighbour_positions(neighbours: Neighbours, rows: int, targets: int) -> Tensor:
    """(targets,) int32: ``i * K + k + 1`` where row i meets the target under offset k, 0 where none does."""
    positions = torch.zeros(targets, dtype=torch.int32)
    run("neighbour_positions", ctypes.byref(neighbours.struct), rows, positions)
    return positions
