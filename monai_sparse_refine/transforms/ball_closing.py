"""Morphological closing of an implant and the bone around it by a ball, at the voxels that matter alone."""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from monai_sparse_refine.volume import bounding_box, surface

__all__ = ["closed_by_ball", "joined_to", "near_both"]


def near_both(
    implant: np.ndarray, bone: np.ndarray, *, mm: np.ndarray, radius: float, among: np.ndarray | None = None
) -> np.ndarray:
    """Voxels outside both that a ball might close: at most a radius from an implant and from bone, (N, 3).

    Args:
        implant, bone: boolean arrays [X, Y, Z].
        mm: spacing (3,).
        radius: mm.
        among: boolean array [X, Y, Z] of the voxels to choose from; None: all.
    """
    reach = np.ceil(radius / mm).astype(int)
    box = bounding_box(implant, margin=[int(n) for n in reach])
    if box is None:
        return np.zeros((0, 3), dtype=int)
    part, skull = implant[box], bone[box]
    chosen = _widened(part, reach) & _widened(skull, reach) & ~skull & ~part
    points = np.argwhere(chosen if among is None else chosen & among[box])
    points = points[_near(points, np.argwhere(surface(skull)), mm, radius)]
    points = points[_near(points, np.argwhere(surface(part)), mm, radius)]
    return points + np.array([side.start for side in box])


def closed_by_ball(
    points: np.ndarray,
    implant: np.ndarray,
    bone: np.ndarray,
    *,
    mm: np.ndarray,
    radius: float,
    step_mm: float = 0.0,
) -> np.ndarray:
    """Whether closing an implant and the bone by a ball fills a voxel, and closing the bone alone does not.

    A voxel is closed where every ball around a voxel at most a radius from it meets bone or implant.

    Args:
        points: voxels (N, 3) outside both.
        implant, bone: boolean arrays [X, Y, Z].
        mm: spacing (3,).
        radius: of the ball, mm.
        step_mm: how far apart the middles of the balls that are tried may lie; a voxel at least. On fine grids few
            balls tell nearly as much as all.

    Returns:
        Boolean array (N,).
    """
    if not len(points):
        return np.zeros(0, dtype=bool)
    reach = np.ceil(radius / mm).astype(int)
    # Middles lie up to a radius from a point, and what their balls meet up to another one.
    box = tuple(
        slice(max(int(low - 2 * n), 0), int(high + 2 * n) + 1)
        for low, high, n in zip(points.min(axis=0), points.max(axis=0), reach, strict=True)
    )
    start = np.array([side.start for side in box])
    part, skull, inside = implant[box], bone[box], points - start
    step = np.maximum(np.floor(step_mm / mm).astype(int), 1)
    asked = np.zeros_like(part)
    asked[tuple(inside.T)] = True
    lattice = tuple(slice(None, None, int(n)) for n in step)
    middles = np.argwhere((_widened(asked, reach) & ~skull)[lattice]) * step
    middles = middles[~_near(middles, np.argwhere(surface(skull)), mm, radius)]  # free of bone
    free = middles[~(part[tuple(middles.T)] | _near(middles, np.argwhere(surface(part)), mm, radius))]
    return ~_near(inside, free, mm, radius) & _near(inside, middles, mm, radius)


def joined_to(implant: np.ndarray, added: np.ndarray) -> np.ndarray:
    """The part of a mask that is joined to an implant, over faces, edges or corners: boolean array [X, Y, Z]."""
    joined = np.zeros_like(implant)
    box = bounding_box(implant | added)
    if box is not None:
        either = implant[box] | added[box]
        block = np.ones((3, 3, 3), dtype=bool)
        joined[box] = ndimage.binary_propagation(implant[box], structure=block, mask=either) & ~implant[box]
    return joined


def _widened(mask: np.ndarray, reach: np.ndarray) -> np.ndarray:
    return ndimage.maximum_filter(mask, size=[int(2 * n + 1) for n in reach], mode="constant")


def _near(points: np.ndarray, targets: np.ndarray, mm: np.ndarray, limit: float) -> np.ndarray:
    """Whether one of the targets is at most so far: (N, 3), (M, 3) -> (N,)."""
    if not len(points) or not len(targets):
        return np.zeros(len(points), dtype=bool)
    bound = limit * (1 + 1e-9)  # a distance of just the limit may not be lost to rounding
    return np.isfinite(cKDTree(targets * mm).query(points * mm, distance_upper_bound=bound)[0])
