"""Pooling layers: local, transposed and global."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from monai_sparse_refine.engine.native.coordinate_map import CoordinateMapKey
from monai_sparse_refine.engine.native.enums import PoolingMode
from monai_sparse_refine.engine.native.feature_tensor import FeatureTensor
from monai_sparse_refine.engine.native.kernel_region import KernelGenerator, pooling_kernel
from monai_sparse_refine.engine.native.local_pooling import pool_count, pool_max, pool_sum
from monai_sparse_refine.engine.native.modules_base import (
    MinkowskiModuleBase,
    check_input,
    check_rows,
    given_key,
    result_on,
    strided,
    unstrided,
)
from monai_sparse_refine.engine.native.reduce import group_max, group_mean, group_sum
from monai_sparse_refine.engine.native.tensor import SparseTensor


class MinkowskiPoolingBase(MinkowskiModuleBase):
    """Kernel and stride of a pooling layer; the output's coordinates are those of a convolution."""

    is_transpose = False
    pooling_mode = PoolingMode.LOCAL_SUM_POOLING

    def __init__(
        self,
        kernel_size: Any = -1,
        stride: Any = 1,
        dilation: Any = 1,
        kernel_generator: KernelGenerator | None = None,
        dimension: int | None = None,
    ) -> None:
        super().__init__()
        if dimension is None or dimension < 1:
            raise ValueError(f"dimension must be 1 or more, got {dimension!r}.")
        self.dimension = dimension
        self.kernel_generator = kernel_generator or KernelGenerator(
            kernel_size, stride, dilation, dimension=dimension
        )

    def forward(self, input: SparseTensor, coordinates: Any = None) -> SparseTensor:
        """Pool; ``coordinates`` (integer rows, a key or a SparseTensor) chooses the output's."""
        x = check_input(input, self)
        manager, generator = x.coordinate_manager, pooling_kernel(self.kernel_generator)
        if coordinates is None:
            out = manager.stride(x.coordinate_map_key, generator.kernel_stride)
        else:
            out = given_key(coordinates, manager, strided(x, generator.kernel_stride))
        table = manager.kernel_table(out, x.coordinate_map_key, generator)
        if self.pooling_mode == PoolingMode.LOCAL_MAX_POOLING:
            return result_on(pool_max(x.F, table), out, x)
        rows = pool_sum(x.F, table)
        if self.pooling_mode == PoolingMode.LOCAL_AVG_POOLING:
            rows = rows / pool_count(table, rows).clamp_(min=1)
        return result_on(rows, out, x)


class MinkowskiSumPooling(MinkowskiPoolingBase):
    """Sum of the features under the kernel."""


class MinkowskiAvgPooling(MinkowskiPoolingBase):
    """Mean of the features that exist under the kernel."""

    pooling_mode = PoolingMode.LOCAL_AVG_POOLING


class MinkowskiMaxPooling(MinkowskiPoolingBase):
    """Largest of the features that exist under the kernel, per channel."""

    pooling_mode = PoolingMode.LOCAL_MAX_POOLING

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = 1,
        dilation: Any = 1,
        kernel_generator: KernelGenerator | None = None,
        dimension: int | None = None,
    ) -> None:
        super().__init__(kernel_size, stride, dilation, kernel_generator, dimension)


class MinkowskiPoolingTranspose(MinkowskiPoolingBase):
    """Every output cell gets the sum of the input cells whose kernel covers it."""

    is_transpose = True

    def __init__(
        self,
        kernel_size: Any,
        stride: Any,
        dilation: Any = 1,
        kernel_generator: KernelGenerator | None = None,
        expand_coordinates: bool = False,
        dimension: int | None = None,
    ) -> None:
        super().__init__(kernel_size, stride, dilation, kernel_generator, dimension)
        self.expand_coordinates = expand_coordinates or self.kernel_generator.expand_coordinates

    def forward(self, input: SparseTensor, coordinates: Any = None) -> SparseTensor:
        """Spread; ``coordinates`` (integer rows, a key or a SparseTensor) chooses the output's."""
        x = check_input(input, self)
        manager, key = x.coordinate_manager, x.coordinate_map_key
        generator = pooling_kernel(self.kernel_generator)
        stride = unstrided(x, generator.kernel_stride)
        if coordinates is not None:
            out = given_key(coordinates, manager, stride)
        elif not self.expand_coordinates and manager.exists(stride):
            out = CoordinateMapKey(stride)
        else:
            offsets = generator.offsets * torch.tensor(generator.kernel_dilation) * torch.tensor(stride)
            string = None if self.expand_coordinates else ""
            out = manager.expand(key, offsets, stride, distinct=False, string_id=string)
        table = manager.kernel_table(key, out, generator)
        return result_on(pool_sum(x.F, table, transposed=True), out, x)


class MinkowskiGlobalPooling(MinkowskiModuleBase):
    """One row per batch item; items that have no row are 0."""

    def __init__(self, mode: PoolingMode = PoolingMode.GLOBAL_AVG_POOLING_PYTORCH_INDEX) -> None:
        super().__init__()
        if not isinstance(mode, PoolingMode) or not mode.name.startswith("GLOBAL"):
            raise ValueError(f"mode must be a PoolingMode.GLOBAL_..., got {mode!r}.")
        self.pooling_mode = mode

    def forward(self, input: FeatureTensor, coordinates: Any = None) -> SparseTensor:
        """Pool each item of the batch; ``coordinates`` is accepted for compatibility."""
        x = check_rows(input, self)
        key, groups = x.coordinate_manager.batch_groups(x.C[:, 0])
        name = self.pooling_mode.name
        rows: Tensor
        if "MAX" in name:
            rows = group_max(x.F, groups)
        else:
            rows = group_mean(x.F, groups) if "AVG" in name else group_sum(x.F, groups)
        return result_on(rows, key, x)

    def extra_repr(self) -> str:
        """The mode."""
        return f"mode={self.pooling_mode}"


class MinkowskiGlobalSumPooling(MinkowskiGlobalPooling):
    """Sum of each batch item."""

    def __init__(self, mode: PoolingMode = PoolingMode.GLOBAL_SUM_POOLING_PYTORCH_INDEX) -> None:
        super().__init__(mode)


class MinkowskiGlobalAvgPooling(MinkowskiGlobalPooling):
    """Mean of each batch item."""

    def __init__(self, mode: PoolingMode = PoolingMode.GLOBAL_AVG_POOLING_PYTORCH_INDEX) -> None:
        super().__init__(mode)


class MinkowskiGlobalMaxPooling(MinkowskiGlobalPooling):
    """Maximum of each batch item, per channel."""

    def __init__(self, mode: PoolingMode = PoolingMode.GLOBAL_MAX_POOLING_PYTORCH_INDEX) -> None:
        super().__init__(mode)
