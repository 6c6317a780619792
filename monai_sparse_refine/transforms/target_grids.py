"""Grids finer than a mask's own, by MONAI's two conventions, and box means to bring probabilities onto them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from monai.data.utils import affine_to_spacing
from torch import Tensor

from monai_sparse_refine.errors import InputError

__all__ = ["TargetGrid", "average_onto", "reversed_grid", "target_grid"]

_ROUNDING = 1e-6  # a factor of 2.0000001 is 2
_SLAB = 1 << 24  # values at a time


class TargetGrid(NamedTuple):
    """A grid parallel to another one.

    ``shape`` in voxels; ``affine`` [4, 4] voxel to world mm; ``step`` and ``first`` for each axis: in voxels of the
    other grid, the size of a voxel and the centre of the first one.
    """

    shape: tuple[int, int, int]
    affine: Tensor
    step: tuple[float, float, float]
    first: tuple[float, float, float]

    @property
    def doublings(self) -> int:
        """Doublings of the other grid until no voxel is larger than this grid's, on any axis."""
        return max(0, math.ceil(math.log2(1 / min(self.step)) - _ROUNDING))

    def seen_from(self, start: Sequence[int]) -> TargetGrid:
        """The same grid where the other one is cut to begin with its voxel ``start``."""
        return self._replace(first=_three(np.subtract(self.first, start)))


def target_grid(
    shape: Sequence[int],
    affine: Tensor,
    *,
    factor: float | Sequence[float] | None = None,
    spacing: float | Sequence[float] | None = None,
    target_shape: Sequence[int] | None = None,
    scale_extent: bool = True,
) -> TargetGrid:
    """Grid of another spacing over the field of view of a volume. Give one of factor, spacing and target_shape.

    Args:
        shape: voxels of the volume (3,).
        affine: its affine [4, 4].
        factor: voxels per voxel, one number or one for each axis.
        spacing: mm, one number or one for each axis.
        target_shape: voxels (3,).
        scale_extent: as in ``monai.transforms.Spacing``. True keeps the voxels' edges: the grid divides exactly the
            same box, so that a factor of 2 doubles the shape, and the spacing reached may differ from the one asked
            for by at most half a voxel over the whole box. False keeps the centres of the first voxels and, as
            nearly as whole voxels can, of the last ones; n voxels become about (n - 1) * factor + 1, of exactly
            the spacing asked for.

    Raises:
        InputError: none or more than one of the three, or values that are not positive.
    """
    given = {"factor": factor, "spacing": spacing, "target_shape": target_shape}
    names = [name for name, value in given.items() if value is not None]
    if len(names) != 1:
        raise InputError(
            f"target grid has {' and '.join(names) or 'no size'}; give one of factor, spacing, target_shape"
        )
    try:
        values = np.broadcast_to(np.asarray(given[names[0]], dtype=float), (3,))
    except (TypeError, ValueError):
        values = np.zeros(3)
    if not (np.isfinite(values).all() and (values > 0).all()):
        raise InputError(f"{names[0]} is {given[names[0]]}; expected one or three positive numbers")
    voxels = np.asarray(shape, dtype=float)
    affine = torch.as_tensor(affine, dtype=torch.float64)
    if names[0] == "target_shape":
        target = np.rint(values)
        # Edges or centres of the first and last voxels coincide; one voxel has no pitch, so it keeps the box.
        centres = (target > 1) & (voxels > 1) & (not scale_extent)
        step = np.where(centres, (voxels - 1) / np.maximum(target - 1, 1), voxels / target)
        first = np.where(centres, 0, (step - 1) / 2)
    else:
        step = values / affine_to_spacing(affine, r=3).numpy() if names[0] == "spacing" else 1 / values
        if scale_extent:
            target = np.maximum(1, np.rint(voxels / step))
            step = voxels / target
        else:
            target = np.rint((voxels - 1) / step) + 1
        first = (step - 1) / 2 if scale_extent else np.zeros(3)
    scale = torch.eye(4, dtype=torch.float64)
    scale[:3, :3] = torch.diag(torch.from_numpy(step))
    scale[:3, 3] = torch.from_numpy(first)
    x, y, z = (int(n) for n in target)
    return TargetGrid((x, y, z), affine @ scale, _three(step), _three(first))


def reversed_grid(
    shape: Sequence[int], affine: Tensor, *, step: Sequence[float], first: Sequence[float]
) -> TargetGrid:
    """A grid of that shape and affine as the target of another one, which has that ``step`` and ``first`` in it."""
    x, y, z = shape
    return TargetGrid((x, y, z), affine, _three(1 / np.array(step)), _three(-np.divide(first, step)))


def average_onto(values: Tensor, grid: TargetGrid, *, doublings: int) -> Tensor:
    """Mean of a finer grid's values over every voxel of a target grid, as coarse masks are made from fine ones.

    Args:
        values: [X, Y, Z] on the grid whose voxels have been halved ``doublings`` times along every axis.
        grid: target; what it has beyond the box of ``values`` takes the border's values.
        doublings: how often.

    Returns:
        [*grid.shape], of the same dtype; the values themselves where the grids are one.
    """
    size = 2.0**doublings
    edges = []
    for axis in range(3):
        corner = torch.arange(grid.shape[axis] + 1, dtype=torch.float64) - 0.5
        edges.append((grid.first[axis] + corner * grid.step[axis] + 0.5) * size)
    # The first axis last, slab by slab, so that no intermediate is larger than the result by more than a slab.
    out = torch.empty(grid.shape, dtype=values.dtype, device=values.device)
    rows = max(1, _SLAB // max(1, math.prod(values.shape[1:])))
    for start in range(0, grid.shape[0], rows):
        stop = min(grid.shape[0], start + rows)
        low = min(max(0, math.floor(float(edges[0][start]))), values.shape[0] - 1)
        high = max(low + 1, min(values.shape[0], math.ceil(float(edges[0][stop]))))
        slab = _mean_along(values[low:high], 0, edges[0][start : stop + 1] - low)
        slab = _mean_along(_mean_along(slab, 1, edges[1]), 2, edges[2])
        out[start:stop] = slab
    return out


def _mean_along(values: Tensor, axis: int, edges: Tensor) -> Tensor:
    """Mean between consecutive edges (in voxels from the volume's edge) along one axis."""
    length = values.shape[axis]
    whole = torch.arange(length + 1, dtype=torch.float64)
    if len(edges) == length + 1 and torch.allclose(edges, whole, rtol=0, atol=_ROUNDING):
        return values
    lower, upper = edges[:-1], edges[1:]
    taps = int((upper.ceil() - lower.floor()).max())
    total: Tensor | None = None
    form = [1] * values.ndim
    form[axis] = -1
    for tap in range(taps):
        cell = lower.floor() + tap  # the overlap of [cell, cell + 1) with the voxel
        weight = ((upper.minimum(cell + 1) - lower.maximum(cell)).clamp(min=0) / (upper - lower)).to(values)
        part = values.index_select(axis, cell.long().clamp(0, length - 1).to(values.device))
        part = part.mul_(weight.view(form))
        total = part if total is None else total.add_(part)
    assert total is not None  # a voxel overlaps at least one cell
    return total


def _three(values: np.ndarray) -> tuple[float, float, float]:
    x, y, z = (float(v) for v in values)
    return x, y, z
