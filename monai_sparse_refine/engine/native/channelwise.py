"""Convolution of every channel with its own kernel."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from monai_sparse_refine.engine.native.fixed_order import add_bias
from monai_sparse_refine.engine.native.kernel_region import KernelGenerator
from monai_sparse_refine.engine.native.local_pooling import channelwise_product
from monai_sparse_refine.engine.native.modules_base import (
    MinkowskiModuleBase,
    check_input,
    given_key,
    result_on,
    strided,
)
from monai_sparse_refine.engine.native.tensor import SparseTensor


class MinkowskiChannelwiseConvolution(MinkowskiModuleBase):
    """Depthwise convolution: ``kernel`` [K, C], ``bias`` [1, C]."""

    def __init__(
        self,
        in_channels: int,
        kernel_size: Any = -1,
        stride: Any = 1,
        dilation: Any = 1,
        bias: bool = False,
        kernel_generator: KernelGenerator | None = None,
        dimension: int = -1,
    ) -> None:
        super().__init__()
        if dimension < 1:
            raise ValueError(f"dimension must be 1 or more, got {dimension!r}.")
        self.kernel_generator = kernel_generator or KernelGenerator(
            kernel_size, stride, dilation, dimension=dimension
        )
        self.in_channels, self.dimension = in_channels, dimension
        self.kernel = nn.Parameter(torch.empty(self.kernel_generator.kernel_volume, in_channels))
        self.bias = nn.Parameter(torch.empty(1, in_channels)) if bias else None
        self.reset_parameters()

    def reset_parameters(self, is_transpose: bool = False) -> None:
        """Draw from U(-a, a), a = 1 / sqrt(C K)."""
        bound = 1 / math.sqrt(self.in_channels * self.kernel_generator.kernel_volume)
        with torch.no_grad():
            self.kernel.uniform_(-bound, bound)
            if self.bias is not None:
                self.bias.uniform_(-bound, bound)

    def forward(self, input: SparseTensor, coords: Any = None) -> SparseTensor:
        """Convolve; ``coords`` (integer rows, a key or a SparseTensor) chooses the output's coordinates."""
        x = check_input(input, self, self.in_channels)
        manager, stride = x.coordinate_manager, self.kernel_generator.kernel_stride
        if coords is None:
            out = manager.stride(x.coordinate_map_key, stride)
        else:
            out = given_key(coords, manager, strided(x, stride))
        table = manager.kernel_table(out, x.coordinate_map_key, self.kernel_generator)
        rows = channelwise_product(x.F, self.kernel, table)
        return result_on(rows if self.bias is None else add_bias(rows, self.bias), out, x)
