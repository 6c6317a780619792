"""What every layer of the native engine has in common."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from monai_sparse_refine.engine.native.coordinate_map import CoordinateMapKey
from monai_sparse_refine.engine.native.coordinates import Stride
from monai_sparse_refine.engine.native.feature_tensor import FeatureTensor
from monai_sparse_refine.engine.native.manager import CoordinateManager
from monai_sparse_refine.engine.native.tensor import SparseTensor


class MinkowskiModuleBase(nn.Module):
    """Base class of the layers, for ``isinstance``."""


def check_input(x: Any, layer: nn.Module, channels: int | None = None) -> SparseTensor:
    """Return ``x`` if the layer can take it.

    Raises:
        TypeError: if it is no SparseTensor of this engine.
        ValueError: for another number of channels or dimensions than the layer's.
    """
    name = type(layer).__name__
    if not isinstance(x, SparseTensor):
        got = f"{type(x).__module__}.{type(x).__name__}"
        raise TypeError(f"{name} expects a SparseTensor of the native engine, got {got}.")
    _check_sizes(x, name, channels, getattr(layer, "dimension", None))
    return x


def check_rows(x: Any, layer: nn.Module, channels: int | None = None) -> FeatureTensor:
    """Like :func:`check_input`, for layers that take a TensorField, too."""
    name = type(layer).__name__
    if not isinstance(x, FeatureTensor):
        got = f"{type(x).__module__}.{type(x).__name__}"
        raise TypeError(f"{name} expects a SparseTensor or TensorField of the native engine, got {got}.")
    _check_sizes(x, name, channels, None)
    return x


def result_on(features: Tensor, key: CoordinateMapKey, like: FeatureTensor) -> SparseTensor:
    """Features on another map of the manager of ``like``."""
    return SparseTensor(features, coordinate_map_key=key, coordinate_manager=like.coordinate_manager)


def given_key(coordinates: Any, manager: CoordinateManager, stride: Stride) -> CoordinateMapKey:
    """Key of coordinates that a caller chose for the output: integer rows, a key, or a SparseTensor."""
    if isinstance(coordinates, SparseTensor):
        if coordinates.coordinate_manager is not manager:
            raise ValueError("coordinates is a SparseTensor of another coordinate manager than the input's.")
        return coordinates.coordinate_map_key
    if isinstance(coordinates, CoordinateMapKey):
        manager.coordinate_map(coordinates)
        return coordinates
    return manager.insert_and_map(coordinates, stride)[0]


def strided(x: SparseTensor, stride: Stride) -> Stride:
    """Tensor stride after a layer of that stride."""
    return tuple(a * b for a, b in zip(x.tensor_stride, stride, strict=True))


def unstrided(x: SparseTensor, stride: Stride) -> Stride:
    """Tensor stride after a transposed layer of that stride.

    Raises:
        ValueError: if it would fall below 1.
    """
    if any(have % step for have, step in zip(x.tensor_stride, stride, strict=True)):
        raise ValueError(
            f"The input has tensor stride {x.tensor_stride}, which stride {list(stride)} does not divide: a "
            "transposed layer cannot go below stride 1."
        )
    return tuple(have // step for have, step in zip(x.tensor_stride, stride, strict=True))


def _check_sizes(x: FeatureTensor, name: str, channels: int | None, dimension: int | None) -> None:
    if channels is not None and x.shape[1] != channels:
        raise ValueError(f"{name} was made for {channels} input channels, but the input has {x.shape[1]}.")
    if dimension is not None and dimension != x.D:
        raise ValueError(f"{name} was made for dimension {dimension}, but the input has {x.D}.")
