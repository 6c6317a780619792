"""SparseTensor: features on the rows of a coordinate map."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from monai_sparse_refine.engine.native.coordinate_map import CoordinateMapKey
from monai_sparse_refine.engine.native.coordinates import as_tuple, check_coordinates, to_cells
from monai_sparse_refine.engine.native.enums import SparseTensorOperationMode, SparseTensorQuantizationMode
from monai_sparse_refine.engine.native.manager import CoordinateManager
from monai_sparse_refine.engine.native.reduce import reduce_rows
from monai_sparse_refine.engine.native.union import union_maps, union_rows


class _SharedManager:
    """The coordinate manager that tensors share where the program asks for it."""

    mode = SparseTensorOperationMode.SEPARATE_COORDINATE_MANAGER
    manager: CoordinateManager | None = None


def set_sparse_tensor_operation_mode(operation_mode: SparseTensorOperationMode) -> None:
    """Let new tensors share one coordinate manager, or give each its own (the default)."""
    if not isinstance(operation_mode, SparseTensorOperationMode):
        raise TypeError(f"operation_mode must be a SparseTensorOperationMode, got {operation_mode!r}.")
    _SharedManager.mode = operation_mode
    if operation_mode == SparseTensorOperationMode.SEPARATE_COORDINATE_MANAGER:
        _SharedManager.manager = None


def sparse_tensor_operation_mode() -> SparseTensorOperationMode:
    """The current operation mode."""
    return _SharedManager.mode


def global_coordinate_manager() -> CoordinateManager | None:
    """The shared coordinate manager, if there is one."""
    return _SharedManager.manager


def set_global_coordinate_manager(coordinate_manager: CoordinateManager) -> None:
    """Replace the shared coordinate manager."""
    _SharedManager.manager = coordinate_manager


def clear_global_coordinate_manager() -> None:
    """Forget the shared coordinate manager, and with it the coordinates it holds."""
    _SharedManager.manager = None


class SparseTensor:
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
            coordinates = None if coordinates is None else coordinates.to(device)
        self.quantization_mode = quantization_mode
        if coordinates is None:
            if coordinate_map_key is None or coordinate_manager is None:
                raise ValueError(
                    "SparseTensor needs coordinates, or both coordinate_map_key and coordinate_manager."
                )
            rows = coordinate_manager.size(coordinate_map_key)
            if len(features) != rows:
                raise ValueError(
                    f"features has {len(features)} rows, but the coordinates of {coordinate_map_key!r} have {rows}."
                )
        else:
            if coordinate_map_key is not None:
                raise ValueError("Give SparseTensor either coordinates or coordinate_map_key, not both.")
            coordinates = check_coordinates(coordinates)
            if len(coordinates) != len(features):
                raise ValueError(
                    f"features and coordinates need the same number of rows, got {len(features)} and {len(coordinates)}."
                )
            if coordinates.device != features.device:
                raise ValueError(
                    f"features are on {features.device}, coordinates on {coordinates.device}; move both, or pass device=."
                )
            if coordinate_manager is None:
                coordinate_manager = _manager_for(coordinates.shape[1] - 1)
            coordinate_map_key, maps = coordinate_manager.insert_and_map(coordinates, tensor_stride)
            self._unique_map, self._inverse_map = maps
            if len(maps[0]):
                features = _quantize(features, maps, quantization_mode)
        self._key = coordinate_map_key
        self._manager = coordinate_manager
        self._F = features
        if requires_grad is not None:
            self._F.requires_grad_(requires_grad)

    # What it holds

    @property
    def F(self) -> Tensor:
        """(N, C) features."""
        return self._F

    features = F

    @property
    def C(self) -> Tensor:
        """(N, 1 + D) int32 coordinates [batch, x, y, ...]."""
        return self._manager.get_coordinates(self._key)

    coordinates = C

    @property
    def D(self) -> int:
        """Number of spatial dimensions."""
        return self._manager.D

    dimension = D

    @property
    def tensor_stride(self) -> list[int]:
        """Tensor stride per axis."""
        return self._key.get_tensor_stride()

    @property
    def coordinate_map_key(self) -> CoordinateMapKey:
        """Key of the coordinates."""
        return self._key

    coordinate_key = coordinate_map_key

    @property
    def coordinate_manager(self) -> CoordinateManager:
        """Manager of the coordinates."""
        return self._manager

    @property
    def inverse_mapping(self) -> Tensor:
        """(rows given,) int64: the row that each given row went to."""
        inverse = getattr(self, "_inverse_map", None)
        if inverse is None:
            raise ValueError("inverse_mapping exists only on a SparseTensor made from coordinates.")
        return inverse if len(inverse) else torch.arange(len(self), device=self.device)

    @property
    def unique_index(self) -> Tensor:
        """(N,) int64: the given row whose coordinates each row has."""
        unique = getattr(self, "_unique_map", None)
        if unique is None:
            raise ValueError("unique_index exists only on a SparseTensor made from coordinates.")
        return unique if len(unique) else torch.arange(len(self), device=self.device)

    @property
    def shape(self) -> torch.Size:
        """(N, C)."""
        return self._F.shape

    def size(self) -> torch.Size:
        """(N, C)."""
        return self._F.size()

    def __len__(self) -> int:
        return len(self._F)

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the features."""
        return self._F.dtype

    @property
    def device(self) -> torch.device:
        """Device of the features."""
        return self._F.device

    def get_device(self) -> int:
        """Index of the GPU, -1 on a CPU."""
        return self._F.get_device()

    @property
    def requires_grad(self) -> bool:
        """Whether gradients reach the features."""
        return self._F.requires_grad

    def requires_grad_(self, requires_grad: bool = True) -> None:
        """Set on the features."""
        self._F.requires_grad_(requires_grad)

    # Copies

    def like(self, features: Tensor) -> SparseTensor:
        """Other features on the same coordinates."""
        return SparseTensor(
            features,
            coordinate_map_key=self._key,
            coordinate_manager=self._manager,
            quantization_mode=self.quantization_mode,
        )

    def detach(self) -> SparseTensor:
        """The same without history."""
        return self.like(self._F.detach())

    def float(self) -> SparseTensor:
        """In single precision (in place, as in MinkowskiEngine)."""
        self._F = self._F.float()
        return self

    def double(self) -> SparseTensor:
        """In double precision (in place, as in MinkowskiEngine)."""
        self._F = self._F.double()
        return self

    # Arithmetic

    def _combine(self, other: Any, operation: Callable[[Any, Any], Tensor]) -> SparseTensor:
        if not isinstance(other, SparseTensor):
            return self.like(operation(self._F, other))
        check_same_manager(self, other)
        if self._key == other._key:
            return self.like(operation(self._F, other._F))
        union = union_maps(self._manager, [self._key, other._key])
        mine = union_rows([self._F], union, [0])
        theirs = union_rows([other._F], union, [1])
        return SparseTensor(
            operation(mine, theirs), coordinate_map_key=union.key, coordinate_manager=self._manager
        )

    def __add__(self, other: Any) -> SparseTensor:
        if isinstance(other, SparseTensor) and self._key != other._key:
            check_same_manager(self, other)
            union = union_maps(self._manager, [self._key, other._key])
            return SparseTensor(
                union_rows([self._F, other._F], union, [0, 1]),
                coordinate_map_key=union.key,
                coordinate_manager=self._manager,
            )
        return self._combine(other, torch.add)

    def __sub__(self, other: Any) -> SparseTensor:
        return self._combine(other, torch.sub)

    def __mul__(self, other: Any) -> SparseTensor:
        return self._combine(other, torch.mul)

    def __truediv__(self, other: Any) -> SparseTensor:
        return self._combine(other, torch.div)

    def __neg__(self) -> SparseTensor:
        return self.like(-self._F)

    def _inplace(self, other: Any, operation: str) -> SparseTensor:
        if isinstance(other, SparseTensor):
            check_same_manager(self, other)
            if self._key != other._key:
                raise ValueError(
                    f"{operation} in place needs equal coordinates; use the operator without '='."
                )
            other = other._F
        getattr(self._F, operation)(other)
        return self

    def __iadd__(self, other: Any) -> SparseTensor:
        return self._inplace(other, "__iadd__")

    def __isub__(self, other: Any) -> SparseTensor:
        return self._inplace(other, "__isub__")

    def __imul__(self, other: Any) -> SparseTensor:
        return self._inplace(other, "__imul__")

    def __itruediv__(self, other: Any) -> SparseTensor:
        return self._inplace(other, "__itruediv__")

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
            min_coordinate: (D,) integers, the position of the first voxel; zeros by default where no coordinate is
                negative, as in MinkowskiEngine.
            contract_stride: one voxel per tensor stride.

        Returns:
            The dense tensor [B, C, *spatial], the minimum coordinate (D,) int32 and the tensor stride (D,) int32.
        """
        coordinates = self.C
        stride = tuple(self.tensor_stride)
        spatial = coordinates[:, 1:]
        if min_coordinate is None:
            if len(coordinates) and int(spatial.amin()) < 0:
                raise ValueError(
                    "coordinates are negative: pass min_coordinate to say where the dense tensor starts."
                )
            low = torch.zeros(self.D, dtype=torch.int32, device=self.device)
        else:
            low = torch.as_tensor(min_coordinate, dtype=torch.int32, device=self.device).reshape(-1)
            if len(low) != self.D:
                raise ValueError(f"min_coordinate must have {self.D} values, got {len(low)}.")
            as_tuple(
                (low % torch.tensor(stride, device=low.device)).tolist(), self.D, "min_coordinate", minimum=0
            )
            if bool((low % torch.tensor(stride, device=low.device)).any()):
                raise ValueError(
                    f"min_coordinate must be a multiple of the tensor stride {stride}, got {low.tolist()}."
                )
        shifted = torch.cat([coordinates[:, :1], spatial - low], dim=1)
        cells = to_cells(shifted, stride) if contract_stride else shifted
        if shape is None:
            top = cells.amax(0).tolist() if len(cells) else [-1] * (self.D + 1)
            shape = (top[0] + 1, self._F.shape[1], *(t + 1 for t in top[1:]))
        shape = tuple(int(n) for n in shape)
        if len(shape) != self.D + 2 or shape[1] != self._F.shape[1]:
            raise ValueError(f"shape must be [B, {self._F.shape[1]}, *{self.D} axes], got {shape}.")
        if len(cells):
            bottom, top = cells.amin(0).tolist(), cells.amax(0).tolist()
            limits = (shape[0], *shape[2:])
            if min(bottom) < 0 or any(t >= n for t, n in zip(top, limits, strict=True)):
                raise ValueError(
                    f"coordinates from {bottom} to {top} do not fit a dense tensor of shape {shape}."
                )
        dense = self._F.new_zeros(shape[0], *shape[2:], shape[1])
        dense = dense.index_put(tuple(cells.long().unbind(1)), self._F).movedim(-1, 1).contiguous()
        return dense, low, torch.tensor(stride, dtype=torch.int32)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(\n  coordinates={self.C}\n  features={self.F}\n  "
            f"coordinate_map_key={self._key}\n  coordinate_manager={self._manager}\n  spatial dimension={self.D})"
        )


def check_features(features: Any) -> Tensor:
    """Return (N, C) floating-point features, or raise."""
    if not isinstance(features, Tensor):
        raise TypeError(f"features must be a torch.Tensor (N, C), got {type(features).__name__}.")
    if features.ndim != 2:
        raise ValueError(
            f"features must have shape (N, C), got {tuple(features.shape)}; a single channel is (N, 1)."
        )
    if not features.is_floating_point():
        raise TypeError(f"features must be floating point, got {features.dtype}; convert them with .float().")
    return features


def check_same_manager(*tensors: SparseTensor) -> None:
    """Raise unless all tensors share one coordinate manager."""
    if any(tensor.coordinate_manager is not tensors[0].coordinate_manager for tensor in tensors[1:]):
        raise ValueError(
            "These sparse tensors belong to different coordinate managers. Make the second with "
            "coordinate_manager=first.coordinate_manager."
        )


def _manager_for(dimension: int) -> CoordinateManager:
    if _SharedManager.mode == SparseTensorOperationMode.SEPARATE_COORDINATE_MANAGER:
        return CoordinateManager(D=dimension)
    if _SharedManager.manager is None:
        _SharedManager.manager = CoordinateManager(D=dimension)
    return _SharedManager.manager


def _quantize(features: Tensor, maps: tuple[Tensor, Tensor], mode: SparseTensorQuantizationMode) -> Tensor:
    unique, inverse = maps
    modes = SparseTensorQuantizationMode
    if mode == modes.RANDOM_SUBSAMPLE:
        return features[unique]
    if mode == modes.NO_QUANTIZATION:
        raise ValueError(
            f"quantization_mode is NO_QUANTIZATION, but {len(features) - len(unique)} of {len(features)} coordinates are "
            "duplicates. Remove them, or choose another mode."
        )
    if mode == modes.SPLAT_LINEAR_INTERPOLATION:
        raise ValueError(
            "SPLAT_LINEAR_INTERPOLATION is for TensorField.sparse(); integer coordinates have nothing to splat."
        )
    operation = {
        modes.UNWEIGHTED_AVERAGE: "mean",
        modes.UNWEIGHTED_SUM: "sum",
        modes.MAX_POOL: "max",
    }[mode]
    return reduce_rows(features, inverse, len(unique), operation)
