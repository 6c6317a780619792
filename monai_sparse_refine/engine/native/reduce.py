"""Deterministic reductions over groups of rows."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from monai_sparse_refine.engine.native.enums import SparseTensorQuantizationMode
from monai_sparse_refine.engine.native.fixed_order import column_sums


def reduce_rows(rows: Tensor, group: Tensor, groups: int, operation: str) -> Tensor:
    """Reduce rows that share a group, for many small groups; differentiable.

    Args:
        rows: (N, C).
        group: (N,) integers in [0, groups).
        groups: number of groups; one without rows becomes 0.
        operation: "sum", "mean" or "max".

    Returns:
        (groups, C)
    """
    if len(rows) == 0:
        return rows.sum() * rows.new_zeros(groups, rows.shape[1])
    group = group.long()
    order = torch.argsort(group, stable=True)
    lengths = torch.bincount(group, minlength=groups)
    exact = rows.float() if rows.dtype in (torch.float16, torch.bfloat16) else rows
    reduced = torch.segment_reduce(exact[order], operation, lengths=lengths, axis=0)
    return reduced.masked_fill((lengths == 0)[:, None], 0).to(rows.dtype)


def quantize_rows(
    features: Tensor, unique: Tensor, inverse: Tensor, mode: SparseTensorQuantizationMode
) -> Tensor:
    """Features of distinct coordinates from those of all given rows.

    Raises:
        ValueError: for a mode that cannot merge rows.
    """
    modes = SparseTensorQuantizationMode
    if mode == modes.RANDOM_SUBSAMPLE:
        return features[unique]
    if mode == modes.NO_QUANTIZATION:
        raise ValueError(
            f"quantization_mode is NO_QUANTIZATION, but {len(features) - len(unique)} of {len(features)} "
            "coordinates are duplicates. Remove them, or choose another mode."
        )
    if mode == modes.SPLAT_LINEAR_INTERPOLATION:
        raise ValueError(
            "SPLAT_LINEAR_INTERPOLATION is for TensorField.sparse(): integer coordinates have nothing to "
            "splat."
        )
    operation = {
        modes.UNWEIGHTED_AVERAGE: "mean",
        modes.UNWEIGHTED_SUM: "sum",
        modes.MAX_POOL: "max",
    }[mode]
    return reduce_rows(features, inverse, len(unique), operation)


class RowGroups(NamedTuple):
    """A few large groups of rows, such as the items of a batch.

    ``ids`` (N,) int64 in [0, groups); ``order`` (N,) sorts rows by group, None where they are sorted already;
    ``lengths`` of the groups.
    """

    ids: Tensor
    groups: int
    order: Tensor | None
    lengths: list[int]


def row_groups(ids: Tensor, count: int) -> RowGroups:
    """Prepare groups from their (N,) numbers."""
    ids = ids.long()
    ordered = bool((ids[1:] >= ids[:-1]).all())
    order = None if ordered else torch.argsort(ids, stable=True)
    return RowGroups(ids, count, order, torch.bincount(ids, minlength=count).tolist())


def group_sum(rows: Tensor, groups: RowGroups) -> Tensor:
    """(count, C) sums of (N, C) rows."""
    return _GroupSum.apply(rows, groups)


def group_mean(rows: Tensor, groups: RowGroups) -> Tensor:
    """(count, C) means; 0 for a group without rows."""
    lengths = torch.tensor(groups.lengths, dtype=rows.dtype, device=rows.device).clamp_(min=1)
    return group_sum(rows, groups) / lengths[:, None]


def group_max(rows: Tensor, groups: RowGroups) -> Tensor:
    """(count, C) maxima; 0 for a group without rows. Of several equal rows one gets the gradient."""
    ordered = rows if groups.order is None else rows[groups.order]
    pieces = ordered.split(groups.lengths)
    zero = rows.new_zeros(rows.shape[1])
    return torch.stack([piece.max(0).values if len(piece) else zero for piece in pieces])


def group_spread(values: Tensor, groups: RowGroups) -> Tensor:
    """(N, C): every row gets the value (count, C) of its group."""
    return _GroupSpread.apply(values, groups)


def _sum(rows: Tensor, groups: RowGroups) -> Tensor:
    ordered = rows if groups.order is None else rows.index_select(0, groups.order)
    return torch.stack([column_sums(piece) for piece in ordered.split(groups.lengths)])


class _GroupSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, groups: RowGroups) -> Tensor:
        ctx.groups = groups
        return _sum(rows, groups)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient.index_select(0, ctx.groups.ids), None


class _GroupSpread(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, groups: RowGroups) -> Tensor:
        ctx.groups = groups
        return values.index_select(0, groups.ids)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _sum(gradient, ctx.groups), None
