"""Helpers with the names of MinkowskiEngine.utils."""

from monai_sparse_refine.engine.native.utils.collation import batched_coordinates, sparse_collate
from monai_sparse_refine.engine.native.utils.quantization import sparse_quantize

__all__ = ["batched_coordinates", "sparse_collate", "sparse_quantize"]
