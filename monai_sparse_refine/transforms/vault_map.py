"""The vault as a map: directions from the middle of the cranial cavity, laid out flat around straight up."""

from __future__ import annotations

import numpy as np

from monai_sparse_refine.transforms.vault import Vault

__all__ = ["REACH_DEG", "map_directions", "map_pitch", "map_size", "on_map", "to_map"]

REACH_DEG = 112.0  # how far from straight up it is mapped


def map_pitch(affine: np.ndarray, vault: Vault) -> float:
    """Degrees from pixel to pixel, so that each holds at least one voxel of the wall: else bone would look porous."""
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    return max(2.0, 1.5 * float(np.rad2deg(spacing.max() / vault.radius_mm)))


def map_size(pitch: float) -> int:
    """Pixels from one end of the map to the other."""
    return 2 * int(np.ceil(REACH_DEG / pitch)) + 1


def to_map(
    index: np.ndarray, affine: np.ndarray, vault: Vault, pitch: float, size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where voxels lie on the map (azimuthal equidistant).

    Args:
        index: voxels (N, 3).
        affine: voxel to world mm, RAS (4, 4).
        vault: whose middle is looked from.
        pitch: degrees from pixel to pixel.
        size: pixels along each side.

    Returns:
        Pixels (N, 2), distances from the middle as shares of the model's radius (N,), mm above the base (N,).
    """
    local = vault.local(index @ affine[:3, :3].T + affine[:3, 3]).astype(np.float32)
    length = np.maximum(np.linalg.norm(local, axis=1), 1e-3)
    across = np.maximum(np.linalg.norm(local[:, :2], axis=1), 1e-3)
    angle = np.rad2deg(np.arccos(np.clip(local[:, 2] / length, -1.0, 1.0)))
    pixel = local[:, :2] / across[:, None] * (angle / pitch)[:, None] + size // 2
    return pixel, length / vault.model_radius(local), vault.above_base(local)


def on_map(pixel: np.ndarray, size: int) -> np.ndarray:
    """Which pixels (N, 2) lie on a map of ``size`` pixels a side, bool (N,)."""
    return np.asarray(((pixel > -0.5) & (pixel < size - 0.5)).all(axis=1))


def map_directions(grid: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """Unit vectors (..., 3) of pixels (..., 2) about the map's middle, `angle` being theirs from straight up in rad."""
    away = grid / np.maximum(np.linalg.norm(grid, axis=-1, keepdims=True), 1e-6)
    return np.concatenate([np.sin(angle)[..., None] * away, np.cos(angle)[..., None]], axis=-1)
