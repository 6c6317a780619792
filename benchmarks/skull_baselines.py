"""Completions without a network: nothing, the mirror image, and the interpolated surface of the vault."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from monai.config.type_definitions import NdarrayOrTensor
from monai.data import MetaTensor
from scipy import ndimage
from skimage.restoration import inpaint_biharmonic

from monai_sparse_refine.errors import InputError
from monai_sparse_refine.transforms import ExtractImplant, MirrorImage
from monai_sparse_refine.transforms.vault import Vault, find_vault

# From a defective skull to its implant, both uint8 [1, X, Y, Z].
Method = Callable[[MetaTensor], NdarrayOrTensor]

_REACH_DEG = 112.0  # how far from straight up the surface is mapped
_WALL = (0.75, 1.3)  # bone between these shares of the model's radius is the vault's wall
_VAULT_POINTS = 40_000
# One part, and no thin film: better for both baselines than what suits a network.
_CLEAN = ExtractImplant(core_mm=5.0, min_relative_volume=1.0)


def identity(defective: MetaTensor) -> NdarrayOrTensor:
    """The hole stays open: what whole-skull Dice has to be read against."""
    return torch.zeros_like(defective)


def mirror(defective: MetaTensor) -> NdarrayOrTensor:
    """The other side of the skull, mirrored across its estimated midsagittal plane, cleaned.

    Only the largest part counts: faces and bases are never so symmetric that nothing else would be left.
    """
    return _CLEAN(MirrorImage()(defective), defective)


def interpolation(defective: MetaTensor) -> NdarrayOrTensor:
    """The inner and the outer surface of the vault, continued smoothly across the hole, cleaned.

    Both are distances from the middle of the cranial cavity, mapped over the directions around straight up
    (azimuthal equidistant) and filled by biharmonic inpainting, which continues values and slopes.
    """
    bone = defective.as_tensor()[0].cpu().numpy() > 0
    affine = defective.affine.cpu().numpy()
    try:
        vault = find_vault(_some_points(bone, affine))
    except InputError:
        return identity(defective)
    filled = bone | _surface_fill(bone, affine, vault)
    completed = MetaTensor(torch.from_numpy(filled[None].astype(np.uint8)), affine=defective.affine)
    return _CLEAN(completed, defective)


BASELINES: dict[str, Method] = {
    "identity (hole left open)": identity,
    "mirror image": mirror,
    "surface interpolation": interpolation,
}


def _some_points(bone: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """World mm of some bone voxels (N, 3)."""
    index = np.argwhere(bone)
    if len(index) > _VAULT_POINTS:
        index = index[np.random.default_rng(0).integers(0, len(index), _VAULT_POINTS)]
    return index @ affine[:3, :3].T + affine[:3, 3]


def _surface_fill(bone: np.ndarray, affine: np.ndarray, vault: Vault) -> np.ndarray:
    """Voxels between the interpolated surfaces, in directions above the skull base without bone."""
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    # A pixel holds at least one voxel of the wall, or bone would look porous.
    pitch = max(2.0, 1.5 * float(np.rad2deg(spacing.max() / vault.radius_mm)))  # degrees
    size = 2 * int(np.ceil(_REACH_DEG / pitch)) + 1
    wall = np.argwhere(bone)
    pixel, share, _ = _polar(wall, affine, vault, pitch, size)
    inside = _on_map(pixel, size) & (share > _WALL[0]) & (share < _WALL[1])
    cells = np.round(pixel[inside]).astype(int)
    outer = np.full((size, size), -np.inf)
    inner = np.full((size, size), np.inf)
    np.maximum.at(outer, tuple(cells.T), share[inside])
    np.minimum.at(inner, tuple(cells.T), share[inside])
    missing = ~np.isfinite(outer)
    grid = np.stack(np.meshgrid(np.arange(size), np.arange(size), indexing="ij"), axis=-1) - size // 2
    missing_inside = missing & (np.linalg.norm(grid, axis=-1) * pitch <= _REACH_DEG)
    if missing.all() or not missing_inside.any():
        return np.zeros_like(bone)
    # Pixels at the hole's edge have some bone and some of the hole: their surfaces are not to be trusted.
    square = np.ones((3, 3), dtype=bool)
    unknown = ndimage.binary_dilation(missing_inside, square, iterations=2)
    half_voxel = 0.5 * float(spacing.mean()) / vault.radius_mm
    surfaces = []
    for values, margin in ((inner, -half_voxel), (outer, half_voxel)):
        # Beyond the map's circle the wall's median stands for what is not known.
        known = np.where(missing, np.median(values[~missing]), values)
        surfaces.append(inpaint_biharmonic(known, unknown) + margin)
    hole = ndimage.binary_dilation(missing_inside, square)
    fill = np.zeros_like(bone)
    end = _end_of_scan(bone, float(spacing[2]))
    for start in range(0, end, 8):  # in slabs, to bound the memory
        slab = np.argwhere(~bone[:, :, start : min(start + 8, end)])
        slab[:, 2] += start
        pixel, share, height = _polar(slab, affine, vault, pitch, size)
        candidate = _on_map(pixel, size) & (height > 0) & (share > 0.7) & (share < 1.35)
        slab, pixel, share = slab[candidate], pixel[candidate], share[candidate]
        cells = np.round(pixel).astype(int)
        low, high = (ndimage.map_coordinates(s, pixel.T, order=1, mode="nearest") for s in surfaces)
        chosen = hole[tuple(cells.T)] & (share >= low) & (share <= high)
        fill[tuple(slab[chosen].T)] = True
    return fill


def _end_of_scan(bone: np.ndarray, slice_mm: float) -> int:
    """First slice beyond the scan (its last axis runs up): above a scan cut off below the vertex is no hole.

    Such a scan ends with a full ring of bone, a whole head with a small cap, a hole at the vertex with a ragged
    rim.
    """
    count = np.count_nonzero(bone, axis=(0, 1))
    top = int(np.flatnonzero(count)[-1])
    below = count[max(0, top - round(20.0 / slice_mm)) : top + 1]
    return top + 1 if count[top] > 0.5 * below.max() else bone.shape[2]


def _polar(
    index: np.ndarray, affine: np.ndarray, vault: Vault, pitch: float, size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Voxels (N, 3) as map pixels (N, 2), shares of the model's radius (N,), mm above the base (N,)."""
    local = vault.local(index @ affine[:3, :3].T + affine[:3, 3]).astype(np.float32)
    length = np.maximum(np.linalg.norm(local, axis=1), 1e-3)
    across = np.maximum(np.linalg.norm(local[:, :2], axis=1), 1e-3)
    angle = np.rad2deg(np.arccos(np.clip(local[:, 2] / length, -1.0, 1.0)))
    pixel = local[:, :2] / across[:, None] * (angle / pitch)[:, None] + size // 2
    return pixel, length / vault.model_radius(local), vault.above_base(local)


def _on_map(pixel: np.ndarray, size: int) -> np.ndarray:
    return np.asarray(((pixel > -0.5) & (pixel < size - 0.5)).all(axis=1))
