"""Fields on a voxel grid from which a chest is painted: coordinates, smooth noise, distances; axes are RAS."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage

__all__ = ["axes_mm", "capsule", "distance_mm", "grown", "smooth_noise"]

_COARSE_MM = 3.0


def axes_mm(shape: Sequence[int], mm: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Voxel centres in mm from the first voxel, [X, 1, 1], [1, Y, 1] and [1, 1, Z], float32."""
    x, y, z = (np.arange(n, dtype=np.float32) * np.float32(step) for n, step in zip(shape, mm, strict=True))
    return x[:, None, None], y[None, :, None], z[None, None, :]


def smooth_noise(
    rng: np.random.Generator, shape: Sequence[int], mm: np.ndarray, scale_mm: float
) -> np.ndarray:
    """Noise [X, Y, Z] of mean 0 and standard deviation 1 that changes over about `scale_mm`, float32."""
    size = [max(2, int(np.ceil(n * step / scale_mm)) + 1) for n, step in zip(shape, mm, strict=True)]
    coarse = rng.standard_normal(size, dtype=np.float32)
    field = _enlarge(coarse, shape)
    return (field - field.mean()) / max(float(field.std()), 1e-6)


def distance_mm(mask: np.ndarray, mm: np.ndarray, *, at_mm: float = _COARSE_MM) -> np.ndarray:
    """Distance from a mask in mm, [X, Y, Z] float32, exact to about `at_mm`: found on a coarse grid."""
    shape = [max(1, round(n * step / max(at_mm, step))) for n, step in zip(mask.shape, mm, strict=True)]
    coarse = F.adaptive_max_pool3d(torch.from_numpy(mask[None].astype(np.float32)), shape)[0].numpy() > 0
    step = np.asarray(mask.shape) * mm / np.asarray(shape)
    if not coarse.any():
        return np.full(mask.shape, np.inf, dtype=np.float32)
    return _enlarge(ndimage.distance_transform_edt(~coarse, sampling=step).astype(np.float32), mask.shape)


def capsule(
    shape: Sequence[int], mm: np.ndarray, start: np.ndarray, end: np.ndarray, radius: float
) -> tuple[tuple[slice, slice, slice], np.ndarray]:
    """A tube with round ends between two points in mm: its box in the grid, and the boolean mask of the box."""
    low = np.minimum(start, end) - radius
    high = np.maximum(start, end) + radius
    first = np.clip(np.floor(low / mm).astype(int), 0, np.asarray(shape) - 1)
    last = np.clip(np.ceil(high / mm).astype(int) + 1, first + 1, shape)
    box = (
        slice(int(first[0]), int(last[0])),
        slice(int(first[1]), int(last[1])),
        slice(int(first[2]), int(last[2])),
    )
    points = np.stack(
        np.meshgrid(*[np.arange(a, b) * s for a, b, s in zip(first, last, mm, strict=True)], indexing="ij"),
        -1,
    )
    origin, way = (
        np.asarray(start, dtype=float),
        np.asarray(end, dtype=float) - np.asarray(start, dtype=float),
    )
    along = np.clip(((points - origin) @ way) / max(float(way @ way), 1e-9), 0, 1)
    return box, np.linalg.norm(points - origin - along[..., None] * way, axis=-1) <= radius


def grown(mask: np.ndarray, mm: np.ndarray, by_mm: float) -> np.ndarray:
    """A mask widened (or, with a negative width, narrowed) by about `by_mm`, through a Gaussian blur."""
    # A blurred straight edge has the value Phi(d / sigma) at distance d.
    sigma = abs(by_mm)
    blurred = ndimage.gaussian_filter(mask.astype(np.float32), [sigma / step for step in mm], truncate=2.5)
    return blurred > (0.16 if by_mm > 0 else 0.84)


def _enlarge(coarse: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    tensor = torch.from_numpy(np.ascontiguousarray(coarse))[None, None]
    return F.interpolate(tensor, size=tuple(shape), mode="trilinear", align_corners=False)[0, 0].numpy()
