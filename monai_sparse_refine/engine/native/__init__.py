"""MinkowskiEngine's API in PyTorch alone: ``import monai_sparse_refine.engine.native as ME``.

docs/native_engine.md lists which names behave exactly as in MinkowskiEngine 0.5.4, which differ, and which
are absent.
"""

from typing import Any

from monai_sparse_refine.engine.native import functional as MinkowskiFunctional
from monai_sparse_refine.engine.native import modules, utils
from monai_sparse_refine.engine.native.activation import (
    MinkowskiAlphaDropout,
    MinkowskiCELU,
    MinkowskiDropout,
    MinkowskiELU,
    MinkowskiGELU,
    MinkowskiHardshrink,
    MinkowskiHardsigmoid,
    MinkowskiHardswish,
    MinkowskiHardtanh,
    MinkowskiLeakyReLU,
    MinkowskiLogSigmoid,
    MinkowskiLogSoftmax,
    MinkowskiPReLU,
    MinkowskiReLU,
    MinkowskiReLU6,
    MinkowskiRReLU,
    MinkowskiSELU,
    MinkowskiSigmoid,
    MinkowskiSiLU,
    MinkowskiSinusoidal,
    MinkowskiSoftmax,
    MinkowskiSoftmin,
    MinkowskiSoftplus,
    MinkowskiSoftshrink,
    MinkowskiSoftsign,
    MinkowskiTanh,
    MinkowskiTanhshrink,
    MinkowskiThreshold,
)
from monai_sparse_refine.engine.native.broadcast import (
    MinkowskiBroadcast,
    MinkowskiBroadcastAddition,
    MinkowskiBroadcastConcatenation,
    MinkowskiBroadcastMultiplication,
)
from monai_sparse_refine.engine.native.channelwise import (
    MinkowskiChannelwiseConvolution,
)
from monai_sparse_refine.engine.native.convolution import (
    MinkowskiConvolution,
    MinkowskiConvolutionTranspose,
    MinkowskiGenerativeConvolutionTranspose,
)
from monai_sparse_refine.engine.native.coordinate_map import (
    CoordinateMapKey,
)
from monai_sparse_refine.engine.native.enums import (
    BroadcastMode,
    ConvolutionMode,
    CoordinateMapType,
    GPUMemoryAllocatorType,
    MinkowskiAlgorithm,
    PoolingMode,
    RegionType,
    SparseTensorOperationMode,
    SparseTensorQuantizationMode,
)
from monai_sparse_refine.engine.native.interpolation import (
    MinkowskiInterpolation,
)
from monai_sparse_refine.engine.native.kernel_region import (
    KernelGenerator,
)
from monai_sparse_refine.engine.native.manager import (
    CoordinateManager,
    CoordsManager,
)
from monai_sparse_refine.engine.native.modules_base import (
    MinkowskiModuleBase,
)
from monai_sparse_refine.engine.native.network import (
    MinkowskiNetwork,
)
from monai_sparse_refine.engine.native.norm import (
    MinkowskiBatchNorm,
    MinkowskiInstanceNorm,
    MinkowskiSyncBatchNorm,
)
from monai_sparse_refine.engine.native.ops import (
    MinkowskiLinear,
    MinkowskiStackCat,
    MinkowskiStackMean,
    MinkowskiStackSum,
    MinkowskiStackVar,
    MinkowskiToDenseTensor,
    MinkowskiToFeature,
    MinkowskiToSparseTensor,
    cat,
    dense_coordinates,
    mean,
    to_sparse,
    to_sparse_all,
    var,
)
from monai_sparse_refine.engine.native.ops import stack_sum as sum
from monai_sparse_refine.engine.native.pooling import (
    MinkowskiAvgPooling,
    MinkowskiGlobalAvgPooling,
    MinkowskiGlobalMaxPooling,
    MinkowskiGlobalPooling,
    MinkowskiGlobalSumPooling,
    MinkowskiMaxPooling,
    MinkowskiPoolingTranspose,
    MinkowskiSumPooling,
)
from monai_sparse_refine.engine.native.pruning import (
    MinkowskiPruning,
    MinkowskiUnion,
)
from monai_sparse_refine.engine.native.shared_manager import (
    clear_global_coordinate_manager,
    global_coordinate_manager,
    set_global_coordinate_manager,
    set_sparse_tensor_operation_mode,
    sparse_tensor_operation_mode,
)
from monai_sparse_refine.engine.native.tensor import (
    SparseTensor,
)
from monai_sparse_refine.engine.native.tensor_field import (
    TensorField,
)

__version__ = "0.5.4"  # of the API

