"""Multilinear interpolation of rows at real coordinates."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from monai_sparse_refine.engine.native.coordinate_map import CoordinateMap
from monai_sparse_refine.engine.native.kernel_region import cube_offsets
from monai_sparse_refine.engine.native.reduce import reduce_rows


class InterpolationWeights(NamedTuple):
    """(P,) int64 input rows and sample numbers, (P,) weights above 0, and the number of samples."""

    rows: Tensor
    samples: Tensor
    weights: Tensor
    total: int


def interpolation_weights(source: CoordinateMap, samples: Tensor) -> InterpolationWeights:
    """Which rows of a map surround real coordinates, and how close they are.

    Args:
        source: n rows.
        samples: (M, 1 + D) real coordinates [batch, x, y, ...] in voxels.

    Raises:
        ValueError: for another shape or values that are not finite.
    """
    dimension = len(source.stride)
    if not isinstance(samples, Tensor) or samples.ndim != 2 or samples.shape[1] != dimension + 1:
        got = tuple(samples.shape) if isinstance(samples, Tensor) else type(samples).__name__
        raise ValueError(f"query coordinates must be a tensor (M, {dimension + 1}), batch first; got {got}.")
    real = samples if samples.is_floating_point() else samples.double()
    if not bool(real.isfinite().all()):
        raise ValueError("query coordinates must be finite.")
    step = torch.tensor(source.stride, dtype=real.dtype, device=real.device)
    cell = real[:, 1:] / step
    base = cell.floor()
    fraction = cell - base  # (M, D)
    corners = cube_offsets((2,) * dimension).to(real.device)  # (2^D, D)
    weights = torch.ones(len(real), len(corners), dtype=real.dtype, device=real.device)
    for axis in range(dimension):
        high = corners[:, axis].bool()
        weights *= torch.where(high, fraction[:, axis, None], 1 - fraction[:, axis, None])
    voxels = (base[:, None] + corners) * step  # (M, 2^D, D)
    batch = real[:, None, :1].expand(-1, len(corners), -1)
    rows = source.lookup().find(torch.cat([batch, voxels], dim=2).view(-1, dimension + 1).to(torch.int32))
    used = ((rows > 0) & (weights.reshape(-1) > 0)).nonzero().squeeze(1)
    return InterpolationWeights(
        rows[used].long() - 1,
        used.div(len(corners), rounding_mode="floor"),
        weights.reshape(-1)[used],
        len(samples),
    )


def interpolate_rows(features: Tensor, weights: InterpolationWeights) -> Tensor:
    """(M, C) weighted sums of (N, C) features; differentiable in the features."""
    scale = weights.weights.to(features.dtype)[:, None]
    picked = _Pick.apply(features, weights.rows)
    return reduce_rows(picked * scale, weights.samples, weights.total, "sum")


def splat_rows(features: Tensor, weights: InterpolationWeights, rows: int) -> Tensor:
    """The adjoint: (rows, C) sums of what the samples' features (M, C) give to each row."""
    scale = weights.weights.to(features.dtype)[:, None]
    picked = _Pick.apply(features, weights.samples)
    return reduce_rows(picked * scale, weights.rows, rows, "sum")


class _Pick(torch.autograd.Function):
    """Rows at any indices; backward adds in a fixed order."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, index: Tensor) -> Tensor:
        ctx.save_for_backward(index)
        ctx.length = len(rows)
        return rows.index_select(0, index)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (index,) = ctx.saved_tensors
        return reduce_rows(gradient, index, ctx.length, "sum"), None
