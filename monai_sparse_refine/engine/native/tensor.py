"""SparseTensor: features on the rows of a coordinate map."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from monai_sparse_refine.engine.native import dense_view
from monai_sparse_refine.engine.native.coordinate_map import CoordinateMapKey
from monai_sparse_refine.engine.native.coordinates import check_coordinates
from monai_sparse_refine.engine.native.enums import SparseTensorQuantizationMode
from monai_sparse_refine.engine.native.feature_tensor import (
    FeatureTensor,
    check_features,
    check_lengths,
    check_same_manager,
)
from monai_sparse_refine.engine.native.gather_gemm import with_zero_row
from monai_sparse_refine.engine.native.interpolate import interpolate_rows, interpolation_weights
from monai_sparse_refine.engine.native.manager import CoordinateManager
from monai_sparse_refine.engine.native.reduce import quantize_rows
from monai_sparse_refine.engine.native.shared_manager import manager_for
from monai_sparse_refine.engine.native.union import absent_rows, union_maps, union_rows

if TYPE_CHECKING:
    from monai_sparse_refine.engine.native.tensor_field import TensorField


class SparseTensor(FeatureTensor):
    """Features on distinct integer coordinates.

    Args:
        features: (N, C) floating point.
        coordinates: (N, 1 + D) integer rows [batch, x, y, ...]; or a key and its manager instead.
        tensor_stride: what the coordinates are multiples of.
        coordinate_map_key, coordinate_manager: existing coordinates.
        quantization_mode: what becomes of rows with the same coordinates.
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
        coordinate_map_key: CoordinateMapKey | None = None,
        coordinate_manager: CoordinateManager | None = None,
        quantization_mode: SparseTensorQuantizationMode = SparseTensorQuantizationMode.RANDOM_SUBSAMPLE,
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
        self.quantization_mode = quantization_mode
        self._maps: tuple[Tensor, Tensor] | None = None  # of given coordinates with duplicates
        self._given: int | None = None
        if coordinates is None:
            if coordinate_map_key is None or coordinate_manager is None:
                raise ValueError(
                    "SparseTensor needs coordinates, or both coordinate_map_key and coordinate_manager."
                )
            rows = coordinate_manager.size(coordinate_map_key)
            if len(features) != rows:
                raise ValueError(
                    f"features has {len(features)} rows, but {coordinate_map_key!r} has {rows} coordinates."
                )
        else:
            if coordinate_map_key is not None:
                raise ValueError("Give SparseTensor either coordinates or coordinate_map_key, not both.")
            coordinates = check_coordinates(coordinates)
            if device is not None:
                coordinates = coordinates.to(device)
            check_lengths(features, coordinates)
            if coordinate_manager is None:
                coordinate_manager = manager_for(coordinates.shape[1] - 1)
            coordinate_map_key, maps = coordinate_manager.insert(coordinates, tensor_stride)
            if maps is not None:
                features = quantize_rows(features, *maps, quantization_mode)
            self._maps = maps
            self._given = len(coordinates)
        self._key = coordinate_map_key
        self._manager = coordinate_manager
        self._F = features
        if requires_grad is not None:
            self._F.requires_grad_(requires_grad)

    @property
    def C(self) -> Tensor:
        """(N, 1 + D) int32 coordinates [batch, x, y, ...]."""
        return self._manager.get_coordinates(self._key)

    @property
    def tensor_stride(self) -> list[int]:
        """Tensor stride per axis."""
        return self._key.get_tensor_stride()

    @property
    def coordinate_map_key(self) -> CoordinateMapKey:
        """Key of the coordinates."""
        return self._key

    @property
    def coordinate_key(self) -> CoordinateMapKey:
        """Key of the coordinates."""
        return self._key

    @property
    def unique_index(self) -> Tensor:
        """(N,) int64: the given row whose coordinates each row has."""
        return self._map(0, "unique_index")

    @property
    def inverse_mapping(self) -> Tensor:
        """(rows given,) int64: the row that each given row went to."""
        return self._map(1, "inverse_mapping")

    def _map(self, which: int, name: str) -> Tensor:
        if self._given is None:
            raise ValueError(f"{name} exists only on a SparseTensor made from coordinates.")
        return torch.arange(self._given, device=self.device) if self._maps is None else self._maps[which]

    # Copies

    def like(self, features: Tensor) -> SparseTensor:
        """Other features on the same coordinates."""
        return SparseTensor(
            features,
            coordinate_map_key=self._key,
            coordinate_manager=self._manager,
            quantization_mode=self.quantization_mode,
        )

    def to(self, *args: Any, **kwargs: Any) -> SparseTensor:
        """Features converted as by ``torch.Tensor.to``; another device gets its own coordinate manager."""
        features = self._F.to(*args, **kwargs)
        if features.device == self._F.device:
            return self.like(features)
        return SparseTensor(
            features,
            self.C.to(features.device),
            tensor_stride=self.tensor_stride,
            quantization_mode=self.quantization_mode,
        )

    def cpu(self) -> SparseTensor:
        """On the CPU."""
        return self.to("cpu")

    def cuda(self, device: int | str | torch.device = "cuda") -> SparseTensor:
        """On a GPU."""
        return self.to(torch.device("cuda", device) if isinstance(device, int) else device)

    # Arithmetic

    def _combine(self, other: Any, operation: Callable[[Any, Any], Tensor]) -> SparseTensor:
        if not isinstance(other, SparseTensor):
            return self.like(operation(self._F, other))
        check_same_manager(self, other)
        if self._key == other._key:
            return self.like(operation(self._F, other._F))
        union = union_maps(self._manager, [self._key, other._key])
        if operation is torch.add:
            rows = union_rows([self._F, other._F], union, [0, 1])
        else:
            mine, theirs = union_rows([self._F], union, [0]), union_rows([other._F], union, [1])
            if operation is not torch.sub:
                # As in MinkowskiEngine: rows that only the first has stay as they are.
                theirs = theirs + absent_rows(union, 1, like=theirs)
            rows = operation(mine, theirs)
        return SparseTensor(rows, coordinate_map_key=union.key, coordinate_manager=self._manager)

    def _operand(self, other: Any) -> Any:
        if not isinstance(other, SparseTensor):
            return other
        check_same_manager(self, other)
        if self._key != other._key:
            raise ValueError("An operation in place needs equal coordinates; use the operator without '='.")
        return other._F

    # Dense

    def dense(
        self,
        shape: Sequence[int] | None = None,
        min_coordinate: Tensor | None = None,
        contract_stride: bool = True,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Scatter into a dense tensor.

        Args:
            shape: [B, C, *spatial] of the result; by default what holds every row.
            min_coordinate: D integers, the position of the first voxel; by default 0, as in MinkowskiEngine.
            contract_stride: one voxel per tensor stride.

        Returns:
            The dense tensor [B, C, *spatial], the minimum coordinate (1, D) and the tensor stride (D,),
            int32.

        Raises:
            ValueError: if the coordinates do not fit.
        """
        return dense_view.to_dense(
            self._F, self.C, self.tensor_stride, shape, min_coordinate, contract_stride
        )

    def sparse(
        self,
        min_coords: Tensor | None = None,
        max_coords: Tensor | None = None,
        contract_coords: bool = True,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As a ``torch.sparse_coo_tensor`` [B, *spatial, C], with minimum coordinate and tensor stride."""
        return dense_view.to_coo(self._F, self.C, self.tensor_stride, min_coords, max_coords, contract_coords)

    # Other coordinates

    def features_at_coordinates(self, query_coordinates: Tensor) -> Tensor:
        """(M, C) features at real coordinates (M, 1 + D), multilinear; a missing neighbour is 0."""
        lookup_map = self._manager.coordinate_map(self._key)
        return interpolate_rows(self._F, interpolation_weights(lookup_map, query_coordinates))

    def rows_at(self, coordinates: Tensor) -> Tensor:
        """(M,) int32: row + 1 of the cell that holds each coordinate, 0 where there is none."""
        return self._manager.rows_at(self._key, coordinates)

    def slice(self, X: TensorField | SparseTensor) -> Any:
        """Features of the cell around every row of ``X``, on the rows of ``X``; 0 without a cell."""
        check_same_manager(self, X)
        return X.like(with_zero_row(self._F).index_select(0, self.rows_at(X.C)))

    def cat_slice(self, X: TensorField | SparseTensor) -> Any:
        """:meth:`slice`, followed by the features of ``X``."""
        return X.like(torch.cat([self.slice(X).F, X.F], dim=1))

    def interpolate(self, X: TensorField) -> TensorField:
        """Features at the real coordinates of a TensorField, multilinear."""
        check_same_manager(self, X)
        return X.like(self.features_at_coordinates(X.C))

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(\n  coordinates={self.C}\n  features={self.F}\n  "
            f"coordinate_map_key={self._key}\n  coordinate_manager={self._manager}\n"
            f"  spatial dimension={self.D})"
        )
