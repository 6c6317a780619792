"""The choices that MinkowskiEngine names by enumerations."""

from __future__ import annotations

from enum import Enum


class SparseTensorQuantizationMode(Enum):
    """What becomes of features whose coordinates coincide."""

    RANDOM_SUBSAMPLE = 0  # here, as in MinkowskiEngine on a CPU: the first one stays
    UNWEIGHTED_AVERAGE = 1
    UNWEIGHTED_SUM = 2
    NO_QUANTIZATION = 3
    MAX_POOL = 4
    SPLAT_LINEAR_INTERPOLATION = 5


class SparseTensorOperationMode(Enum):
    """Whether new tensors make their own coordinate manager or share a global one."""

    SEPARATE_COORDINATE_MANAGER = 0
    SHARE_COORDINATE_MANAGER = 1


class RegionType(Enum):
    """Shape of a kernel."""

    HYPER_CUBE = 0
    HYPER_CROSS = 1
    CUSTOM = 2


class ConvolutionMode(Enum):
    """Accepted for compatibility; the native engine picks its own way."""

    DEFAULT = 0
    DIRECT_GEMM = 1
    COPY_GEMM = 2


class PoolingMode(Enum):
    """How rows are pooled; the variants of one operation differ in MinkowskiEngine's implementation only."""

    LOCAL_SUM_POOLING = 0
    LOCAL_AVG_POOLING = 1
    LOCAL_MAX_POOLING = 2
    GLOBAL_SUM_POOLING_DEFAULT = 3
    GLOBAL_AVG_POOLING_DEFAULT = 4
    GLOBAL_MAX_POOLING_DEFAULT = 5
    GLOBAL_SUM_POOLING_KERNEL = 6
    GLOBAL_AVG_POOLING_KERNEL = 7
    GLOBAL_MAX_POOLING_KERNEL = 8
    GLOBAL_SUM_POOLING_PYTORCH_INDEX = 9
    GLOBAL_AVG_POOLING_PYTORCH_INDEX = 10
    GLOBAL_MAX_POOLING_PYTORCH_INDEX = 11


class BroadcastMode(Enum):
    """How a global feature meets the features of its batch item."""

    ELEMENTWISE_ADDITON = 0  # spelt as in MinkowskiEngine
    ELEMENTWISE_MULTIPLICATION = 1


class CoordinateMapType(Enum):
    """Accepted for compatibility: a map lives where its coordinates live."""

    CPU = 0
    CUDA = 1


class GPUMemoryAllocatorType(Enum):
    """Accepted for compatibility: PyTorch allocates."""

    PYTORCH = 0
    CUDA = 1


class MinkowskiAlgorithm(Enum):
    """Accepted for compatibility."""

    DEFAULT = 0
    MEMORY_EFFICIENT = 1
    SPEED_OPTIMIZED = 2
