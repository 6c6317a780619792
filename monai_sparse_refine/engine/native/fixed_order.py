"""Products and sums over many rows whose bits do not depend on the number of threads.

Libraries split a long sum between threads. Here rows are summed in blocks too short to be split, and the blocks in
their order.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from monai_sparse_refine.engine.native.compiled import rows as compiled
from monai_sparse_refine.engine.native.compiled.calls import usable

BLOCK_ROWS = 512
BLOCKS_VALUES = 1 << 22  # of the products that are held at a time
CHUNK_ROWS = 1 << 14


def add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """total += left.T @ right, for (N, P) and (N, Q) rows; ``total`` (P, Q) may be more precise than the rows."""
    if min(total.shape) == 1:
        # A product with one column is a matrix times a vector, which libraries split after all.
        for a, b in zip(left.split(CHUNK_ROWS), right.split(CHUNK_ROWS), strict=True):
            total += (a * b).to(total.dtype).sum(0).view_as(total)
        return
    blocks = len(left) // BLOCK_ROWS
    step = max(2, BLOCKS_VALUES // max(1, total.numel()))
    for first in range(0, blocks, step):
        count = min(step, blocks - first)
        rows = slice(first * BLOCK_ROWS, (first + count) * BLOCK_ROWS)
        _add_blocks(total, left[rows].view(count, BLOCK_ROWS, -1), right[rows].view(count, BLOCK_ROWS, -1))
    rest = slice(blocks * BLOCK_ROWS, len(left))
    if blocks * BLOCK_ROWS < len(left):
        _add_blocks(total, left[rest][None], right[rest][None])


def _add_blocks(total: Tensor, left: Tensor, right: Tensor) -> None:
    """total += sum over blocks of left.T @ right, for (blocks, rows, P) and (blocks, rows, Q)."""
    if len(left) == 1:  # libraries share out the rows of one product, but not those of several
        left, right = (torch.cat([block, torch.zeros_like(block)]) for block in (left, right))
    total += torch.bmm(left.transpose(1, 2), right).to(total.dtype).sum(0)


def accumulator(values: Tensor) -> torch.dtype:
    """Dtype in which sums of such values are kept."""
    return torch.float32 if values.dtype in (torch.float16, torch.bfloat16) else values.dtype


def column_sums(rows: Tensor) -> Tensor:
    """(C,) sums of (N, C) rows."""
    if rows.device.type != "cpu" or len(rows) <= CHUNK_ROWS:
        return rows.sum(0)
    total = torch.zeros(rows.shape[1], dtype=torch.float64)
    for chunk in rows.split(CHUNK_ROWS):
        total += chunk.sum(0)
    return total.to(rows.dtype)


def add_bias(rows: Tensor, bias: Tensor) -> Tensor:
    """(N, C) + (1, C) or (C,), differentiable."""
    return _AddBias.apply(rows, bias)


def finished(rows: Tensor, bias: Tensor | None, *, rectified: bool = False) -> Tensor:
    """A layer's fresh (N, C) rows after an optional bias, (1, C) or (C,), and ReLU; in place without a graph."""
    if torch.is_grad_enabled():
        rows = rows if bias is None else add_bias(rows, bias.to(rows.dtype))
        return rows.relu() if rectified else rows
    if bias is not None:
        rows += bias.to(rows.dtype)
    return rows.clamp_(min=0) if rectified else rows


class _AddBias(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, bias: Tensor) -> Tensor:
        ctx.shape = bias.shape
        return rows + bias

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        return gradient, column_sums(gradient).view(ctx.shape)


def rows_product(rows: Tensor, weight: Tensor) -> Tensor:
    """(N, P) @ (P, Q), differentiable."""
    if rows.device.type != "cpu" or not torch.is_grad_enabled():
        return rows @ weight
    return _RowsProduct.apply(rows, weight)


class _RowsProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(rows, weight)
        return rows @ weight

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        rows, weight = ctx.saved_tensors
        grad_rows = gradient @ weight.t() if ctx.needs_input_grad[0] else None
        grad_weight = None
        if ctx.needs_input_grad[1]:
            total = torch.zeros_like(weight, dtype=accumulator(weight))
            add_product(total, rows.contiguous(), gradient.contiguous())
            grad_weight = total.to(weight.dtype)
        return grad_rows, grad_weight


