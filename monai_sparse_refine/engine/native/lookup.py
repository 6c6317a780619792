"""From coordinates to row numbers: a dense index grid where its box is affordable, sorted keys elsewhere.

Every lookup answers with row + 1, and 0 for "not there". So a feature matrix with a zero row in front can be
gathered without a mask, and a fresh grid of zeros is already a valid, empty one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from monai_sparse_refine.engine.native.compiled.calls import usable_coordinates
from monai_sparse_refine.engine.native.compiled.index import CellIndex, Grid, build_index
from monai_sparse_refine.engine.native.coordinates import (
    INT32_LIMIT,
    Box,
    Stride,
    bounding_box,
    floor_divide,
    is_multiple,
)

# A grid is built while it has at most CELLS_PER_ROW cells a row (a thin shell in a 512^3 volume has about
# 50).
CELLS_PER_ROW = 256
SMALL_GRID = 2**22
LARGEST_GRID = 2**30
KEY_LIMIT = 2**62


class CoordinateLookup:
    """Find the rows of distinct coordinates.

    Args:
        coordinates: (N, 1 + D) int32, distinct, spatial part in multiples of ``stride``.
        stride: tensor stride per axis.
        margin: cells per spatial axis by which a query may leave the box on either side.
        box: bounds of ``coordinates`` if known.

    Raises:
        ValueError: if the box has more than 2^62 cells, the limit of the 64-bit keys.
    """

    def __init__(
        self, coordinates: Tensor, stride: Stride, *, margin: Sequence[int], box: Box | None = None
    ) -> None:
        box = bounding_box(coordinates) if box is None else box
        self.rows = len(coordinates)
        self.stride = stride
        self.margin = tuple(int(m) for m in margin)
        cell_low = [box.low[0]]
        shape = [box.shape[0]]
        for axis, step in enumerate(stride):
            bottom, top = box.low[1 + axis] // step, box.high[1 + axis] // step
            cell_low.append(bottom - self.margin[axis])
            shape.append(top - bottom + 1 + 2 * self.margin[axis])
        self.low = tuple(cell_low)
        self.shape = tuple(shape) if self.rows else (0,) * len(shape)
        self.cells = 1
        for length in self.shape:
            self.cells *= length
        if self.cells > KEY_LIMIT:
            raise ValueError(
                f"coordinates span a box of {self.shape} cells; the native engine's 64-bit keys cover at "
                "most 2^62. "
                "Bring far-apart coordinates closer, or use separate tensors."
            )
        self.pitch = _pitches(self.shape)
        self._grid: Tensor | None = None
        self._sorted: tuple[Tensor, Tensor] | None = None
        self._box: Grid | None = None
        self.index: CellIndex | None = None  # instead of a grid, where the compiled kernels are there
        affordable = grid_affordable(self.cells, self.rows)
        if self.rows and affordable and usable_coordinates(coordinates):
            self._box = Grid((1, *stride), self.low, self.shape)
            self.own_keys = self._box.keys(coordinates)
            self.index = build_index(self.own_keys, self.cells)
            return
        self.own_keys = self.keys(coordinates)
        if affordable:
            self._grid = _index_grid(self.cells, self.own_keys)
        else:
            ordered, order = torch.sort(self.own_keys)
            self._sorted = (ordered, (order + 1).to(torch.int32))

    def keys(self, coordinates: Tensor) -> Tensor:
        """(n,) cell keys of coordinates inside the box extended by the margin; int32 where that is enough.

        For other coordinates the result means nothing.
        """
        if self._box is not None and usable_coordinates(coordinates):
            return self._box.keys(coordinates)
        # One subtraction at the end: the sum of coordinate times pitch must fit the type as well.
        reach = zip(self.pitch, self.low, self.shape, strict=True)
        small = sum(pitch * (abs(low) + length) for pitch, low, length in reach) <= INT32_LIMIT
        key: Tensor | None = None
        base = 0
        for axis, (pitch, low) in enumerate(zip(self.pitch, self.low, strict=True)):
            base += pitch * low
            if self.shape[axis] == 1 and axis < len(self.pitch) - 1:
                base -= pitch * low
                continue
            column = coordinates[:, axis] if small else coordinates[:, axis].long()
            column = floor_divide(column, self.stride[axis - 1]) if axis else column
            key = column * pitch if key is None else key.add_(column, alpha=pitch)
        assert key is not None
        return key.sub_(base)

    def key_offsets(self, offsets: Tensor) -> Tensor:
        """(K,) key differences of (K, D) offsets in cells; add them to keys to visit neighbours."""
        pitch = torch.tensor(self.pitch[1:], dtype=torch.int64)
        return (
            (offsets.cpu().long() * pitch).sum(1).to(device=self.own_keys.device, dtype=self.own_keys.dtype)
        )

    def outside(self, coordinates: Tensor, box: Box, reach: Sequence[int]) -> Tensor | None:
        """(n,) bool: more than ``reach`` cells from the box, or off its lattice; None if no query is."""
        suspects = torch.zeros(len(coordinates), dtype=torch.bool, device=coordinates.device)
        if self.rows == 0:
            return ~suspects
        found = False
        for axis, low in enumerate(self.low):
            step, grow, margin = (
                (1, 0, 0) if axis == 0 else (self.stride[axis - 1], reach[axis - 1], self.margin[axis - 1])
            )
            first = (low + margin - grow) * step
            last = (low + self.shape[axis] - margin + grow) * step - 1
            if box.low[axis] < first or box.high[axis] > last:
                suspects |= (coordinates[:, axis] < first) | (coordinates[:, axis] > last)
                found = True
        if any(step > 1 for step in self.stride):
            suspects |= ~is_multiple(coordinates, self.stride)
            found = True
        return suspects if found else None

    def has_duplicates(self) -> bool:
        """Whether two rows have the same coordinates (then :meth:`at` answers with either)."""
        if self.rows < 2:
            return False
        if self.index is not None:
            return not self.index.distinct
        if self._grid is not None:
            row = torch.arange(1, self.rows + 1, dtype=torch.int32, device=self.own_keys.device)
            return not torch.equal(self.at(self.own_keys), row)
        assert self._sorted is not None
        return bool((self._sorted[0][1:] == self._sorted[0][:-1]).any())

    def at(self, keys: Tensor) -> Tensor:
        """Row + 1 of each key, 0 where there is none; int32, in the shape of ``keys``."""
        flat = keys.reshape(-1)
        if self.rows == 0:
            return torch.zeros(keys.shape, dtype=torch.int32, device=keys.device)
        if self.index is not None:
            return self.index.at(flat).view(keys.shape)
        if self._grid is not None:
            return self._grid.index_select(0, flat).view(keys.shape)
        assert self._sorted is not None
        ordered, row = self._sorted
        position = torch.searchsorted(ordered, flat).clamp_(max=self.rows - 1)
        found = ordered.index_select(0, position) == flat
        return row.index_select(0, position).mul_(found).view(keys.shape)

    def find(self, coordinates: Tensor, box: Box | None = None) -> Tensor:
        """(n,) int32: row + 1 of any coordinates, 0 where there is none."""
        if self.rows == 0 or len(coordinates) == 0:
            return torch.zeros(len(coordinates), dtype=torch.int32, device=coordinates.device)
        if self.index is not None and self._box is not None and usable_coordinates(coordinates):
            return self.index.find(coordinates, self._box)
        outside = self.outside(
            coordinates, bounding_box(coordinates) if box is None else box, (0,) * len(self.stride)
        )
        if outside is None:
            return self.at(self.keys(coordinates))
        inside = (~outside).nonzero().squeeze(1)
        result = torch.zeros(len(coordinates), dtype=torch.int32, device=coordinates.device)
        result[inside] = self.at(self.keys(coordinates.index_select(0, inside)))
        return result


def grid_affordable(cells: int, rows: int) -> bool:
    """Whether a grid of that many cells is worth its memory for that many rows."""
    return cells <= min(LARGEST_GRID, SMALL_GRID + CELLS_PER_ROW * rows)


def zero_grid(cells: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Zeros; on a CPU from NumPy, whose fresh pages cost no memory until they are written."""
    if device.type != "cpu":
        return torch.zeros(cells, dtype=dtype, device=device)
    return torch.from_numpy(np.zeros(cells, dtype={torch.int32: np.int32, torch.bool: np.bool_}[dtype]))


def unique_keys(keys: Tensor, cells: int) -> Tensor:
    """Distinct keys of [0, cells), ascending, int64."""
    if grid_affordable(cells, len(keys)):
        seen = zero_grid(cells, torch.bool, keys.device)
        seen[keys.long()] = True
        return seen.nonzero().squeeze(1)
    return torch.unique(keys).long()


def _index_grid(cells: int, keys: Tensor) -> Tensor:
    grid = zero_grid(cells, torch.int32, keys.device)
    grid[keys.long()] = torch.arange(1, len(keys) + 1, dtype=torch.int32, device=keys.device)
    return grid


def _pitches(shape: Sequence[int]) -> tuple[int, ...]:
    pitches = []
    step = 1
    for length in reversed(shape):
        pitches.append(step)
        step *= length
    return tuple(reversed(pitches))
