"""Sparse convolution through the compiled kernels; ``gather_gemm`` does the same in PyTorch alone."""

from __future__ import annotations

from torch import Tensor

from monai_sparse_refine.engine.native.compiled.convolution import (
    Neighbours,
    convolve,
    convolve_single,
    kernel_gradient,
)
from monai_sparse_refine.engine.native.kernel_map import KernelMap


def forward(
    features: Tensor,
    kernel: Tensor,
    table: KernelMap,
    transposed: bool,
    *,
    bias: Tensor | None = None,
    rectified: bool = False,
) -> Tensor:
    """Convolve rows; see ``gather_gemm.sparse_convolution`` for the arguments.

    Where every fine row has at most one source, there is neither bias nor ReLU.
    """
    if transposed and table.regular:
        return convolve_single(features, kernel, table.positions())
    neighbours, mirrored = _reading(table, transposed)
    bias = None if bias is None else bias.reshape(-1).to(features.dtype)
    rows = _rows(table, not transposed)
    return convolve(features, kernel, neighbours, rows, mirrored=mirrored, bias=bias, rectified=rectified)


def backward(
    gradient: Tensor,
    features: Tensor,
    kernel: Tensor,
    table: KernelMap,
    transposed: bool,
    want_features: bool,
    want_kernel: bool,
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of features and kernel, None for the one that is not wanted."""
    grad_features = grad_kernel = None
    if want_features:
        if table.regular and not transposed:
            grad_features = convolve_single(gradient, kernel, table.positions(), transposed=True)
        else:
            neighbours, mirrored = _reading(table, not transposed)
            rows = _rows(table, transposed)
            grad_features = convolve(gradient, kernel, neighbours, rows, transposed=True, mirrored=mirrored)
    if want_kernel:
        if table.regular and transposed:
            # Reads the fine side, which needs no stored table.
            swapped = kernel_gradient(gradient, features, table.neighbours(coarse=False))
            grad_kernel = swapped.transpose(1, 2).contiguous()
        else:
            neighbours, mirrored = _reading(table, transposed)
            grad_kernel = kernel_gradient(features, gradient, neighbours)
            grad_kernel = grad_kernel.flip(0) if mirrored else grad_kernel
    return grad_features, grad_kernel


def _reading(table: KernelMap, coarse: bool) -> tuple[Neighbours, bool]:
    """How to look up the rows of one side, and whether the kernel's offsets are to be read in reverse.

    A symmetric table is its own inverse with the offsets in reverse order.
    """
    mirrored = coarse and table.symmetric
    return table.neighbours(coarse=coarse and not mirrored), mirrored


def _rows(table: KernelMap, coarse: bool) -> int:
    return table.n_coarse if coarse else table.n_fine
