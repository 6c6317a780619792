"""Joining tensors, and the way from dense tensors and back."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from monai_sparse_refine.engine.native.feature_tensor import FeatureTensor, check_same_manager
from monai_sparse_refine.engine.native.fixed_order import add_bias, rows_product
from monai_sparse_refine.engine.native.modules_base import MinkowskiModuleBase, check_input, check_rows
from monai_sparse_refine.engine.native.tensor import SparseTensor
from monai_sparse_refine.engine.native.tensor_field import TensorField


def cat(*sparse_tensors: Any) -> FeatureTensor:
    """Concatenate the features of tensors with the same coordinates."""
    tensors = _same_coordinates("cat", sparse_tensors)
    return tensors[0].like(torch.cat([x.F for x in tensors], dim=1))


def stack_sum(*sparse_tensors: Any) -> FeatureTensor:
    """Sum of tensors with the same coordinates (``sum`` of the namespace)."""
    tensors = _same_coordinates("sum", sparse_tensors)
    return tensors[0].like(torch.stack([x.F for x in tensors]).sum(0))


def mean(*sparse_tensors: Any) -> FeatureTensor:
    """Mean of tensors with the same coordinates."""
    tensors = _same_coordinates("mean", sparse_tensors)
    return tensors[0].like(torch.stack([x.F for x in tensors]).mean(0))


def var(*sparse_tensors: Any) -> FeatureTensor:
    """Variance (divided by their number) of tensors with the same coordinates."""
    tensors = _same_coordinates("var", sparse_tensors)
    return tensors[0].like(torch.stack([x.F for x in tensors]).var(0, unbiased=False))


def dense_coordinates(shape: Any) -> Tensor:
    """(B * prod(spatial), 1 + D) int32 coordinates of every voxel of a [B, C, *spatial] tensor."""
    sizes = (shape[0], *shape[2:])
    return torch.cartesian_prod(*(torch.arange(n, dtype=torch.int32) for n in sizes)).view(-1, len(sizes))


def to_sparse(
    x: Tensor,
    format: str | None = None,
    coordinates: Tensor | None = None,
    device: torch.device | str | None = None,
) -> SparseTensor:
    """Sparse tensor of a batch of dense ones.

    Args:
        x: [B, C, *spatial], or [B, *spatial, C] with ``format`` "BX..XC".
        format: B, X (one per axis) and C in the order of the dimensions; "BCX..X" by default.
        coordinates: rows to take; by default the voxels where any channel is not 0.
        device: of the result.

    Raises:
        ValueError: for a format or shape that does not fit.
    """
    if not isinstance(x, Tensor) or x.ndim < 3:
        raise ValueError(f"x must be a dense tensor [B, C, *spatial], got {getattr(x, 'shape', type(x))}.")
    if format is not None:
        wanted = {"BC" + "X" * (x.ndim - 2), "B" + "X" * (x.ndim - 2) + "C"}
        if format not in wanted:
            raise ValueError(
                f"format must be one of {sorted(wanted)} for {x.ndim} dimensions, got {format!r}."
            )
    rows = x if format is not None and format.endswith("C") else x.movedim(1, -1)
    if device is not None:
        rows = rows.to(device)
    if coordinates is None:
        coordinates = (rows != 0).any(-1).nonzero().to(torch.int32)
    coordinates = coordinates.to(rows.device)
    features = rows[tuple(coordinates.long().unbind(1))]
    return SparseTensor(features, coordinates)


def to_sparse_all(dense_tensor: Tensor, coordinates: Tensor | None = None) -> SparseTensor:
    """Sparse tensor of every voxel of a dense [B, C, *spatial] tensor, zeros too."""
    if coordinates is None:
        coordinates = dense_coordinates(dense_tensor.shape)
    return to_sparse(dense_tensor, coordinates=coordinates)


class MinkowskiToSparseTensor(MinkowskiModuleBase):
    """Dense tensor or TensorField to SparseTensor.

    Args:
        remove_zeros: leave out voxels that are 0 in all channels.
        coordinates: voxels to take, with ``remove_zeros=False``; all by default.
    """

    def __init__(self, remove_zeros: bool = True, coordinates: Tensor | None = None) -> None:
        super().__init__()
        if remove_zeros and coordinates is not None:
            raise ValueError("coordinates can be given with remove_zeros=False only.")
        self.remove_zeros, self.coordinates = remove_zeros, coordinates

    def forward(self, input: Any) -> SparseTensor:
        """Convert."""
        if isinstance(input, Tensor):
            return to_sparse(input) if self.remove_zeros else to_sparse_all(input, self.coordinates)
        if isinstance(input, TensorField):
            return input.sparse()
        raise TypeError(f"Expected a dense tensor or a TensorField, got {type(input).__name__}.")


class MinkowskiToDenseTensor(MinkowskiModuleBase):
    """SparseTensor to dense [B, C, *spatial], of the given shape or of that which holds every row."""

    def __init__(self, shape: Any = None) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, input: SparseTensor) -> Tensor:
        """Convert."""
        return check_input(input, self).dense(shape=self.shape)[0]


class MinkowskiToFeature(MinkowskiModuleBase):
    """The features alone."""

    def forward(self, x: FeatureTensor) -> Tensor:
        """(N, C)."""
        return check_rows(x, self).F


class MinkowskiLinear(MinkowskiModuleBase):
    """torch.nn.Linear on the features; its parameters are in ``linear``."""

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        super().__init__()
        self.linear = nn.Linear(in_features, out_features, bias=bias)

    def forward(self, input: FeatureTensor) -> FeatureTensor:
        """Apply to the features."""
        x = check_rows(input, self, self.linear.in_features)
        if torch.is_autocast_enabled(x.device.type):
            return x.like(self.linear(x.F))
        rows = rows_product(x.F, self.linear.weight.t())
        return x.like(rows if self.linear.bias is None else add_bias(rows, self.linear.bias))

    def extra_repr(self) -> str:
        """As PyTorch prints it."""
        return self.linear.extra_repr()


class _Stack(nn.Sequential):
    """Several layers on the same input."""

    def _outputs(self, x: Any) -> list[Any]:
        return [layer(x) for layer in self]


class MinkowskiStackCat(_Stack):
    """Concatenation of the layers' outputs."""

    def forward(self, x: Any) -> Any:
        """Apply every layer to ``x``."""
        return cat(*self._outputs(x))


