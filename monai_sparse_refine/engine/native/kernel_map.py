"""Which row of one coordinate map meets which row of another under which kernel offset.

The coarse side of a map owns the kernel: cell ``c`` of the coarse side meets cell ``c + offset`` of the fine
    side.
A convolution reads the fine side and writes the coarse one, a transposed convolution the other way round;
without a
stride both sides are the same. Tables hold row + 1, 0 where a neighbour is missing.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from monai_sparse_refine.engine.native.compiled.convolution import (
    Neighbours,
    neighbour_positions,
    neighbour_table,
)
from monai_sparse_refine.engine.native.coordinate_map import CoordinateMap
from monai_sparse_refine.engine.native.coordinates import INT32_LIMIT
from monai_sparse_refine.engine.native.lookup import CoordinateLookup


class KernelMap:
    """Neighbour tables between two coordinate maps.

    Args:
        coarse: the map that owns the kernel, n rows.
        fine: the map whose cells the offsets visit, m rows.
        offsets: (K, D) int64 offsets on the CPU, in cells of the fine side (dilation included).
        on_use: told which map's lookup is needed.
        regular: True if the fine cells of distinct coarse cells never coincide, e.g. k2 s2.
    """

    def __init__(
        self,
        coarse: CoordinateMap,
        fine: CoordinateMap,
        offsets: Tensor,
        *,
        regular: bool,
        on_use: Callable[[CoordinateMap], None],
    ) -> None:
        self.n_coarse, self.n_fine = len(coarse), len(fine)
        self.volume = len(offsets)
        self.regular = regular
        # With the same cells on both sides and offsets that mirror each other, reading the table
        # backwards along its offsets inverts it.
        self.symmetric = coarse is fine and bool((offsets == -offsets.flip(0)).all())
        self.device = fine.coordinates.device
        self._coarse, self._fine, self._offsets = coarse, fine, offsets
        self._finder: tuple[CoordinateLookup, Tensor, Tensor, Tensor | None] | None = None
        self._on_use = on_use
        self._inverse: Tensor | None = None
        self._position: Tensor | None = None

    def release(self) -> None:
        """Forget what can be computed again."""
        self._finder = None

    def fine_rows(self, start: int, stop: int) -> Tensor:
        """(stop - start, K) int32: fine row + 1 under every offset of coarse rows start .. stop.

        Computed at every call: that takes an eighth of a training step, and the tables a third of its memory.
        """
        lookup, keys, steps, outside = self._find()
        if lookup.index is not None:
            part = None if outside is None else outside[start:stop]
            return neighbour_table(
                Neighbours(self.volume, index=lookup.index, keys=keys[start:stop], steps=steps, outside=part),
                stop - start,
            )
        rows = lookup.at(keys[start:stop, None] + steps)
        if outside is not None:
            rows.masked_fill_(outside[start:stop, None], 0)
        return rows

    def neighbours(self, *, coarse: bool) -> Neighbours:
        """The rows of one side, for the compiled kernels: of the coarse side if ``coarse``, else of the fine one."""
        if coarse:
            return Neighbours(self.volume, table=self.coarse_rows(0, self.n_fine))
        lookup, keys, steps, outside = self._find()
        if lookup.index is not None:
            return Neighbours(self.volume, index=lookup.index, keys=keys, steps=steps, outside=outside)
        return Neighbours(self.volume, table=self.fine_rows(0, self.n_coarse))

    def coarse_rows(self, start: int, stop: int) -> Tensor:
        """(stop - start, K) int32: coarse row + 1 that meets fine rows start .. stop under every offset.

        The whole inverse is always stored: it is written from the other side.
        """
        if self._inverse is None:
            self._inverse = self._invert()
        return self._inverse[1 + start : 1 + stop]

    def positions(self) -> Tensor:
        """(m,) int32 for a regular map: ``coarse row * K + k + 1`` of every fine row, 0 where it has none.

        Raises:
            ValueError: these numbers do not fit 32 bits.
        """
        if self.n_coarse * self.volume > INT32_LIMIT:
            raise ValueError(
                f"a kernel of {self.volume} cells on {self.n_coarse} rows makes more than {INT32_LIMIT} pairs, the "
                "limit of the native engine's 32-bit tables. Use a smaller kernel and stride, or fewer rows."
            )
        if self._position is None and self._find()[0].index is not None:
            self._position = torch.zeros(1 + self.n_fine, dtype=torch.int32)
            if self.n_fine:
                neighbours = self.neighbours(coarse=False)
                self._position[1:] = neighbour_positions(neighbours, self.n_coarse, self.n_fine)
        if self._position is None:
            self._position = torch.zeros(1 + self.n_fine, dtype=torch.int32, device=self.device)
            for start, stop in self.chunks():
                rows = self.fine_rows(start, stop).reshape(-1).long()
                number = torch.arange(start * self.volume, stop * self.volume, device=self.device) + 1
                self._position[rows] = number.to(torch.int32)
        return self._position[1:]

    def chunks(self, rows: int | None = None, size: int = 1 << 16) -> list[tuple[int, int]]:
        """Ranges of at most ``size`` that cover ``rows`` (the coarse side's by default)."""
        total = self.n_coarse if rows is None else rows
        return [(start, min(start + size, total)) for start in range(0, total, size)]

    def _invert(self) -> Tensor:
        inverse = torch.zeros(1 + self.n_fine, self.volume, dtype=torch.int32, device=self.device)
        flat = inverse.view(-1)
        lane = torch.arange(self.volume, device=self.device)
        for start, stop in self.chunks():
            # A fine row meets one coarse row per offset, so only the unused row 0 is written twice.
            target = self.fine_rows(start, stop).long() * self.volume + lane
            row = torch.arange(start + 1, stop + 1, dtype=torch.int32, device=self.device)
            flat[target.view(-1)] = row[:, None].expand(-1, self.volume).reshape(-1)
        return inverse

    def _find(self) -> tuple[CoordinateLookup, Tensor, Tensor, Tensor | None]:
        if self._finder is None:
            self._finder = self._prepare()
        return self._finder

    def _prepare(self) -> tuple[CoordinateLookup, Tensor, Tensor, Tensor | None]:
        reach = [int(v) for v in self._offsets.abs().amax(0)]
        same = self._coarse is self._fine
        lookup = self._fine.lookup(reach if same else [2 * r for r in reach])
        self._on_use(self._fine)
        steps = lookup.key_offsets(self._offsets)
        if same:
            return lookup, lookup.own_keys, steps, None
        outside = lookup.outside(self._coarse.coordinates, self._coarse.box, reach)
        keys = lookup.keys(self._coarse.coordinates)
        if outside is not None and len(keys) and lookup.rows:
            keys = torch.where(
                outside, lookup.own_keys[0], keys
            )  # any key whose neighbours are inside the grid
        return lookup, keys, steps, outside
