"""Sparse rows as a dense tensor or as PyTorch's COO tensor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from monai_sparse_refine.engine.native.coordinates import floor_divide


def to_dense(
    features: Tensor,
    coordinates: Tensor,
    stride: Sequence[int],
    shape: Sequence[int] | None,
    min_coordinate: Any,
    contract_stride: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """See :meth:`SparseTensor.dense`."""
    cells, low, step = _cells(coordinates, stride, min_coordinate, contract_stride)
    dimension, channels = len(stride), features.shape[1]
    if shape is None:
        top = cells.amax(0).tolist() if len(cells) else [-1] * (dimension + 1)
        shape = (top[0] + 1, channels, *(t + 1 for t in top[1:]))
    shape = tuple(int(n) for n in shape)
    if len(shape) != dimension + 2 or shape[1] != channels:
        raise ValueError(f"shape must be [B, {channels}, and {dimension} axes], got {shape}.")
    if len(cells):
        bottom, top = cells.amin(0).tolist(), cells.amax(0).tolist()
        limits = (shape[0], *shape[2:])
        if min(bottom) < 0 or any(t >= n for t, n in zip(top, limits, strict=True)):
            raise ValueError(
                f"coordinates from {bottom} to {top} (batch first) do not fit a dense tensor of shape "
                f"{shape}."
            )
    dense = features.new_zeros(shape[0], *shape[2:], channels)
    dense = dense.index_put(tuple(cells.long().unbind(1)), features)
    return dense.movedim(-1, 1).contiguous(), low, step


def to_coo(
    features: Tensor,
    coordinates: Tensor,
    stride: Sequence[int],
    min_coordinate: Any,
    max_coordinate: Any,
    contract_stride: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """See :meth:`SparseTensor.sparse`; without bounds the box of the coordinates."""
    if min_coordinate is None and len(coordinates):
        min_coordinate = coordinates[:, 1:].amin(0)
    cells, low, step = _cells(coordinates, stride, min_coordinate, contract_stride)
    if max_coordinate is None:
        top = cells.amax(0).tolist() if len(cells) else [-1] * cells.shape[1]
    else:
        bound = torch.as_tensor(max_coordinate).reshape(-1).cpu() - low.reshape(-1).cpu()
        spatial = (bound // step).tolist() if contract_stride else bound.tolist()
        top = [int(cells[:, 0].amax()) if len(cells) else -1, *spatial]
    size = (*(int(t) + 1 for t in top), features.shape[1])
    return torch.sparse_coo_tensor(cells.t().long(), features, size, check_invariants=False), low, step


def _cells(
    coordinates: Tensor, stride: Sequence[int], min_coordinate: Any, contract_stride: bool
) -> tuple[Tensor, Tensor, Tensor]:
    dimension = len(stride)
    step = torch.tensor(list(stride), dtype=torch.int32)
    spatial = coordinates[:, 1:]
    if min_coordinate is None:
        if len(coordinates) and int(spatial.amin()) < 0:
            raise ValueError(
                f"coordinates are negative (minimum {spatial.amin(0).tolist()}): pass min_coordinate to "
                "say where "
                "the dense tensor starts."
            )
        low = torch.zeros(dimension, dtype=torch.int32)
    else:
        low = torch.as_tensor(min_coordinate).to("cpu", torch.int32).reshape(-1)
        if len(low) != dimension:
            raise ValueError(f"min_coordinate must have {dimension} values, got {len(low)}.")
        if bool((low % step.clamp(min=1)).any()):
            raise ValueError(
                f"min_coordinate must be a multiple of the tensor stride {list(stride)}, got {low.tolist()}."
            )
    columns = [coordinates[:, 0]]
    for axis, (start, size) in enumerate(zip(low.tolist(), stride, strict=True)):
        column = spatial[:, axis] - start
        columns.append(floor_divide(column, size) if contract_stride and size else column)
    return torch.stack(columns, dim=1), low[None].to(coordinates.device), step
