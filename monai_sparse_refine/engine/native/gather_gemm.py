"""Sparse convolution as gather and matrix product, chunk by chunk, without scatter.

A chunk of rows is gathered into (n, K * Cin), small enough to stay in the cache, and multiplied once.
Backward
gathers the gradient of the output through the inverse table, so every result row is written once: no
    atomics, no
dependence on the order of execution.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from monai_sparse_refine.engine.native import compiled_convolution as fast
from monai_sparse_refine.engine.native.compiled import rows as compiled_rows
from monai_sparse_refine.engine.native.compiled.calls import usable
from monai_sparse_refine.engine.native.compiled.convolution import Neighbours, convolve
from monai_sparse_refine.engine.native.fixed_order import accumulator, add_product, finished, rows_product
from monai_sparse_refine.engine.native.kernel_map import KernelMap

CHUNK_VALUES = 1 << 19  # gathered values of one chunk on a CPU: 2 MB of float32
CHUNK_ROWS = (256, 8192)
CHUNK_VALUES_CUDA = 1 << 26


def sparse_convolution(
    features: Tensor,
    kernel: Tensor,
    table: KernelMap,
    *,
    transposed: bool = False,
    bias: Tensor | None = None,
    rectified: bool = False,
) -> Tensor:
    """Convolve rows.

    Args:
        features: (N, Cin); rows of the table's fine side, or of its coarse side if transposed.
        kernel: (K, Cin, Cout).
        table: neighbour tables between input and output.
        transposed: read the coarse side and write the fine one.
        bias: (1, Cout) or (Cout,), added to every row.
        rectified: ReLU at the end.

    Returns:
        (M, Cout)
    """
    features, kernel = autocast(features, kernel)
    if torch.is_grad_enabled() and (features.requires_grad or kernel.requires_grad):
        rows = _SparseConvolution.apply(features, kernel, table, transposed)
    elif usable(features, kernel) and not (transposed and table.regular) and not torch.is_grad_enabled():
        return fast.forward(features, kernel, table, transposed, bias=bias, rectified=rectified)
    else:
        rows = _convolve(features, kernel, table, transposed)
    return finished(rows, bias, rectified=rectified)


def autocast(features: Tensor, kernel: Tensor) -> tuple[Tensor, Tensor]:
    """Both in the dtype of an enclosing ``torch.autocast``; as they are without one."""
    kind = features.device.type
    if not torch.is_autocast_enabled(kind):
        return features, kernel
    dtype = torch.get_autocast_dtype(kind)
    return features.to(dtype), kernel.to(dtype)


def pointwise(
    features: Tensor, kernel: Tensor, *, bias: Tensor | None = None, rectified: bool = False
) -> Tensor:
    """(N, Cin) @ (Cin, Cout), then bias and ReLU if wanted."""
    return finished(rows_product(*autocast(features, kernel)), bias, rectified=rectified)


def children(
    features: Tensor, kernel: Tensor, *, bias: Tensor | None = None, rectified: bool = False
) -> Tensor:
    """Transposed convolution whose outputs never coincide: row ``n * K + k`` is ``features[n] @ kernel[k]``.

    Args:
        features: (N, Cin).
        kernel: (K, Cin, Cout).
        bias: (1, Cout) or (Cout,), added to every row.
        rectified: ReLU at the end.

    Returns:
        (N * K, Cout)
    """
    features, kernel = autocast(features, kernel)
    volume, width, out = kernel.shape
    weight = kernel.transpose(0, 1).reshape(width, volume * out)
    if usable(features, kernel) and not torch.is_grad_enabled():
        bias = None if bias is None else bias.reshape(-1).to(features.dtype).repeat(volume)
        every = Neighbours(1)
        rows = convolve(features, weight[None], every, len(features), bias=bias, rectified=rectified)
        return rows.view(-1, out)
    return finished(rows_product(features, weight).view(-1, out), bias, rectified=rectified)


class _SparseConvolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, kernel: Tensor, table: KernelMap, transposed: bool) -> Tensor:
        ctx.table, ctx.transposed = table, transposed
        ctx.save_for_backward(features, kernel)
        result = _convolve(features, kernel, table, transposed)
        table.release()
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        features, kernel = ctx.saved_tensors
        table, transposed = ctx.table, ctx.transposed
        want_features, want_kernel = ctx.needs_input_grad[:2]
        gradient = gradient.contiguous()
        grad_features = grad_kernel = None
        if usable(gradient, features, kernel):
            grad_features, grad_kernel = fast.backward(
                gradient, features, kernel, table, transposed, want_features, want_kernel
            )
        elif table.regular:
            grad_features, grad_kernel = _regular_backward(
                gradient, features, kernel, table, transposed, want_features, want_kernel
            )
        elif want_features:
            grad_features, grad_kernel = _backward(gradient, features, kernel, table, transposed, want_kernel)
        elif want_kernel:
            grad_kernel = _kernel_gradient(features, gradient, table, coarse=transposed)
        table.release()
        if grad_kernel is not None:
            grad_kernel = grad_kernel.to(kernel.dtype)
        return grad_features, grad_kernel, None, None


def _convolve(features: Tensor, kernel: Tensor, table: KernelMap, transposed: bool) -> Tensor:
    if usable(features, kernel):
        return fast.forward(features, kernel, table, transposed)
    if transposed and table.regular:
        return take_rows(children(features, kernel), table.positions())
    return _gathered_product(features, kernel, table, coarse=transposed)


def take_rows(rows: Tensor, source: Tensor) -> Tensor:
    """(n, C): row ``source - 1`` of (N, C) for every (n,) int32 source, 0 where it is 0; not differentiable."""
    if usable(rows):
        return compiled_rows.take_rows(rows, source)
    return with_zero_row(rows).index_select(0, source)


def with_zero_row(rows: Tensor) -> Tensor:
    """(1 + N, C): a zero row in front, which is what a table's 0 refers to."""
    padded = rows.new_empty(len(rows) + 1, rows.shape[1])
    padded[0] = 0
    padded[1:] = rows
    return padded


