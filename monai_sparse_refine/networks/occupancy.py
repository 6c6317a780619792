"""Membership of sparse coordinates in an occupied set, level by level."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from monai_sparse_refine.engine.native.coordinate_map import CoordinateMap, strided_coordinates
from monai_sparse_refine.engine.native.coordinates import bounding_box, check_coordinates


class OccupiedCells:
    """Which cells of the levels of a network hold a voxel of a mask, whichever engine computes the network.

    Args:
        members: (M, 1 + D) integer rows [batch, x, y, ...] at stride 1.
    """

    def __init__(self, members: Tensor) -> None:
        rows = check_coordinates(members, "members")
        self._dimension = rows.shape[1] - 1
        self._levels = {1: CoordinateMap(rows, (1,) * self._dimension)}

    def at(self, coordinates: Tensor, *, stride: int = 1) -> Tensor:
        """Tell which coordinates of a strided level hold at least one member voxel.

        Args:
            coordinates: (N, 1 + D) integer rows, spatial part in multiples of ``stride``.
            stride: tensor stride of ``coordinates``, in voxels.

        Returns:
            (N,) bool: True where the cell [c, c + stride) of the row contains a member.
        """
        rows = check_coordinates(coordinates)
        level = self._level(stride)
        if len(rows) == 0 or len(level) == 0:
            return torch.zeros(len(rows), dtype=torch.bool, device=rows.device)
        found = level.lookup().find(rows)
        level.drop_lookup()
        return found > 0

    def _level(self, stride: int) -> CoordinateMap:
        if stride not in self._levels:
            # From half the stride: a level has about a quarter of the cells of the one before.
            source = self._level(stride // 2 if stride % 2 == 0 else 1)
            steps = (stride,) * self._dimension
            self._levels[stride] = CoordinateMap(strided_coordinates(source, steps), steps)
        return self._levels[stride]


def within_bounds(coordinates: Tensor, bounds: Sequence[int]) -> Tensor:
    """Tell which rows of (N, 1 + D) coordinates lie in the volume [0, bounds) of spatial shape ``bounds``."""
    high = torch.as_tensor(list(bounds), dtype=coordinates.dtype, device=coordinates.device)
    spatial = coordinates[:, 1:]  # (N, D)
    return ((spatial >= 0) & (spatial < high)).all(1)


def all_within_bounds(coordinates: Tensor, bounds: Sequence[int]) -> bool:
    """Tell whether all of (N, 1 + D) coordinates lie in the volume [0, bounds)."""
    box = bounding_box(coordinates)
    return all(
        low >= 0 and high < length
        for low, high, length in zip(box.low[1:], box.high[1:], bounds, strict=True)
    )
