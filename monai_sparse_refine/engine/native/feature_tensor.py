"""What SparseTensor and TensorField have in common: features, one row per coordinate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

from monai_sparse_refine.engine.native.enums import SparseTensorQuantizationMode
from monai_sparse_refine.engine.native.manager import CoordinateManager

Self = TypeVar("Self", bound="FeatureTensor")


class FeatureTensor:
    """Features (N, C) on coordinates (N, 1 + D); see the subclasses."""

    _F: Tensor
    _manager: CoordinateManager
    quantization_mode: SparseTensorQuantizationMode

    # What it holds

    @property
    def F(self) -> Tensor:
        """(N, C) features."""
        return self._F

    @property
    def features(self) -> Tensor:
        """(N, C) features."""
        return self._F

    @property
    def C(self) -> Tensor:
        """(N, 1 + D) coordinates [batch, x, y, ...]."""
        raise NotImplementedError

    @property
    def coordinates(self) -> Tensor:
        """(N, 1 + D) coordinates [batch, x, y, ...]."""
        return self.C

    @property
    def D(self) -> int:
        """Number of spatial dimensions."""
        return self._manager.D

    @property
    def dimension(self) -> int:
        """Number of spatial dimensions."""
        return self._manager.D

    @property
    def coordinate_manager(self) -> CoordinateManager:
        """Manager of the coordinates."""
        return self._manager

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

    # Items of the batch

    @property
    def decomposition_permutations(self) -> list[Tensor]:
        """For each batch index that occurs, ascending, the rows of that item in ascending order."""
        batch = self.C[:, 0]
        return [(batch == index).nonzero().squeeze(1) for index in torch.unique(batch)]

    @property
    def decomposed_coordinates(self) -> list[Tensor]:
        """Spatial coordinates (N_i, D) of each item."""
        return [self.C[rows, 1:] for rows in self.decomposition_permutations]

    @property
    def decomposed_features(self) -> list[Tensor]:
        """Features (N_i, C) of each item."""
        return [self._F[rows] for rows in self.decomposition_permutations]

    @property
    def decomposed_coordinates_and_features(self) -> tuple[list[Tensor], list[Tensor]]:
        """Both of the above."""
        return self.decomposed_coordinates, self.decomposed_features

    def coordinates_at(self, batch_index: int) -> Tensor:
        """Spatial coordinates (N_i, D) of one item."""
        return self.C[self.C[:, 0] == batch_index, 1:]

    def features_at(self, batch_index: int) -> Tensor:
        """Features (N_i, C) of one item."""
        return self._F[self.C[:, 0] == batch_index]

    def coordinates_and_features_at(self, batch_index: int) -> tuple[Tensor, Tensor]:
        """Both of the above."""
        return self.coordinates_at(batch_index), self.features_at(batch_index)

    # Copies

    def like(self: Self, features: Tensor) -> Self:
        """Other features on the same coordinates."""
        raise NotImplementedError

    def detach(self: Self) -> Self:
        """The same without history."""
        return self.like(self._F.detach())

    def float(self: Self) -> Self:
        """Single precision, in place as in MinkowskiEngine."""
        self._F = self._F.float()
        return self

    def double(self: Self) -> Self:
        """Double precision, in place as in MinkowskiEngine."""
        self._F = self._F.double()
        return self

    # Arithmetic

    def _combine(self: Self, other: Any, operation: Callable[[Any, Any], Tensor]) -> Self:
        raise NotImplementedError

    def __add__(self: Self, other: Any) -> Self:
        return self._combine(other, torch.add)

    def __sub__(self: Self, other: Any) -> Self:
        return self._combine(other, torch.sub)

    def __mul__(self: Self, other: Any) -> Self:
        return self._combine(other, torch.mul)

    def __truediv__(self: Self, other: Any) -> Self:
        return self._combine(other, torch.div)

    def __neg__(self: Self) -> Self:
        return self.like(-self._F)

    def __radd__(self: Self, other: Any) -> Self:
        return self.like(other + self._F)

    def __rsub__(self: Self, other: Any) -> Self:
        return self.like(other - self._F)

    def __rmul__(self: Self, other: Any) -> Self:
        return self.like(other * self._F)

    def __rtruediv__(self: Self, other: Any) -> Self:
        return self.like(other / self._F)

    def _operand(self, other: Any) -> Any:
        """What an operator in place works with; another sparse operand needs the same coordinates."""
        raise NotImplementedError

    def __iadd__(self: Self, other: Any) -> Self:
        self._F += self._operand(other)
        return self

    def __isub__(self: Self, other: Any) -> Self:
        self._F -= self._operand(other)
        return self

    def __imul__(self: Self, other: Any) -> Self:
        self._F *= self._operand(other)
        return self

    def __itruediv__(self: Self, other: Any) -> Self:
        self._F /= self._operand(other)
        return self


def check_features(features: Any) -> Tensor:
    """Return (N, C) floating-point features.

    Raises:
        TypeError: if they are no floating-point tensor.
        ValueError: for another number of dimensions.
    """
    if not isinstance(features, Tensor):
        raise TypeError(f"features must be a torch.Tensor (N, C), got {type(features).__name__}.")
    if features.ndim != 2:
        raise ValueError(
            f"features must have shape (N, C), got {tuple(features.shape)}; a single channel is (N, 1)."
        )
    if not features.is_floating_point():
        raise TypeError(f"features must be floating point, got {features.dtype}; convert with .float().")
    return features


def check_lengths(features: Tensor, coordinates: Tensor) -> None:
    """Raise ValueError unless both have the same number of rows and live on the same device."""
    if len(coordinates) != len(features):
        raise ValueError(
            "features and coordinates need the same number of rows, "
            f"got {len(features)} and {len(coordinates)}."
        )
    if coordinates.device != features.device:
        raise ValueError(
            f"features are on {features.device}, coordinates on {coordinates.device}: move both, or pass "
            "device=."
        )


def check_same_manager(*tensors: FeatureTensor) -> None:
    """Raise ValueError unless all tensors share one coordinate manager."""
    if any(tensor.coordinate_manager is not tensors[0].coordinate_manager for tensor in tensors[1:]):
        raise ValueError(
            "These tensors belong to different coordinate managers. Make the second one with "
            "coordinate_manager=first.coordinate_manager."
        )