__all__ = [
    "BroadcastMode",
    "ConvolutionMode",
    "CoordinateManager",
    "CoordinateMapKey",
    "CoordinateMapType",
    "CoordsManager",
    "GPUMemoryAllocatorType",
    "KernelGenerator",
    "MinkowskiAlgorithm",
    "MinkowskiAlphaDropout",
    "MinkowskiAvgPooling",
    "MinkowskiBatchNorm",
    "MinkowskiBroadcast",
    "MinkowskiBroadcastAddition",
    "MinkowskiBroadcastConcatenation",
    "MinkowskiBroadcastMultiplication",
    "MinkowskiCELU",
    "MinkowskiChannelwiseConvolution",
    "MinkowskiConvolution",
    "MinkowskiConvolutionTranspose",
    "MinkowskiDropout",
    "MinkowskiELU",
    "MinkowskiFunctional",
    "MinkowskiGELU",
    "MinkowskiGenerativeConvolutionTranspose",
    "MinkowskiGlobalAvgPooling",
    "MinkowskiGlobalMaxPooling",
    "MinkowskiGlobalPooling",
    "MinkowskiGlobalSumPooling",
    "MinkowskiHardshrink",
    "MinkowskiHardsigmoid",
    "MinkowskiHardswish",
    "MinkowskiHardtanh",
    "MinkowskiInstanceNorm",
    "MinkowskiInterpolation",
    "MinkowskiLeakyReLU",
    "MinkowskiLinear",
    "MinkowskiLogSigmoid",
    "MinkowskiLogSoftmax",
    "MinkowskiMaxPooling",
    "MinkowskiModuleBase",
    "MinkowskiNetwork",
    "MinkowskiPReLU",
    "MinkowskiPoolingTranspose",
    "MinkowskiPruning",
    "MinkowskiRReLU",
    "MinkowskiReLU",
    "MinkowskiReLU6",
    "MinkowskiSELU",
    "MinkowskiSiLU",
    "MinkowskiSigmoid",
    "MinkowskiSinusoidal",
    "MinkowskiSoftmax",
    "MinkowskiSoftmin",
    "MinkowskiSoftplus",
    "MinkowskiSoftshrink",
    "MinkowskiSoftsign",
    "MinkowskiStackCat",
    "MinkowskiStackMean",
    "MinkowskiStackSum",
    "MinkowskiStackVar",
    "MinkowskiSumPooling",
    "MinkowskiSyncBatchNorm",
    "MinkowskiTanh",
    "MinkowskiTanhshrink",
    "MinkowskiThreshold",
    "MinkowskiToDenseTensor",
    "MinkowskiToFeature",
    "MinkowskiToSparseTensor",
    "MinkowskiUnion",
    "PoolingMode",
    "RegionType",
    "SparseTensor",
    "SparseTensorOperationMode",
    "SparseTensorQuantizationMode",
    "TensorField",
    "__version__",
    "cat",
    "clear_global_coordinate_manager",
    "dense_coordinates",
    "global_coordinate_manager",
    "is_cuda_available",
    "mean",
    "modules",
    "set_global_coordinate_manager",
    "set_sparse_tensor_operation_mode",
    "sparse_tensor_operation_mode",
    "sum",
    "supports_device",
    "to_sparse",
    "to_sparse_all",
    "utils",
    "var",
]

# Names of MinkowskiEngine that this engine leaves out, and what to use instead.
ABSENT = {
    "KernelRegion": "use KernelGenerator",
    "MinkowskiAdaptiveLogSoftmaxWithLoss": "apply torch.nn.AdaptiveLogSoftmaxWithLoss to the features (x.F)",
    "MinkowskiBroadcastFunction": "use the layers MinkowskiBroadcast...",
    "MinkowskiConvolutionFunction": "use MinkowskiConvolution",
    "MinkowskiConvolutionTransposeFunction": "use MinkowskiConvolutionTranspose",
    "MinkowskiDirectMaxPoolingFunction": "use MinkowskiMaxPooling",
    "MinkowskiGlobalPoolingFunction": "use MinkowskiGlobalPooling",
    "MinkowskiInstanceNormFunction": "use MinkowskiInstanceNorm",
    "MinkowskiInterpolationFunction": "use MinkowskiInterpolation",
    "MinkowskiLocalPoolingFunction": "use the layers Minkowski...Pooling",
    "MinkowskiLocalPoolingTransposeFunction": "use MinkowskiPoolingTranspose",
    "MinkowskiOps": "its functions are in this namespace",
    "MinkowskiPruningFunction": "use MinkowskiPruning",
    "MinkowskiSPMMAverageFunction": "use torch.sparse.mm",
    "MinkowskiSPMMFunction": "use torch.sparse.mm",
    "MinkowskiStableInstanceNorm": "use MinkowskiInstanceNorm (the original fails in MinkowskiEngine 0.5.4)",
    "MinkowskiUnionFunction": "use MinkowskiUnion",
    "convert_region_type": "use KernelGenerator",
    "convert_to_int_tensor": "use torch.tensor",
    "cuda_version": "use torch.version.cuda",
    "cudart_version": "use torch.version.cuda",
    "get_gpu_memory_info": "use torch.cuda.mem_get_info",
    "get_kernel_volume": "use KernelGenerator(...).kernel_volume",
    "print_diagnostics": "use python -m torch.utils.collect_env",
    "set_gpu_allocator": "PyTorch allocates",
    "set_memory_manager_backend": "PyTorch allocates",
    "spmm": "use torch.sparse.mm",
}


def supports_device(kind: str) -> bool:
    """Whether this engine computes on devices of that type ("cpu", "cuda", ...)."""
    return kind in ("cpu", "cuda")


def is_cuda_available() -> bool:
    """Whether tensors can live on a CUDA GPU."""
    import torch

    return torch.cuda.is_available()


def __getattr__(name: str) -> Any:
    if name in ABSENT:
        raise AttributeError(f"The native engine has no {name} of MinkowskiEngine: {ABSENT[name]}.")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
