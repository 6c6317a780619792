"""Operations on feature rows through the compiled kernels: float32 or float64, on the CPU."""

from __future__ import annotations

import torch
from torch import Tensor

from monai_sparse_refine.engine.native.compiled.calls import NAMES, run


def moments(rows: Tensor) -> tuple[Tensor, Tensor]:
    """(C,) float64 mean and biased variance of (N, C) rows, N > 0."""
    rows = rows.contiguous()
    mean = torch.empty(rows.shape[1], dtype=torch.float64)
    variance = torch.empty_like(mean)
    run(f"moments_{NAMES[rows.dtype]}", rows, *rows.shape, mean, variance)
    return mean, variance


def scale_rows(rows: Tensor, scale: Tensor, shift: Tensor, *, rectified: bool) -> Tensor:
    """(N, C) rows * scale + shift, with (C,) each; negative results become 0 if ``rectified``."""
    rows = rows.contiguous()
    result = torch.empty_like(rows)
    run(
        f"scale_rows_{NAMES[rows.dtype]}",
        rows,
        scale.contiguous(),
        shift.contiguous(),
        result,
        *rows.shape,
        int(rectified),
    )
    return result


def normalise_sums(
    gradient: Tensor, rows: Tensor, scale: Tensor, shift: Tensor, mean: Tensor, *, rectified: bool
) -> Tensor:
    """(2, C) float64 sums of the gradient, and of gradient * (rows - mean), where scale_rows let it pass."""
    sums = torch.empty(2, rows.shape[1], dtype=torch.float64)
    run(
        f"normalise_sums_{NAMES[rows.dtype]}",
        gradient,
        rows,
        scale,
        shift,
        mean,
        sums,
        *rows.shape,
        int(rectified),
    )
    return sums


def normalise_backward(
    gradient: Tensor,
    rows: Tensor,
    scale: Tensor,
    shift: Tensor,
    factor: Tensor,
    constant: Tensor,
    *,
    rectified: bool,
) -> Tensor:
    """(N, C) gradient * scale + rows * factor + constant, the first term where scale_rows let it pass."""
    result = torch.empty_like(rows)
    run(
        f"normalise_backward_{NAMES[rows.dtype]}",
        gradient,
        rows,
        scale,
        shift,
        factor,
        constant,
        result,
        *rows.shape,
        int(rectified),
    )
    return result


def take_rows(rows: Tensor, source: Tensor) -> Tensor:
    """(n, C): row ``source - 1`` for every (n,) int32 source, 0 where it is 0."""
    rows = rows.contiguous()
    result = rows.new_empty(len(source), rows.shape[1])
    run(f"take_rows_{NAMES[rows.dtype]}", rows, source, result, *result.shape)
    return result


def add_rows(rows: Tensor, target: Tensor, result: Tensor) -> None:
    """result[target] += rows, for (N,) int32 targets of which no two are the same."""
    rows = rows.contiguous()
    run(f"add_rows_{NAMES[rows.dtype]}", rows, target, result, *rows.shape)
