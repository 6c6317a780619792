"""Kernels as lists of integer offsets, in MinkowskiEngine's order (the first axis runs fastest)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from monai_sparse_refine.engine.native.coordinates import Stride, as_tuple
from monai_sparse_refine.engine.native.enums import RegionType


def cube_offsets(kernel_size: Stride) -> Tensor:
    """(K, D) offsets of a box: centred where the size is odd, 0 .. k - 1 where it is even."""
    ranges = [torch.arange(k) - (k // 2 if k % 2 else 0) for k in reversed(kernel_size)]
    grid = torch.cartesian_prod(*ranges).view(-1, len(kernel_size))
    return grid.flip(1)


def cross_offsets(kernel_size: Stride) -> Tensor:
    """(K, D) offsets of a cross: the centre, then along each axis in ascending order without the centre."""
    rows = [torch.zeros(1, len(kernel_size), dtype=torch.int64)]
    for axis, size in enumerate(kernel_size):
        steps = torch.arange(size) - size // 2
        arm = torch.zeros(size - 1, len(kernel_size), dtype=torch.int64)
        arm[:, axis] = steps[steps != 0]
        rows.append(arm)
    return torch.cat(rows)


class KernelGenerator:
    """Size, stride, dilation and shape of a kernel.

    Args:
        kernel_size, stride, dilation: one integer, or one per axis.
        is_transpose: kept for the layer that asks for it.
        region_type: box, cross (odd sizes only), or CUSTOM with ``region_offsets``.
        region_offsets: (K, D) integer offsets for CUSTOM, in units of dilation times tensor stride.
        expand_coordinates: let the output cover every place the kernel reaches.
        axis_types: not supported.
        dimension: number of spatial dimensions.

    Raises:
        ValueError: for sizes that do not fit.
    """

    def __init__(
        self,
        kernel_size: Any = -1,
        stride: Any = 1,
        dilation: Any = 1,
        is_transpose: bool = False,
        region_type: RegionType = RegionType.HYPER_CUBE,
        region_offsets: Tensor | None = None,
        expand_coordinates: bool = False,
        axis_types: Any = None,
        dimension: int = -1,
    ) -> None:
        if not isinstance(dimension, int) or dimension < 1:
            raise ValueError(
                f"dimension must be the number of spatial dimensions (1 or more), got {dimension!r}."
            )
        if axis_types is not None:
            raise NotImplementedError("axis_types is not part of the native engine; use a CUSTOM region.")
        region_type = RegionType(getattr(region_type, "value", region_type))
        self.dimension = dimension
        self.kernel_stride = as_tuple(stride, dimension, "stride")
        self.kernel_dilation = as_tuple(dilation, dimension, "dilation")
        self.region_type = region_type
        self.region_offsets = region_offsets
        self.is_transpose = is_transpose
        self.expand_coordinates = expand_coordinates
        self.axis_types = None
        if region_type == RegionType.CUSTOM:
            if region_offsets is None or region_offsets.ndim != 2 or region_offsets.shape[1] != dimension:
                raise ValueError(f"region_offsets must be a (K, {dimension}) tensor for RegionType.CUSTOM.")
            self.offsets = region_offsets.detach().cpu().long()
            self.kernel_size = as_tuple(1 if kernel_size == -1 else kernel_size, dimension, "kernel_size")
        else:
            self.kernel_size = as_tuple(kernel_size, dimension, "kernel_size")
            if region_type == RegionType.HYPER_CROSS:
                if any(k % 2 == 0 for k in self.kernel_size):
                    raise ValueError(f"kernel_size must be odd for a cross, got {self.kernel_size}.")
                self.offsets = cross_offsets(self.kernel_size)
            else:
                self.offsets = cube_offsets(self.kernel_size)
        self.kernel_volume = len(self.offsets)
        self.requires_strided_coordinates = any(s > 1 for s in self.kernel_stride)

    @property
    def is_pointwise(self) -> bool:
        """Whether the kernel is one cell at the centre, on the same coordinates."""
        return (
            self.kernel_volume == 1 and not self.requires_strided_coordinates and not bool(self.offsets.any())
        )


def pooling_kernel(generator: KernelGenerator) -> KernelGenerator:
    """The kernel that pooling uses: where size and stride agree, each output cell pools just the cells inside it."""
    if generator.region_type != RegionType.HYPER_CUBE or generator.kernel_size != generator.kernel_stride:
        return generator
    ranges = [torch.arange(k) for k in generator.kernel_size]
    return KernelGenerator(
        generator.kernel_size,
        generator.kernel_stride,
        region_type=RegionType.CUSTOM,
        region_offsets=torch.cartesian_prod(*ranges).view(-1, generator.dimension),
        dimension=generator.dimension,
    )
