"""Membership of sparse coordinates in an occupied set, through a boolean grid over its box."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def occupied(coordinates: Tensor, members: Tensor, *, stride: int = 1) -> Tensor:
    """Tell which coordinates of a strided level hold at least one member voxel.

    Args:
        coordinates: (N, 1 + D) integer rows [batch, x, y, ...], spatial part in multiples of ``stride``.
        members: (M, 1 + D) integer rows at stride 1.
        stride: tensor stride of ``coordinates``, in voxels.

    Returns:
        (N,) bool: True where the cell [c, c + stride) of the row contains a row of ``members``.
    """
    if len(coordinates) == 0 or len(members) == 0:
        return torch.zeros(len(coordinates), dtype=torch.bool, device=coordinates.device)
    cells = _cells(members, stride)
    queries = _cells(coordinates, stride)
    low, high = cells.amin(0), cells.amax(0)
    grid = torch.zeros((high - low + 1).tolist(), dtype=torch.bool, device=coordinates.device)
    grid[tuple((cells - low).unbind(1))] = True
    inside = ((queries >= low) & (queries <= high)).all(1)
    # Rows outside the box are clamped to a valid cell only so that one gather serves all rows.
    found = grid[tuple((queries.clamp(low, high) - low).unbind(1))]
    return found & inside


def within_bounds(coordinates: Tensor, bounds: Sequence[int]) -> Tensor:
    """Tell which rows of (N, 1 + D) coordinates lie in the volume [0, bounds) of spatial shape ``bounds``."""
    high = torch.as_tensor(list(bounds), dtype=coordinates.dtype, device=coordinates.device)
    spatial = coordinates[:, 1:]  # (N, D)
    return ((spatial >= 0) & (spatial < high)).all(1)


def _cells(coordinates: Tensor, stride: int) -> Tensor:
    cells = coordinates.long()
    if stride > 1:
        cells = torch.cat([cells[:, :1], cells[:, 1:].div(stride, rounding_mode="floor")], dim=1)
    return cells
