"""Helpers with the names of MinkowskiEngine.utils."""

from typing import Any

from monai_sparse_refine.engine.native.utils.collation import (
    SparseCollation,
    batch_sparse_collate,
    batched_coordinates,
    sparse_collate,
)
from monai_sparse_refine.engine.native.utils.init import kaiming_normal_
from monai_sparse_refine.engine.native.utils.quantization import sparse_quantize, unique_coordinate_map

__all__ = [
    "SparseCollation",
    "batch_sparse_collate",
    "batched_coordinates",
    "kaiming_normal_",
    "sparse_collate",
    "sparse_quantize",
    "unique_coordinate_map",
]

_ABSENT = {
    "fnv_hash_vec": "use torch.unique or unique_coordinate_map",
    "ravel_hash_vec": "use torch.unique or unique_coordinate_map",
    "summary": "print the module",
}


def __getattr__(name: str) -> Any:
    if name in _ABSENT:
        raise AttributeError(f"The native engine has no utils.{name} of MinkowskiEngine: {_ABSENT[name]}.")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
