"""Implicit shapes and smooth noise in closed form: the vocabulary in which the skull phantom is written.

Every shape takes coordinate arrays in mm and returns an approximate signed distance in mm, negative inside.
Nothing here knows the voxel grid, so a head is the same at every resolution.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["Array", "Waves", "bell", "capsule", "ellipsoid", "smooth_max", "smooth_min", "smooth_step"]

Array = np.ndarray


def smooth_step(x: Array, low: float, high: float) -> Array:
    """0 below `low`, 1 above `high`, a cubic with flat ends between."""
    t = np.clip((x - low) / (high - low), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def bell(x: Array, width: float) -> Array:
    """1 at 0, falling to 1/e at `width`."""
    return np.exp(-np.square(x / width))


def smooth_min(a: Array, b: Array, blend: float) -> Array:
    """Union of two shapes whose edge is filled over about `blend` mm."""
    overlap = np.maximum(blend - np.abs(a - b), 0.0)
    return np.minimum(a, b) - overlap * overlap / (4.0 * blend)


def smooth_max(a: Array, b: Array, blend: float) -> Array:
    """Intersection of two shapes whose edge is rounded over about `blend` mm."""
    return -smooth_min(-a, -b, blend)


def ellipsoid(x: Array, y: Array, z: Array, centre: Sequence[float], radii: Sequence[float]) -> Array:
    """Approximate distance to an axis-aligned ellipsoid: exact on its surface, and to first order near it."""
    dx, dy, dz = x - centre[0], y - centre[1], z - centre[2]
    a, b, c = (1.0 / r for r in radii)
    level = np.sqrt(np.square(dx * a) + np.square(dy * b) + np.square(dz * c))
    slope = np.sqrt(np.square(dx * (a * a)) + np.square(dy * (b * b)) + np.square(dz * (c * c)))
    return level * (level - 1.0) / np.maximum(slope, 1e-6)


def capsule(
    x: Array,
    y: Array,
    z: Array,
    start: Sequence[float],
    end: Sequence[float],
    radii: tuple[float, float],
    *,
    flatten: float = 1.0,
) -> Array:
    """Distance to a rod from `start` to `end` whose radius goes from the first to the second.

    Args:
        flatten: how many times thinner the rod is along x than its radius.
    """
    ax, ay, az = ((e - s) * f for s, e, f in zip(start, end, (flatten, 1.0, 1.0), strict=True))
    px, py, pz = (x - start[0]) * flatten, y - start[1], z - start[2]
    t = np.clip((px * ax + py * ay + pz * az) * (1.0 / (ax * ax + ay * ay + az * az)), 0.0, 1.0)
    px, py, pz = px - t * ax, py - t * ay, pz - t * az
    return np.sqrt(px * px + py * py + pz * pz) - (radii[0] + t * (radii[1] - radii[0]))


@dataclass(frozen=True)
class Waves:
    """Smooth isotropic noise: a sum of plane waves with random directions and phases, unit variance.

    Attributes:
        vectors: angular wave vectors, rad/mm, (K, 3).
        phases: rad, (K,).
    """

    vectors: Array
    phases: Array

    @classmethod
    def draw(cls, random: np.random.Generator, *, wavelength_mm: tuple[float, float], count: int) -> Waves:
        """Draw `count` waves with wavelengths uniform in the range."""
        directions = random.normal(size=(count, 3))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        lengths = random.uniform(*wavelength_mm, size=(count, 1))
        phases = random.uniform(0.0, 2.0 * np.pi, size=count)
        return cls((2.0 * np.pi / lengths * directions).astype(np.float32), phases.astype(np.float32))

    def __call__(self, x: Array, y: Array, z: Array) -> Array:
        """Noise at the points, in the shape of x."""
        total = np.zeros_like(x)
        for (kx, ky, kz), phase in zip(self.vectors, self.phases, strict=True):
            total += np.sin(kx * x + ky * y + kz * z + phase)
        return total * np.float32(np.sqrt(2.0 / len(self.phases)))
