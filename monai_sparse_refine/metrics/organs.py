"""How well an organ's mask fits: surface distances in mm, components, volume.

Masks, spacings and errors as in `monai_sparse_refine.metrics.functional`; surfaces are those of its `hd95`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from monai_sparse_refine.errors import InputError
from monai_sparse_refine.volume import as_mask, bounding_box, check_same_shape, spacing_of, surface

__all__ = ["assd", "components", "surface_dice", "surface_distances", "volume_error"]

Spacing = float | Sequence[float] | None


def surface_distances(a: Any, b: Any, *, spacing: Spacing = None) -> np.ndarray:
    """Distances in mm from each surface's voxels to the other surface, of both pooled, (N,).

    Their 95th percentile is `hd95`, their mean `assd`, the share within a tolerance `surface_dice`: one search for all.

    Returns:
        Nothing, (0,), for two empty masks; the volume's diagonal in mm where just one is empty.
    """
    first, second = as_mask(a, name="a"), as_mask(b, name="b")
    check_same_shape(a=first, b=second)
    mm = np.asarray(spacing_of(a, b, spacing=spacing))
    box = bounding_box(first | second)
    if box is None:
        return np.zeros(0)
    if not (first.any() and second.any()):
        return np.array([np.linalg.norm(np.multiply(first.shape, mm))])
    points = [np.argwhere(surface(mask[box])) * mm for mask in (first, second)]
    return np.concatenate([cKDTree(points[1 - side]).query(points[side])[0] for side in (0, 1)])


def assd(a: Any, b: Any, *, spacing: Spacing = None) -> float:
    """Average symmetric surface distance: mean distance from either surface to the other, both pooled, in mm.

    Returns:
        0 for equal masks and for two empty ones; the volume's diagonal in mm where just one is empty.
    """
    distances = surface_distances(a, b, spacing=spacing)
    return float(distances.mean()) if len(distances) else 0.0


def surface_dice(a: Any, b: Any, *, tolerance_mm: float = 2.0, spacing: Spacing = None) -> float:
    """Normalised surface Dice: share of the two surfaces' voxels that lie within a tolerance of the other surface.

    Nikolov et al., J. Med. Internet Res. 23:e26151 (2021), with voxels counted instead of areas measured.

    Returns:
        0 to 1; 1 for two empty masks, 0 where just one is empty.

    Raises:
        InputError: for a negative tolerance.
    """
    if not tolerance_mm >= 0:
        raise InputError(f"tolerance_mm is {tolerance_mm}; expected 0 or more")
    if as_mask(a, name="a").any() != as_mask(b, name="b").any():
        return 0.0
    distances = surface_distances(a, b, spacing=spacing)
    return float(np.mean(distances <= tolerance_mm * (1 + 1e-9))) if len(distances) else 1.0


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
