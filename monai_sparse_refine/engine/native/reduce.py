"""Deterministic sums, means and maxima over groups of rows."""

from __future__ import annotations

import torch
from torch import Tensor


def reduce_rows(rows: Tensor, group: Tensor, groups: int, operation: str) -> Tensor:
    """Reduce rows that share a group; differentiable.

    Args:
        rows: (N, C).
        group: (N,) integers in [0, groups).
        groups: number of groups; one without rows becomes 0.
        operation: "sum", "mean" or "max".

    Returns:
        (groups, C)
    """
    group = group.long()
    order = torch.argsort(group, stable=True)
    lengths = torch.bincount(group, minlength=groups)
    exact = rows.float() if rows.dtype in (torch.float16, torch.bfloat16) else rows
    reduced = torch.segment_reduce(exact.index_select(0, order), operation, lengths=lengths, axis=0)
    empty = (lengths == 0)[:, None]
    return reduced.masked_fill(empty, 0).to(rows.dtype)
