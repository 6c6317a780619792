"""Convolution layers with MinkowskiEngine's names, kernel layout and parameters."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from monai_sparse_refine.engine.native.coordinate_map import CoordinateMapKey
from monai_sparse_refine.engine.native.coordinates import Stride
from monai_sparse_refine.engine.native.enums import ConvolutionMode
from monai_sparse_refine.engine.native.gather_gemm import children, pointwise, sparse_convolution
from monai_sparse_refine.engine.native.kernel_region import KernelGenerator
from monai_sparse_refine.engine.native.manager import CoordinateManager
from monai_sparse_refine.engine.native.modules_base import (
    MinkowskiModuleBase,
    check_input,
    given_key,
    result_on,
    strided,
    unstrided,
)
from monai_sparse_refine.engine.native.tensor import SparseTensor


class MinkowskiConvolutionBase(MinkowskiModuleBase):
    """Parameters: ``kernel`` [K, Cin, Cout] ([Cin, Cout] for a single cell), ``bias`` [1, Cout]."""

    is_transpose = False

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any = -1,
        stride: Any = 1,
        dilation: Any = 1,
        bias: bool = False,
        kernel_generator: KernelGenerator | None = None,
        expand_coordinates: bool = False,
        convolution_mode: ConvolutionMode = ConvolutionMode.DEFAULT,
        dimension: int | None = None,
    ) -> None:
        super().__init__()
        for name, value in (("in_channels", in_channels), ("out_channels", out_channels)):
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a positive integer, got {value!r}.")
        if dimension is None or dimension < 1:
            raise ValueError(
                f"dimension must be the number of spatial dimensions (1 or more), got {dimension!r}."
            )
        if kernel_generator is None:
            kernel_generator = KernelGenerator(
                kernel_size, stride, dilation, expand_coordinates=expand_coordinates, dimension=dimension
            )
        elif kernel_generator.dimension != dimension:
            raise ValueError(
                f"kernel_generator is for {kernel_generator.dimension} dimensions, dimension is {dimension}."
            )
        self.in_channels, self.out_channels, self.dimension = in_channels, out_channels, dimension
        self.kernel_generator = kernel_generator
        self.use_mm = kernel_generator.is_pointwise
        self.convolution_mode = convolution_mode
        shape: tuple[int, ...] = (in_channels, out_channels)
        if not self.use_mm:
            shape = (kernel_generator.kernel_volume, *shape)
        self.kernel = nn.Parameter(torch.empty(shape))
        self.bias = nn.Parameter(torch.empty(1, out_channels)) if bias else None
        self.reset_parameters()

    def reset_parameters(self, is_transpose: bool | None = None) -> None:
        """Draw from U(-a, a), a = 1 / sqrt(C K), C the input channels (output channels if transposed)."""
        transposed = self.is_transpose if is_transpose is None else is_transpose
        width = self.out_channels if transposed else self.in_channels
        bound = 1 / math.sqrt(width * self.kernel_generator.kernel_volume)
        with torch.no_grad():
            self.kernel.uniform_(-bound, bound)
            if self.bias is not None:
                self.bias.uniform_(-bound, bound)

    def forward(self, input: SparseTensor, coordinates: Any = None) -> SparseTensor:
        """Convolve; ``coordinates`` (integer rows, a key or a SparseTensor) chooses the output's."""
        return self.convolve(input, self.kernel, bias=self.bias, coordinates=coordinates)

    def convolve(
        self,
        input: SparseTensor,
        kernel: Tensor,
        *,
        bias: Tensor | None = None,
        rectified: bool = False,
        coordinates: Any = None,
    ) -> SparseTensor:
        """As :meth:`forward`, with a kernel and a bias like the layer's own, and then ReLU if ``rectified``."""
        raise NotImplementedError

    def extra_repr(self) -> str:
        """Sizes, as PyTorch prints them."""
        generator = self.kernel_generator
        return (
            f"in={self.in_channels}, out={self.out_channels}, kernel_size={list(generator.kernel_size)}, "
            f"stride={list(generator.kernel_stride)}, dilation={list(generator.kernel_dilation)}"
        )


