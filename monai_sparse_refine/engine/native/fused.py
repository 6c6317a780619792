"""Layers that follow each other, computed as one: an addition to MinkowskiEngine's API.

The results are those of the layers one by one, up to rounding; one matrix of features less is written for each layer
that joins.
"""

from __future__ import annotations

import torch

from monai_sparse_refine.engine.native.convolution import MinkowskiConvolutionBase
from monai_sparse_refine.engine.native.norm import (
    MinkowskiBatchNorm,
    MinkowskiSyncBatchNorm,
    folded,
    normalized,
)
from monai_sparse_refine.engine.native.tensor import SparseTensor


def norm_relu(norm: MinkowskiBatchNorm, x: SparseTensor) -> SparseTensor:
    """Batch norm, then ReLU."""
    if isinstance(norm, MinkowskiSyncBatchNorm):
        y = norm(x)
        return y.like(y.F.relu())
    return x.like(normalized(norm.bn, x.F, rectified=True))


def convolve_norm_relu(
    convolution: MinkowskiConvolutionBase, norm: MinkowskiBatchNorm, x: SparseTensor
) -> SparseTensor:
    """A convolution of any kind without bias, then batch norm, then ReLU.

    At inference the normalisation goes into the kernel, so that only the result is written.

    Raises:
        ValueError: the norm is for another number of channels than the convolution gives.
    """
    bn = norm.bn
    if bn.num_features != convolution.out_channels:
        raise ValueError(
            f"norm was made for {bn.num_features} channels, but the convolution gives {convolution.out_channels}."
        )
    at_inference = not torch.is_grad_enabled() and not bn.training and bn.running_mean is not None
    if at_inference and convolution.bias is None and convolution.kernel.dtype.itemsize >= 4:
        scale, shift = folded(bn)
        kernel = (convolution.kernel.double() * scale).to(convolution.kernel.dtype)
        return convolution.convolve(x, kernel, bias=shift.to(kernel.dtype), rectified=True)
    return norm_relu(norm, convolution(x))
