"""From a list of items to one batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor


def batched_coordinates(
    coords: Sequence[Any], dtype: torch.dtype = torch.int32, device: torch.device | str | None = None
) -> Tensor:
    """Stack the coordinates of items with their batch index in front.

    Args:
        coords: (N_i, D) arrays or tensors; real numbers are floored for an integer dtype.
        dtype: int32, or a floating-point dtype for a TensorField.
        device: of the result.

    Returns:
        (sum of N_i, 1 + D)

    Raises:
        ValueError: for no items, or items of other shapes.
    """
    if not isinstance(coords, Sequence) or len(coords) == 0:
        raise ValueError(
            f"coords must be a non-empty sequence of (N, D) coordinates, got {type(coords).__name__}."
        )
    items = [torch.as_tensor(c) for c in coords]
    dimension = items[0].shape[1] if items[0].ndim == 2 else 0
    for i, item in enumerate(items):
        if item.ndim != 2 or item.shape[1] != dimension or dimension == 0:
            raise ValueError(f"coords[{i}] must have shape (N, {dimension or 'D'}), got {tuple(item.shape)}.")
    rows = torch.zeros(sum(map(len, items)), 1 + dimension, dtype=dtype, device=device)
    start = 0
    for i, item in enumerate(items):
        stop = start + len(item)
        floored = item.floor() if item.is_floating_point() and not dtype.is_floating_point else item
        rows[start:stop, 0] = i
        rows[start:stop, 1:] = floored
        start = stop
    return rows


def sparse_collate(
    coords: Sequence[Any],
    feats: Sequence[Any],
    labels: Sequence[Any] | None = None,
    dtype: torch.dtype = torch.int32,
    device: torch.device | str | None = None,
) -> tuple[Tensor, ...]:
    """Join coordinates (with batch index), features and, if given, labels of items.

    Args:
        coords: (N_i, D) each.
        feats: (N_i, C) each.
        labels: (N_i, ...) each.
        dtype, device: of the coordinates.

    Returns:
        Coordinates (N, 1 + D), features (N, C) and, if given, labels (N, ...).

    Raises:
        ValueError: for lists of different lengths or items of different numbers of rows.
    """
    lists = [coords, feats] if labels is None else [coords, feats, labels]
    if len({len(entries) for entries in lists}) != 1:
        raise ValueError(
            f"coords, feats and labels need equal lengths, got {[len(entries) for entries in lists]}."
        )
    for i, entry in enumerate(zip(*lists, strict=True)):
        if len({len(rows) for rows in entry}) != 1:
            raise ValueError(f"item {i} has different numbers of rows: {[len(rows) for rows in entry]}.")
    joined = [torch.cat([_tensor(rows) for rows in entries]) for entries in lists[1:]]
    return batched_coordinates(coords, dtype=dtype, device=device), *joined


def _tensor(rows: Any) -> Tensor:
    return torch.from_numpy(rows) if isinstance(rows, np.ndarray) else torch.as_tensor(rows)


def batch_sparse_collate(
    data: Sequence[Any], dtype: torch.dtype = torch.int32, device: torch.device | str | None = None
) -> tuple[Tensor, ...]:
    """:func:`sparse_collate` for a list of (coordinates, features) or (coordinates, features, labels)."""
    if not data:
        raise ValueError("data must hold at least one item.")
    coords, feats, *labels = zip(*data, strict=True)
    return sparse_collate(coords, feats, labels[0] if labels else None, dtype=dtype, device=device)


class SparseCollation:
    """``collate_fn`` of a DataLoader whose items are (coordinates, features, labels).

    Args:
        limit_numpoints: leave out the items after which the batch would have more rows; -1 for no limit.
        dtype, device: of the coordinates.
    """

    def __init__(
        self,
        limit_numpoints: int = -1,
        dtype: torch.dtype = torch.int32,
        device: torch.device | str | None = None,
    ) -> None:
        self.limit_numpoints, self.dtype, self.device = limit_numpoints, dtype, device

    def __call__(self, list_data: Sequence[Any]) -> tuple[Tensor, ...]:
        """Join the items."""
        kept: list[Any] = []
        total = 0
        for item in list_data:
            total += len(item[0])
            if self.limit_numpoints > 0 and total > self.limit_numpoints:
                break
            kept.append(item)
        if not kept:
            raise ValueError(
                f"limit_numpoints={self.limit_numpoints} leaves no item: the first has "
                f"{len(list_data[0][0])} rows."
            )
        return batch_sparse_collate(kept, dtype=self.dtype, device=self.device)
