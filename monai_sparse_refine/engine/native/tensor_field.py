"""TensorField: features at real coordinates, before they become a SparseTensor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from monai_sparse_refine.engine.native.coordinate_map import CoordinateMap, CoordinateMapKey, all_shifted
from monai_sparse_refine.engine.native.coordinates import as_tuple, check_coordinates
from monai_sparse_refine.engine.native.enums import SparseTensorQuantizationMode
from monai_sparse_refine.engine.native.feature_tensor import (
    FeatureTensor,
    check_features,
    check_lengths,
    check_same_manager,
)
from monai_sparse_refine.engine.native.interpolate import interpolation_weights, splat_rows
from monai_sparse_refine.engine.native.kernel_region import cube_offsets
from monai_sparse_refine.engine.native.manager import CoordinateManager
from monai_sparse_refine.engine.native.reduce import quantize_rows
from monai_sparse_refine.engine.native.shared_manager import manager_for
from monai_sparse_refine.engine.native.tensor import SparseTensor


class TensorField(FeatureTensor):
    """Features on real coordinates, which need not be distinct.

    Args:
        features: (N, C) floating point.
        coordinates: (N, 1 + D) real rows [batch, x, y, ...] in voxels; or a key and its manager instead.
        tensor_stride: kept for compatibility.
        coordinate_field_map_key, coordinate_manager: existing coordinates.
        quantization_mode: how :meth:`sparse` merges rows that fall into one voxel.
        allocator_type, minkowski_algorithm: accepted for compatibility.
        requires_grad: set on the features if given.
        device: where to move features and coordinates.

    Raises:
        TypeError, ValueError: for arguments that do not fit together, naming the one.
    """

    def __init__(
        self,
        features: Tensor,
        coordinates: Tensor | None = None,
        tensor_stride: Any = 1,
        coordinate_field_map_key: CoordinateMapKey | None = None,
        coordinate_manager: CoordinateManager | None = None,
        quantization_mode: SparseTensorQuantizationMode = SparseTensorQuantizationMode.UNWEIGHTED_AVERAGE,
        allocator_type: Any = None,
        minkowski_algorithm: Any = None,
        requires_grad: bool | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        features = check_features(features)
        if not isinstance(quantization_mode, SparseTensorQuantizationMode):
            raise TypeError(
                f"quantization_mode must be a SparseTensorQuantizationMode, got {quantization_mode!r}."
            )
        if device is not None:
            features = features.to(device)
        if coordinates is None:
            if coordinate_field_map_key is None or coordinate_manager is None:
                raise ValueError(
                    "TensorField needs coordinates, or both coordinate_field_map_key and coordinate_manager."
                )
            check_lengths(features, coordinate_manager.get_coordinate_field(coordinate_field_map_key))
        else:
            coordinates = coordinates if device is None else coordinates.to(device)
            check_coordinates(coordinates)
            check_lengths(features, coordinates)
            if coordinate_manager is None:
                coordinate_manager = manager_for(coordinates.shape[1] - 1)
            stride = as_tuple(tensor_stride, coordinate_manager.D, "tensor_stride")
            coordinate_field_map_key, _ = coordinate_manager.insert_field(coordinates, stride)
        self.quantization_mode = quantization_mode
        self._key = coordinate_field_map_key
        self._manager = coordinate_manager
        self._F = features
        if requires_grad is not None:
            self._F.requires_grad_(requires_grad)

    @property
    def C(self) -> Tensor:
        """(N, 1 + D) real coordinates [batch, x, y, ...]."""
        return self._manager.get_coordinate_field(self._key)

    @property
    def tensor_stride(self) -> list[int]:
        """Tensor stride per axis."""
        return self._key.get_tensor_stride()

    @property
    def coordinate_field_map_key(self) -> CoordinateMapKey:
        """Key of the coordinates."""
        return self._key

    @property
    def coordinate_key(self) -> CoordinateMapKey:
        """Key of the coordinates."""
        return self._key

    def like(self, features: Tensor) -> TensorField:
        """Other features on the same coordinates."""
        return TensorField(
            features,
            coordinate_field_map_key=self._key,
            coordinate_manager=self._manager,
            quantization_mode=self.quantization_mode,
        )

    def _combine(self, other: Any, operation: Callable[[Any, Any], Tensor]) -> TensorField:
        return self.like(operation(self._F, self._operand(other)))

    def _operand(self, other: Any) -> Any:
        if not isinstance(other, FeatureTensor):
            return other
        check_same_manager(self, other)
        if not isinstance(other, TensorField) or self._key != other._key:
            raise ValueError("Only TensorFields with the same coordinates can be combined.")
        return other._F

    def sparse(
        self,
        tensor_stride: Any = 1,
        coordinate_map_key: CoordinateMapKey | None = None,
        quantization_mode: SparseTensorQuantizationMode | None = None,
    ) -> SparseTensor:
        """Merge the rows of each voxel.

        Args:
            tensor_stride: edge of a voxel.
            coordinate_map_key: existing voxels to use instead.
            quantization_mode: in place of the field's own.

        Returns:
            A SparseTensor of the same coordinate manager.
        """
        mode = quantization_mode or self.quantization_mode
        if mode == SparseTensorQuantizationMode.SPLAT_LINEAR_INTERPOLATION:
            return self.splat()
        manager = self._manager
        if coordinate_map_key is None:
            stride = as_tuple(tensor_stride, self.D, "tensor_stride")
            key, (unique, inverse) = manager.field_to_sparse_insert_and_map(self._key, stride)
        else:
            key = coordinate_map_key
            inverse = self.inverse_mapping(key)
            unique = torch.full((manager.size(key),), len(self), device=self.device)
            unique.scatter_reduce_(0, inverse, torch.arange(len(self), device=self.device), "amin")
            if len(unique) and int(unique.max()) == len(self):
                raise ValueError(f"{key!r} has voxels that hold no row of this TensorField.")
        distinct = len(unique) == len(self._F)
        merged = self._F[unique] if distinct else quantize_rows(self._F, unique, inverse, mode)
        return SparseTensor(
            merged, coordinate_map_key=key, coordinate_manager=manager, quantization_mode=mode
        )

    def splat(self) -> SparseTensor:
        """Spread every row over the voxels around it, with multilinear weights."""
        cells = check_coordinates(self.C)
        ones = (1,) * self.D
        corners = all_shifted(CoordinateMap(cells, ones), cube_offsets((2,) * self.D), ones, distinct=False)
        candidates = CoordinateMap(corners, ones)
        weights = interpolation_weights(candidates, self.C)
        used = torch.unique(weights.rows)  # corners of weight 0 are no voxels
        rank = torch.zeros(len(corners), dtype=torch.int64, device=self.device)
        rank[used] = torch.arange(len(used), device=self.device)
        key = self._manager.register(corners[used], ones, None)
        rows = splat_rows(self._F, weights._replace(rows=rank[weights.rows]), len(used))
        return SparseTensor(rows, coordinate_map_key=key, coordinate_manager=self._manager)

    def inverse_mapping(self, sparse_tensor_map_key: CoordinateMapKey) -> Tensor:
        """(N,) int64: row of the voxel of every row.

        Raises:
            ValueError: if a row lies in none of the voxels.
        """
        rows = self._manager.rows_at(sparse_tensor_map_key, self.C)
        if len(rows) and int(rows.min()) == 0:
            raise ValueError(f"Some rows of this TensorField lie in no voxel of {sparse_tensor_map_key!r}.")
        return rows.long() - 1

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(\n  coordinates={self.C}\n  features={self.F}\n  "
            f"coordinate_field_map_key={self._key}\n  coordinate_manager={self._manager}\n"
            f"  spatial dimension={self.D})"
        )
