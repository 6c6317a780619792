"""What every layer of the native engine has in common."""

from __future__ import annotations

from typing import Any

from torch import nn

from monai_sparse_refine.engine.native.coordinate_map import CoordinateMapKey
from monai_sparse_refine.engine.native.tensor import SparseTensor


class MinkowskiModuleBase(nn.Module):
    """Base class of the layers, for ``isinstance``."""


def check_input(x: Any, layer: nn.Module, channels: int | None = None) -> SparseTensor:
    """Return ``x`` if the layer can take it.

    Raises:
        TypeError: if it is no SparseTensor of this engine.
        ValueError: for another number of channels than the layer's.
    """
    name = type(layer).__name__
    if not isinstance(x, SparseTensor):
        raise TypeError(
            f"{name} expects a SparseTensor of the native engine, got {type(x).__module__}.{type(x).__name__}."
        )
    if channels is not None and x.F.shape[1] != channels:
        raise ValueError(f"{name} was made for {channels} input channels, but the input has {x.F.shape[1]}.")
    return x


def result_on(features: Any, key: CoordinateMapKey, like: SparseTensor) -> SparseTensor:
    """Features on another map of the manager of ``like``."""
    return SparseTensor(features, coordinate_map_key=key, coordinate_manager=like.coordinate_manager)
