"""Interpolation as a layer."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from monai_sparse_refine.engine.native.interpolate import interpolate_rows, interpolation_weights
from monai_sparse_refine.engine.native.modules_base import MinkowskiModuleBase, check_input
from monai_sparse_refine.engine.native.tensor import SparseTensor


class MinkowskiInterpolation(MinkowskiModuleBase):
    """Features at real coordinates, multilinear between the cells; a missing cell is 0.

    Args:
        return_kernel_map: return the pair (input rows, sample numbers), too.
        return_weights: return their weights, too.
    """

    def __init__(self, return_kernel_map: bool = False, return_weights: bool = False) -> None:
        super().__init__()
        self.return_kernel_map, self.return_weights = return_kernel_map, return_weights

    def forward(self, input: SparseTensor, tfield: Tensor) -> Any:
        """(M, C) features at ``tfield`` (M, 1 + D), and what was asked for besides."""
        x = check_input(input, self)
        source = x.coordinate_manager.coordinate_map(x.coordinate_map_key)
        weights = interpolation_weights(source, tfield)
        result: list[Any] = [interpolate_rows(x.F, weights)]
        if self.return_kernel_map:
            result.append((weights.rows, weights.samples))
        if self.return_weights:
            result.append(weights.weights)
        return result[0] if len(result) == 1 else tuple(result)