def batch_statistics(rows: Tensor) -> tuple[Tensor, Tensor]:
    """(C,) mean and biased variance of (N, C) rows, in two passes and double precision."""
    if usable(rows):
        return compiled.moments(rows)
    total = torch.zeros(rows.shape[1], dtype=torch.float64, device=rows.device)
    for chunk in rows.split(CHUNK_ROWS):
        total += chunk.sum(0)
    mean = total / len(rows)
    centre = mean.to(rows.dtype)
    total = torch.zeros_like(mean)
    for chunk in rows.split(CHUNK_ROWS):
        total += (chunk - centre).square_().sum(0)
    return mean, total / len(rows) - (mean - centre) ** 2


def scale_rows(rows: Tensor, scale: Tensor, shift: Tensor, *, rectified: bool) -> Tensor:
    """(N, C) rows * scale + shift, with (C,) each, then ReLU if ``rectified``; not differentiable."""
    scale, shift = scale.to(rows.dtype), shift.to(rows.dtype)
    if usable(rows):
        return compiled.scale_rows(rows, scale, shift, rectified=rectified)
    result = torch.addcmul(shift, rows, scale)
    return result.clamp_(min=0) if rectified else result


def normalize_rows(
    rows: Tensor,
    weight: Tensor,
    bias: Tensor,
    mean: Tensor,
    variance: Tensor,
    eps: float,
    *,
    rectified: bool = False,
) -> Tensor:
    """(N, C) batch normalisation with the batch's own statistics, differentiable through them; then ReLU if wanted."""
    return _BatchNorm.apply(rows, weight, bias, mean, variance, eps, rectified)


class _BatchNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        rows: Tensor,
        weight: Tensor,
        bias: Tensor,
        mean: Tensor,
        variance: Tensor,
        eps: float,
        rectified: bool,
    ) -> Tensor:
        rows = rows.contiguous()
        inverse = (variance + eps).rsqrt()
        scale = weight.double() * inverse
        shift = bias.double() - mean * scale
        kept = (scale, shift, mean, inverse)
        ctx.save_for_backward(rows, weight, *(values.to(rows.dtype) for values in kept))
        ctx.rectified = rectified
        return scale_rows(rows, scale, shift, rectified=rectified)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        rows, weight, scale, shift, mean, inverse = ctx.saved_tensors
        gradient = gradient.contiguous()
        if not usable(rows, gradient) and ctx.rectified:
            gradient = gradient * (torch.addcmul(shift, rows, scale) > 0)
        sums = _gradient_sums(gradient, rows, scale, shift, mean, ctx.rectified)
        sums[1] *= inverse  # of the gradient times the normalised rows
        grad_rows = None
        if ctx.needs_input_grad[0]:
            # scale * (gradient - offset - normalised * slope), normalised = (rows - mean) * inverse
            offset, slope = (sums / len(rows)).to(rows.dtype)
            constant = -scale * (offset - mean * inverse * slope)
            factor = -scale * inverse * slope
            grad_rows = _row_gradient(gradient, rows, scale, shift, factor, constant, ctx.rectified)
        grad_weight, grad_bias = sums[1].to(weight.dtype), sums[0].to(weight.dtype)
        return grad_rows, grad_weight, grad_bias, None, None, None, None


def _gradient_sums(
    gradient: Tensor, rows: Tensor, scale: Tensor, shift: Tensor, mean: Tensor, rectified: bool
) -> Tensor:
    """(2, C) sums of the gradient, and of the gradient times (rows - mean)."""
    if usable(rows, gradient):
        return compiled.normalise_sums(gradient, rows, scale, shift, mean, rectified=rectified)
    sums = torch.zeros(2, rows.shape[1], dtype=torch.float64, device=rows.device)
    for piece, chunk in zip(gradient.split(CHUNK_ROWS), rows.split(CHUNK_ROWS), strict=True):
        sums[0] += piece.sum(0)
        sums[1] += (chunk - mean).mul_(piece).sum(0)
    return sums


def _row_gradient(
    gradient: Tensor,
    rows: Tensor,
    scale: Tensor,
    shift: Tensor,
    factor: Tensor,
    constant: Tensor,
    rectified: bool,
) -> Tensor:
    """(N, C) gradient * scale + rows * factor + constant."""
    if usable(rows, gradient):
        return compiled.normalise_backward(
            gradient, rows, scale, shift, factor, constant, rectified=rectified
        )
    result = torch.empty_like(gradient)
    pieces = zip(gradient.split(CHUNK_ROWS), rows.split(CHUNK_ROWS), result.split(CHUNK_ROWS), strict=True)
    for piece, chunk, target in pieces:
        torch.addcmul(constant, piece, scale, out=target)
        target.addcmul_(chunk, factor)
    return result
