"""Distances to the nearest voxel of a set, as far as they are wanted: much less work than a distance transform."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

__all__ = ["distance_to"]

# Points looked up at a time: bounds the memory where a network fills the whole volume.
CHUNK = 1_000_000


def distance_to(points: np.ndarray, targets: np.ndarray, spacing: np.ndarray, limit: float) -> np.ndarray:
    """Distance in mm from every voxel to the nearest target voxel; infinite beyond the limit.

    Args:
        points: voxel indices (N, 3).
        targets: voxel indices (M, 3).
        spacing: mm (3,).
        limit: mm up to which the distance is wanted.

    Returns:
        Distances (N,).
    """
    distances = np.full(len(points), np.inf)
    if len(targets):
        tree = cKDTree(targets * spacing)
        for start in range(0, len(points), CHUNK):
            chunk = slice(start, start + CHUNK)
            # The bound is exclusive; a hair more makes it inclusive.
            distances[chunk] = tree.query(
                points[chunk] * spacing, distance_upper_bound=limit * (1 + 1e-9) + 1e-9
            )[0]
    return distances
