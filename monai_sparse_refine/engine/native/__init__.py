"""MinkowskiEngine's API in PyTorch alone: ``import monai_sparse_refine.engine.native as ME``."""

from monai_sparse_refine.engine.native import utils
from monai_sparse_refine.engine.native.activation import MinkowskiReLU
from monai_sparse_refine.engine.native.convolution import (
    MinkowskiConvolution,
    MinkowskiConvolutionTranspose,
    MinkowskiGenerativeConvolutionTranspose,
)
from monai_sparse_refine.engine.native.coordinate_map import CoordinateMapKey
from monai_sparse_refine.engine.native.enums import (
    ConvolutionMode,
    RegionType,
    SparseTensorOperationMode,
    SparseTensorQuantizationMode,
)
from monai_sparse_refine.engine.native.kernel_region import KernelGenerator
from monai_sparse_refine.engine.native.manager import CoordinateManager
from monai_sparse_refine.engine.native.modules_base import MinkowskiModuleBase
from monai_sparse_refine.engine.native.norm import MinkowskiBatchNorm
from monai_sparse_refine.engine.native.pruning import MinkowskiPruning, MinkowskiUnion
from monai_sparse_refine.engine.native.tensor import SparseTensor

__all__ = [
    "ConvolutionMode",
    "CoordinateManager",
    "CoordinateMapKey",
    "KernelGenerator",
    "MinkowskiBatchNorm",
    "MinkowskiConvolution",
    "MinkowskiConvolutionTranspose",
    "MinkowskiGenerativeConvolutionTranspose",
    "MinkowskiModuleBase",
    "MinkowskiPruning",
    "MinkowskiReLU",
    "MinkowskiUnion",
    "RegionType",
    "SparseTensor",
    "SparseTensorOperationMode",
    "SparseTensorQuantizationMode",
    "supports_device",
    "utils",
]


def supports_device(kind: str) -> bool:
    """Whether this engine computes on devices of that type ("cpu", "cuda", ...)."""
    return kind in ("cpu", "cuda")
