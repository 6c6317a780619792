"""The union of coordinate maps, and sums of features over it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from monai_sparse_refine.engine.native.compiled.build import library
from monai_sparse_refine.engine.native.compiled.calls import usable
from monai_sparse_refine.engine.native.compiled.index import union_targets
from monai_sparse_refine.engine.native.compiled.rows import add_rows
from monai_sparse_refine.engine.native.coordinate_map import CoordinateMapKey
from monai_sparse_refine.engine.native.gather_gemm import take_rows
from monai_sparse_refine.engine.native.manager import CoordinateManager


class UnitedMap(NamedTuple):
    """Key of the united map, its number of rows; for each input the united row of every row, and their number.

    None stands for "the first rows, in order".
    """

    key: CoordinateMapKey
    rows: int
    targets: list[Tensor | None]
    lengths: list[int]


def union_maps(manager: CoordinateManager, keys: Sequence[CoordinateMapKey]) -> UnitedMap:
    """Unite maps of one tensor stride: the rows of the first, then what the others add, in order."""
    strides = {tuple(key.get_tensor_stride()) for key in keys}
    if len(strides) != 1:
        raise ValueError(f"Only tensors of one tensor stride can be united, got strides {sorted(strides)}.")
    current = keys[0]
    targets: list[Tensor | None] = [None]
    for key in keys[1:]:
        if key == current:
            targets.append(None)
            continue
        current_map, other = manager.coordinate_map(current), manager.coordinate_map(key)
        found = current_map.lookup().find(other.coordinates, other.box)
        manager.used(current_map)
        missing = (found == 0).nonzero().squeeze(1)
        targets.append(_targets(found, missing, len(current_map)))
        if len(missing):
            merged = torch.cat([current_map.coordinates, other.coordinates.index_select(0, missing)])
            current = manager.register(merged, current_map.stride, None)
    return UnitedMap(current, manager.size(current), targets, [manager.size(key) for key in keys])


def union_rows(features: Sequence[Tensor], union: UnitedMap, which: Sequence[int]) -> Tensor:
    """Sum of features over the union; a missing feature is 0.

    Args:
        features: (N_i, C) each.
        union: result of :func:`union_maps`.
        which: the input of the union that each entry belongs to.

    Returns:
        (rows, C)
    """
    widths = {rows.shape[1] for rows in features}
    if len(widths) != 1:
        raise ValueError(
            f"Only tensors with the same number of channels can be united, got {sorted(widths)}."
        )
    dtype = features[0].dtype
    for rows in features[1:]:
        dtype = torch.promote_types(dtype, rows.dtype)
    targets = [union.targets[i] for i in which]
    return _UnionRows.apply(union.rows, targets, *(rows.to(dtype) for rows in features))


def absent_rows(union: UnitedMap, which: int, *, like: Tensor) -> Tensor:
    """(rows, 1): 1 where one input of the union has no row, else 0."""
    absent = like.new_ones(union.rows, 1)
    target = union.targets[which]
    if target is None:
        absent[: union.lengths[which]] = 0
    else:
        absent[target.long()] = 0
    return absent


def _targets(found: Tensor, missing: Tensor, start: int) -> Tensor:
    if found.device.type == "cpu" and library() is not None:
        return union_targets(found, start)[0]
    targets = found - 1
    targets[missing] = torch.arange(start, start + len(missing), dtype=targets.dtype, device=targets.device)
    return targets


class _UnionRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: int, targets: list[Tensor | None], *features: Tensor) -> Tensor:
        ctx.targets, ctx.lengths = targets, [len(f) for f in features]
        result: Tensor | None = None
        for target, values in zip(targets, features, strict=True):
            if target is not None and usable(values):
                if result is None:
                    result = values.new_zeros(rows, values.shape[1])
                add_rows(values, target, result)
            elif target is not None:
                # Read backwards: what each united row takes, so that every row is written once.
                source = torch.zeros(rows, dtype=torch.int32, device=values.device)
                source[target.long()] = torch.arange(
                    1, len(values) + 1, dtype=torch.int32, device=values.device
                )
                spread = take_rows(values, source)
                result = spread if result is None else result.add_(spread)
            elif result is None:
                result = values.new_empty(rows, values.shape[1])
                result[: len(values)] = values
                result[len(values) :] = 0
            else:
                result[: len(values)] += values
        assert result is not None
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        gradients: list[Tensor | None] = []
        for target, length, wanted in zip(ctx.targets, ctx.lengths, ctx.needs_input_grad[2:], strict=True):
            if not wanted:
                gradients.append(None)
            elif target is None:
                gradients.append(gradient[:length])
            else:
                gradients.append(gradient.index_select(0, target))
        return None, None, *gradients