class MinkowskiStackSum(_Stack):
    """Sum of the layers' outputs."""

    def forward(self, x: Any) -> Any:
        """Apply every layer to ``x``."""
        return stack_sum(*self._outputs(x))


class MinkowskiStackMean(_Stack):
    """Mean of the layers' outputs."""

    def forward(self, x: Any) -> Any:
        """Apply every layer to ``x``."""
        return mean(*self._outputs(x))


class MinkowskiStackVar(_Stack):
    """Variance of the layers' outputs."""

    def forward(self, x: Any) -> Any:
        """Apply every layer to ``x``."""
        return var(*self._outputs(x))


def _same_coordinates(name: str, tensors: tuple[Any, ...]) -> list[Any]:
    if len(tensors) == 1 and isinstance(tensors[0], list | tuple):
        tensors = tuple(tensors[0])
    if not tensors or not all(isinstance(x, FeatureTensor) for x in tensors):
        raise TypeError(
            f"{name} takes SparseTensors or TensorFields, got {[type(x).__name__ for x in tensors]}."
        )
    check_same_manager(*tensors)
    first: Any = tensors[0]
    for other in tensors[1:]:
        if type(other) is not type(first) or other.coordinate_key != first.coordinate_key:
            raise ValueError(
                f"{name} needs tensors with the same coordinates, got {first.coordinate_key!r} and "
                f"{other.coordinate_key!r}; use + or MinkowskiUnion for different ones."
            )
    return list(tensors)
