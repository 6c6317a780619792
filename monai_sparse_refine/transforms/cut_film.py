"""The film of implant over a bone that was cut aslant, told from the noise along natural bone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from monai_sparse_refine.transforms.near_distance import distance_to
from monai_sparse_refine.volume import bounding_box, surface

__all__ = ["film_on_cut"]

_SMOOTH_MM = 1.5  # standard deviation: the bone's surface is looked at over a few voxels
_FACING = 0.3  # cosine of 73 degrees


def film_on_cut(
    difference: np.ndarray,
    implant: np.ndarray,
    bone: np.ndarray,
    *,
    spacing: Sequence[float] | np.ndarray,
    middle: Sequence[float] | np.ndarray,
    reach_mm: float,
) -> np.ndarray:
    """Voxels that carry an implant on over the cut faces of the bone around it.

    Where a saw goes through bone aslant, an implant runs out in a wedge, and its edge is as thin as noise. But the
    bone below it faces the hole, as no natural surface of the vault does, which faces in or out. So a voxel of the
    difference is kept where the bone's smoothed surface faces the implant's middle, measured across the line from
    the middle of the head, and where it is joined to the implant through such voxels.

    Args:
        difference: boolean array [X, Y, Z], completed and not defective.
        implant: boolean array [X, Y, Z], what is known to be implant.
        bone: boolean array [X, Y, Z].
        spacing: mm for each axis.
        middle: voxel indices (3,) of the middle of the cranial cavity.
        reach_mm: how far from the implant a voxel may be.

    Returns:
        Boolean array [X, Y, Z], a part of the difference, without the implant.
    """
    mm = np.asarray(spacing, dtype=float)
    film = np.zeros_like(implant)
    # The smoothing needs some bone around the film.
    box = bounding_box(implant, margin=[int(n) for n in np.ceil((reach_mm + 3 * _SMOOTH_MM) / mm)])
    if box is None:
        return film
    near, solid = implant[box], bone[box]
    index = np.argwhere(difference[box] & ~near)
    index = index[np.isfinite(distance_to(index, np.argwhere(surface(near)), mm, reach_mm))]
    if not len(index):
        return film
    free = np.zeros_like(near)
    free[tuple(index.T)] = True
    start = np.array([side.start for side in box])
    outward = _unit((index + start - np.asarray(middle)) * mm)
    to_middle = (np.argwhere(near).mean(axis=0) - index) * mm
    across = _unit(to_middle - (to_middle * outward).sum(axis=1, keepdims=True) * outward)
    chosen = (_normals(solid, free, mm) * across).sum(axis=1) > _FACING
    candidate = near.copy()
    candidate[tuple(index[chosen].T)] = True
    film[box] = ndimage.binary_propagation(near, structure=np.ones((3, 3, 3)), mask=candidate) & ~near
    return film


def _normals(solid: np.ndarray, where: np.ndarray, mm: np.ndarray) -> np.ndarray:
    """Unit vectors (N, 3) away from the solid, in mm, at the voxels of a mask."""
    values = solid.astype(np.float32)
    slopes = []
    for axis in range(3):
        order = [int(axis == other) for other in range(3)]
        slope = ndimage.gaussian_filter(values, _SMOOTH_MM / mm, order=order)
        slopes.append(-slope[where] / mm[axis])
    return _unit(np.stack(slopes, axis=1))


def _unit(vectors: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(length, 1e-6))
