"""From real coordinates to distinct voxels."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from monai_sparse_refine.engine.native.coordinates import check_coordinates
from monai_sparse_refine.engine.native.manager import first_rows


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
        labels: (N,) integers; a voxel whose points disagree becomes ``ignore_label``.
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
    as_array = isinstance(coordinates, np.ndarray)
    points = torch.as_tensor(coordinates).to(device)
    if points.ndim != 2:
        raise ValueError(f"coordinates must have shape (N, D), got {tuple(points.shape)}.")
    for name, rows in (("features", features), ("labels", labels)):
        if rows is not None and len(rows) != len(points):
            raise ValueError(f"{name} has {len(rows)} rows, coordinates {len(points)}.")
    if quantization_size is not None:
        points = points / torch.as_tensor(quantization_size, device=points.device)
    voxels = check_coordinates(torch.cat([torch.zeros_like(points[:, :1]), points], dim=1))[:, 1:]
    distinct, group = torch.unique(voxels, dim=0, return_inverse=True)
    index, inverse = first_rows(group) if len(distinct) else (group, group)
    if return_maps_only:
        return (index, inverse) if return_inverse else index
    result: list[Any] = [voxels[index].contiguous()]
    picked = index.cpu().numpy() if as_array else index
    if features is not None:
        result.append(features[index.cpu().numpy()] if isinstance(features, np.ndarray) else features[index])
    if labels is not None:
        result.append(_voxel_labels(labels, index, inverse, ignore_label))
    if return_index:
        result.append(torch.as_tensor(picked))
    if return_inverse:
        result.append(inverse)
    return result[0] if len(result) == 1 else tuple(result)


def _voxel_labels(labels: Any, index: Tensor, inverse: Tensor, ignore_label: int) -> Any:
    values = torch.as_tensor(labels).to(inverse.device)
    kept = values[index].clone()
    differs = torch.zeros(len(index), dtype=torch.bool, device=inverse.device)
    differs[inverse[values != kept[inverse]]] = True
    kept[differs] = ignore_label
    return kept.cpu().numpy() if isinstance(labels, np.ndarray) else kept