def _gathered_product(source: Tensor, kernel: Tensor, table: KernelMap, *, coarse: bool) -> Tensor:
    """Sum over k of source[table[:, k]] @ kernel[k]; the source is the coarse side if ``coarse``."""
    volume, width, out_width = kernel.shape
    total = table.n_fine if coarse else table.n_coarse
    result = source.new_empty(total, out_width)
    lookup, mirrored = reading(table, coarse)
    weight = (kernel.flip(0) if mirrored else kernel).reshape(volume * width, out_width)
    gather = Gather(source)
    for start, stop in table.chunks(total, chunk_rows(volume * width, source)):
        block = gather(lookup(start, stop))
        torch.mm(block, weight, out=result[start:stop])
    return result


def _backward(
    gradient: Tensor, features: Tensor, kernel: Tensor, table: KernelMap, transposed: bool, want_kernel: bool
) -> tuple[Tensor, Tensor | None]:
    """Both gradients from one gather of the output's gradient.

    ``features[i]`` reaches output row ``inverse[i, k]`` through ``kernel[k]``; hence its gradient is the sum
    over k of ``gradient[inverse[i, k]] @ kernel[k].T``, and that of the kernel the sum over i of
    ``outer(features[i], gradient[inverse[i, k]])``.
    """
    volume, width, out_width = kernel.shape
    lookup, mirrored = reading(table, not transposed)
    weight = (kernel.flip(0) if mirrored else kernel).transpose(1, 2).reshape(volume * out_width, width)
    grad_features = torch.empty_like(features)
    exact = accumulator(features)
    grad_kernel = (
        torch.zeros(width, volume * out_width, dtype=exact, device=features.device) if want_kernel else None
    )
    gather = Gather(gradient)
    for start, stop in table.chunks(len(features), chunk_rows(volume * out_width, gradient)):
        block = gather(lookup(start, stop))
        torch.mm(block, weight, out=grad_features[start:stop])
        if grad_kernel is not None:
            add_product(grad_kernel, features[start:stop], block)
    if grad_kernel is None:
        return grad_features, None
    grad_kernel = grad_kernel.view(width, volume, out_width).transpose(0, 1)
    return grad_features, (grad_kernel.flip(0) if mirrored else grad_kernel).contiguous()


def _kernel_gradient(source: Tensor, gradient: Tensor, table: KernelMap, *, coarse: bool) -> Tensor:
    """(K, Cin, Cout) gradient of the kernel alone: gathers the input, which is cheap where it is narrow."""
    width, out_width = source.shape[1], gradient.shape[1]
    result = torch.zeros(table.volume * width, out_width, dtype=accumulator(source), device=source.device)
    lookup, mirrored = reading(table, coarse)
    gather = Gather(source)
    for start, stop in table.chunks(len(gradient), chunk_rows(table.volume * width, source)):
        add_product(result, gather(lookup(start, stop)), gradient[start:stop])
    result = result.view(table.volume, width, out_width)
    return result.flip(0) if mirrored else result


def reading(table: KernelMap, coarse: bool) -> tuple[Callable[..., Tensor], bool]:
    """How to look up the rows of one side, and whether the kernel's offsets are to be read in reverse.

    A symmetric table is its own inverse with the offsets in reverse order; it is cheaper to turn the kernel.
    """
    if not coarse:
        return table.fine_rows, False
    return (table.fine_rows, True) if table.symmetric else (table.coarse_rows, False)


def _regular_backward(
    gradient: Tensor,
    features: Tensor,
    kernel: Tensor,
    table: KernelMap,
    transposed: bool,
    want_features: bool,
    want_kernel: bool,
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients where every fine row meets at most one coarse row."""
    grad_features = grad_kernel = None
    if transposed:
        if want_features:
            weight = kernel.transpose(1, 2)
            grad_features = _gathered_product(gradient, weight, table, coarse=False)
        if want_kernel:
            swapped = _kernel_gradient(gradient, features, table, coarse=False)  # (K, Cout, Cin)
            grad_kernel = swapped.transpose(1, 2).contiguous()
        return grad_features, grad_kernel
    if want_features:
        rows = children(gradient, kernel.transpose(1, 2))
        grad_features = take_rows(rows, table.positions())
    if want_kernel:
        grad_kernel = _kernel_gradient(features, gradient, table, coarse=False)
    return grad_features, grad_kernel


class Gather:
    """Gather (n, K) rows of a matrix into (n, K * C), reusing one buffer."""

    def __init__(self, source: Tensor) -> None:
        self.source = with_zero_row(source)
        self.buffer = source.new_empty(0)

    def __call__(self, rows: Tensor) -> Tensor:
        count, volume = rows.shape
        width = self.source.shape[1]
        if self.buffer.numel() < count * volume * width:
            self.buffer = self.source.new_empty(count * volume * width)
        block = self.buffer[: count * volume * width].view(count * volume, width)
        torch.index_select(self.source, 0, rows.reshape(-1), out=block)
        return block.view(count, volume * width)


def chunk_rows(values_per_row: int, like: Tensor) -> int:
    """Rows of one chunk, so that what is gathered stays in the cache."""
    if like.device.type != "cpu":
        return max(CHUNK_ROWS[0], CHUNK_VALUES_CUDA // max(1, values_per_row))
    low, high = CHUNK_ROWS
    return max(low, min(high, CHUNK_VALUES // max(1, values_per_row)))
