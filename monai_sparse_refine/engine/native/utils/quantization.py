"""From real coordinates to distinct voxels."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from monai_sparse_refine.engine.native.coordinates import check_coordinates
from monai_sparse_refine.engine.native.manager import CoordinateManager


def sparse_quantize(
    coordinates: Any,
    features: Any = None,
    labels: Any = None,
    ignore_label: int = -100,
    return_index: bool = False,
    return_inverse: bool = False,
    return_maps_only: bool = False,
    quantization_size: Any = None,
    device: str | torch.device = "cpu",
) -> Any:
    """Keep the first point of every voxel.

    Args:
        coordinates: (N, D) array or tensor, any numbers.
        features: (N, C) of which the kept rows are returned.
        labels: (N,) of which the kept rows are returned.
        ignore_label: accepted for compatibility; MinkowskiEngine 0.5.4 does not use it either.
        return_index: return the kept rows' numbers, too.
        return_inverse: return the voxel of every point, too.
        return_maps_only: return the maps alone: index, or (index, inverse) with ``return_inverse``.
        quantization_size: edge of a voxel, a number or one per axis; 1 by default.
        device: where the work is done.

    Returns:
        Voxels (M, D) int32, then features, labels, index and inverse as asked for; alone if it is one thing.

    Raises:
        ValueError: for wrong shapes.
    """
    points = torch.as_tensor(coordinates).to(device)
    if points.ndim != 2:
        raise ValueError(f"coordinates must have shape (N, D), got {tuple(points.shape)}.")
    for name, rows in (("features", features), ("labels", labels)):
        if rows is not None and len(rows) != len(points):
            raise ValueError(f"{name} has {len(rows)} rows, coordinates {len(points)}.")
    if quantization_size is not None:
        points = points / torch.as_tensor(quantization_size, device=points.device)
    rows = check_coordinates(torch.cat([torch.zeros_like(points[:, :1]), points], dim=1))
    index, inverse = unique_coordinate_map(rows)
    voxels = rows[:, 1:]
    if return_maps_only:
        return (index, inverse) if return_inverse else index
    result: list[Any] = [voxels[index].contiguous()]
    if features is not None:
        result.append(features[index.cpu().numpy()] if isinstance(features, np.ndarray) else features[index])
    if labels is not None:
        result.append(labels[index.cpu().numpy()] if isinstance(labels, np.ndarray) else labels[index])
    if return_index:
        result.append(index)
    if return_inverse:
        result.append(inverse)
    return result[0] if len(result) == 1 else tuple(result)


def unique_coordinate_map(coordinates: Tensor, tensor_stride: Any = 1) -> tuple[Tensor, Tensor]:
    """Rows of the first occurrence of every coordinate, and each row's place among them; int64.

    Args:
        coordinates: (N, 1 + D) integers.
        tensor_stride: what they are multiples of.
    """
    coordinates = check_coordinates(coordinates)
    manager = CoordinateManager(D=coordinates.shape[1] - 1)
    return manager.insert_and_map(coordinates, tensor_stride)[1]
