"""How well an organ's mask fits: surface distances in mm, components, volume.

Masks, spacings and errors as in `monai_sparse_refine.metrics.functional`; surfaces are those of its `hd95`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from monai_sparse_refine.volume import as_mask, bounding_box, check_same_shape, spacing_of, surface

__all__ = ["assd", "components", "volume_error"]

Spacing = float | Sequence[float] | None


def assd(a: Any, b: Any, *, spacing: Spacing = None) -> float:
    """Average symmetric surface distance: mean distance from either surface to the other, both pooled, in mm.

    Returns:
        0 for equal masks and for two empty ones; the volume's diagonal in mm where just one is empty.
    """
    first, second, mm = _both(a, b, spacing)
    if not (first.any() and second.any()):
        return _one_empty(first, second, mm)
    return float(np.concatenate(_surface_distances(first, second, mm)).mean())


def components(mask: Any) -> int:
    """Number of connected components of the foreground; voxels that touch diagonally are connected."""
    return int(ndimage.label(as_mask(mask), np.ones((3, 3, 3), dtype=bool))[1])


def volume_error(pred: Any, truth: Any) -> float:
    """Volume of a prediction relative to the truth's, in percent: 0 equal, 10 a tenth too much, -10 too little.

    Returns:
        0 for two empty masks, infinity for a prediction of an empty truth.
    """
    first, second = as_mask(pred, name="pred"), as_mask(truth, name="truth")
    check_same_shape(pred=first, truth=second)
    found, true = np.count_nonzero(first), np.count_nonzero(second)
    if true == 0:
        return float("inf") if found else 0.0
    return 100.0 * (found - true) / true


def _both(a: Any, b: Any, spacing: Spacing) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    first, second = as_mask(a, name="a"), as_mask(b, name="b")
    check_same_shape(a=first, b=second)
    return first, second, np.asarray(spacing_of(a, b, spacing=spacing))


def _one_empty(first: np.ndarray, second: np.ndarray, mm: np.ndarray) -> float:
    same = first.any() == second.any()
    return 0.0 if same else float(np.linalg.norm(np.multiply(first.shape, mm)))


def _surface_distances(first: np.ndarray, second: np.ndarray, mm: np.ndarray) -> list[np.ndarray]:
    """Distances in mm from each surface's voxels to the other surface; neither mask is empty."""
    box = bounding_box(first | second)
    assert box is not None
    edges = [surface(mask[box]) for mask in (first, second)]
    points = [np.argwhere(edge) * mm for edge in edges]
    return [cKDTree(points[1 - side]).query(points[side])[0] for side in (0, 1)]