class MinkowskiConvolution(MinkowskiConvolutionBase):
    """Convolution: output cell c sums ``kernel[k]`` applied to input cell c + offset k.

    Without given coordinates the output's are the input's, floored to the output stride.
    """

    def convolve(
        self,
        input: SparseTensor,
        kernel: Tensor,
        *,
        bias: Tensor | None = None,
        rectified: bool = False,
        coordinates: Any = None,
    ) -> SparseTensor:
        """See the base class."""
        x = check_input(input, self, self.in_channels)
        generator, manager, key = self.kernel_generator, x.coordinate_manager, x.coordinate_map_key
        if self.use_mm and coordinates is None:
            return result_on(pointwise(x.F, kernel, bias=bias, rectified=rectified), key, x)
        if coordinates is not None:
            out = given_key(coordinates, manager, strided(x, generator.kernel_stride))
        else:
            expand = generator.expand_coordinates
            out = (
                expanded_key(manager, key, generator)
                if expand
                else manager.stride(key, generator.kernel_stride)
            )
        table = manager.kernel_table(out, key, generator)
        rows = sparse_convolution(x.F, _kernel3(kernel), table, bias=bias, rectified=rectified)
        return result_on(rows, out, x)


class MinkowskiConvolutionTranspose(MinkowskiConvolutionBase):
    """Transposed convolution: input cell c adds ``kernel[k]`` applied to it at output cell c + offset k.

    The output's coordinates are those that the manager holds for the finer stride, or all that the kernel
    reaches
    if it holds none.
    """

    is_transpose = True
    is_generative = False

    def convolve(
        self,
        input: SparseTensor,
        kernel: Tensor,
        *,
        bias: Tensor | None = None,
        rectified: bool = False,
        coordinates: Any = None,
    ) -> SparseTensor:
        """See the base class."""
        x = check_input(input, self, self.in_channels)
        generator, manager, key = self.kernel_generator, x.coordinate_manager, x.coordinate_map_key
        if self.use_mm and coordinates is None:
            return result_on(pointwise(x.F, kernel, bias=bias, rectified=rectified), key, x)
        stride = unstrided(x, generator.kernel_stride)
        if coordinates is not None:
            out = given_key(coordinates, manager, stride)
        else:
            if self.is_generative or generator.expand_coordinates or not manager.exists(stride):
                return self._generate(x, stride, kernel, bias, rectified)
            out = CoordinateMapKey(stride)
        table = manager.kernel_table(key, out, generator)
        kernel = _kernel3(kernel)
        rows = sparse_convolution(x.F, kernel, table, transposed=True, bias=bias, rectified=rectified)
        return result_on(rows, out, x)

    def _generate(
        self, x: SparseTensor, stride: Stride, kernel: Tensor, bias: Tensor | None, rectified: bool
    ) -> SparseTensor:
        generator, manager, key = self.kernel_generator, x.coordinate_manager, x.coordinate_map_key
        steps = torch.tensor(generator.kernel_dilation) * torch.tensor(stride)
        offsets = generator.offsets * steps  # in voxels
        extent = (offsets.amax(0) - offsets.amin(0)).tolist()
        distinct = all(e < s for e, s in zip(extent, x.tensor_stride, strict=True))
        generate = self.is_generative or generator.expand_coordinates
        # An ordinary transpose without finer coordinates creates them, to be found by their stride from now
        # on.
        out = manager.expand(key, offsets, stride, distinct=distinct, string_id=None if generate else "")
        kernel = _kernel3(kernel)
        if distinct:
            return result_on(children(x.F, kernel, bias=bias, rectified=rectified), out, x)
        table = manager.kernel_table(key, out, generator)
        rows = sparse_convolution(x.F, kernel, table, transposed=True, bias=bias, rectified=rectified)
        return result_on(rows, out, x)


class MinkowskiGenerativeConvolutionTranspose(MinkowskiConvolutionTranspose):
    """Transposed convolution that creates every coordinate its kernel reaches."""

    is_generative = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any = -1,
        stride: Any = 1,
        dilation: Any = 1,
        bias: bool = False,
        kernel_generator: KernelGenerator | None = None,
        convolution_mode: ConvolutionMode = ConvolutionMode.DEFAULT,
        dimension: int | None = None,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            dilation,
            bias,
            kernel_generator,
            expand_coordinates=True,
            convolution_mode=convolution_mode,
            dimension=dimension,
        )


def _kernel3(kernel: Tensor) -> Tensor:
    return kernel if kernel.ndim == 3 else kernel[None]


def expanded_key(
    manager: CoordinateManager, key: CoordinateMapKey, generator: KernelGenerator
) -> CoordinateMapKey:
    """Key of every output coordinate that the kernel reaches from those of ``key``."""
    fine = torch.tensor(key.get_tensor_stride())
    offsets = generator.offsets * torch.tensor(generator.kernel_dilation) * fine
    out = tuple((fine * torch.tensor(generator.kernel_stride)).tolist())
    return manager.expand(key, offsets, out, distinct=False)
