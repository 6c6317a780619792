"""The vault's inner and outer surface, continued smoothly across a hole: a first guess of the implant."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, Transform
from monai.utils import TransformBackends, convert_to_dst_type
from scipy import ndimage
from torch import Tensor

from monai_sparse_refine.errors import InputError
from monai_sparse_refine.transforms.inpaint import inpaint_tension
from monai_sparse_refine.transforms.scan_end import end_of_scan
from monai_sparse_refine.transforms.vault import Vault, vault_of
from monai_sparse_refine.transforms.vault_map import (
    REACH_DEG,
    map_directions,
    map_pitch,
    map_size,
    on_map,
    to_map,
)
from monai_sparse_refine.transforms.vault_trend import mean_trend
from monai_sparse_refine.volume import as_tensor

__all__ = [
    "InterpolateVault",
    "InterpolateVaultD",
    "InterpolateVaultDict",
    "InterpolateVaultd",
    "interpolate_vault",
]

_WALL = (0.75, 1.3)  # bone between these shares of the model's radius is the vault's wall
_TREND_DEG = 85.0  # how far from straight up the overall shape is fitted: below are temples and orbits
_TENSION_DEG = 4.5  # over how far the surface carries on its slope
_AROUND_DEG = 10.0
_THIN = 0.8  # of the thickness around
_SLAB = 8  # slices worked on at a time, to bound the memory


def interpolate_vault(bone: np.ndarray, affine: np.ndarray, *, below_mm: float = 0.0) -> np.ndarray:
    """Fill the holes of a cranial vault between its two surfaces, as far as directions from its middle go.

    The wall's two surfaces are distances from the middle of the cranial cavity, mapped over the directions around
    straight up (azimuthal equidistant). Into the directions without bone the thickness between them is continued as a
    membrane. Their mean is the wall's overall shape (:func:`mean_trend`) and what the bone departs from it, which is
    continued as a plate under tension: it carries on values and, at first, slopes.

    Args:
        bone: bool [X, Y, Z], the third axis running up.
        affine: voxel to world mm, RAS (4, 4).
        below_mm: how far below its base, the plane through the orbital rims and the occiput, it is filled.

    Returns:
        float32 [X, Y, Z]: which fraction of a voxel lies between the surfaces, in the hole's directions; 0
        elsewhere, and everywhere where there is no hole, or no vault to be found.
    """
    empty = np.zeros(bone.shape, dtype=np.float32)
    try:
        vault = vault_of(bone, affine)
    except InputError:
        return empty
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    pitch = map_pitch(affine, vault)
    size = map_size(pitch)
    voxel = float(spacing.mean()) / vault.radius_mm
    mapped = _surfaces(bone, affine, vault, pitch=pitch, size=size, half_voxel=voxel / 2)
    if mapped is None:
        return empty
    inner, outer, hole = mapped
    fill = empty
    box = _box_of_hole(inner, outer, hole, affine, vault, pitch=pitch, shape=bone.shape, below_mm=below_mm)
    if box is None:
        return empty
    (left, back, bottom), (right, front, top) = box
    end = min(top, end_of_scan(bone, float(spacing[2])))
    for start in range(bottom, end, _SLAB):
        slab = np.argwhere(~bone[left:right, back:front, start : min(start + _SLAB, end)])
        slab += np.array([left, back, start])
        pixel, share, height = to_map(slab, affine, vault, pitch, size)
        candidate = on_map(pixel, size) & (height > -below_mm) & (share > 0.7) & (share < 1.35)
        slab, pixel, share = slab[candidate], pixel[candidate], share[candidate]
        chosen = hole[tuple(np.round(pixel).astype(int).T)]
        slab, pixel, share = slab[chosen], pixel[chosen], share[chosen]
        low, high = (ndimage.map_coordinates(s, pixel.T, order=1, mode="nearest") for s in (inner, outer))
        # A voxel whose centre lies on a surface is half inside.
        inside = np.clip((share - low) / voxel + 0.5, 0, 1) * np.clip((high - share) / voxel + 0.5, 0, 1)
        fill[tuple(slab.T)] = inside
    return fill


class InterpolateVault(Transform):
    """First guess of what fills a skull's hole: the vault's two surfaces interpolated across it.

    Args:
        append: return the input with the fill as one more channel (a network's input) instead of the fill alone.
        threshold: value from which a voxel of the input is bone.
        below_mm: how far below the vault's base it is filled, as in :func:`interpolate_vault`.
    """

    backend = [TransformBackends.NUMPY]

    def __init__(self, *, append: bool = False, threshold: float = 0.5, below_mm: float = 0.0) -> None:
        self.append = append
        self.threshold = threshold
        self.below_mm = below_mm

    def __call__(self, mask: Tensor) -> Tensor:
        """Fill [C, X, Y, Z] in RAS orientation, its first channel being the skull; fractions as float32."""
        plain = as_tensor(mask)
        if plain.ndim != 4:
            raise ValueError(
                f"InterpolateVault expects a 3D skull [C, X, Y, Z], got shape {tuple(plain.shape)}."
            )
        affine = mask.affine.cpu().numpy() if isinstance(mask, MetaTensor) else np.eye(4)
        bone = plain[0].cpu().numpy() >= self.threshold
        fill = torch.from_numpy(interpolate_vault(bone, affine, below_mm=self.below_mm))
        fill = fill[None].to(plain.device)
        out = torch.cat([plain.float(), fill]) if self.append else fill
        return convert_to_dst_type(out, mask, dtype=torch.float32)[0]


class InterpolateVaultd(MapTransform):
    """Dictionary version of :class:`InterpolateVault`."""

    backend = InterpolateVault.backend

    def __init__(
        self,
        keys: KeysCollection,
        *,
        append: bool = False,
        threshold: float = 0.5,
        below_mm: float = 0.0,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.interpolate = InterpolateVault(append=append, threshold=threshold, below_mm=below_mm)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        out = dict(data)
        for key in self.key_iterator(out):
            out[key] = self.interpolate(out[key])
        return out


def _surfaces(
    bone: np.ndarray, affine: np.ndarray, vault: Vault, *, pitch: float, size: int, half_voxel: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Maps (size, size) of the inner and the outer surface as shares of the model's radius, and of the hole.

    None where no direction lacks bone, or all do.
    """
    wall = np.argwhere(bone)
    pixel, share, _ = to_map(wall, affine, vault, pitch, size)
    inside = on_map(pixel, size) & (share > _WALL[0]) & (share < _WALL[1])
    cells = np.round(pixel[inside]).astype(int)
    outer = np.full((size, size), -np.inf)
    inner = np.full((size, size), np.inf)
    np.maximum.at(outer, tuple(cells.T), share[inside])
    np.minimum.at(inner, tuple(cells.T), share[inside])
    missing = ~np.isfinite(outer)
    grid = np.stack(np.meshgrid(np.arange(size), np.arange(size), indexing="ij"), axis=-1) - size // 2
    angle = np.linalg.norm(grid, axis=-1) * pitch  # from straight up, degrees
    missing_inside = missing & (angle <= REACH_DEG)
    if missing.all() or not missing_inside.any():
        return None
    # What is not known has any value: it is filled below.
    inner, outer = (
        np.where(missing, np.median(s[~missing]), s) for s in (inner - half_voxel, outer + half_voxel)
    )
    hole = _untrusted(missing_inside, missing, outer - inner, pitch)
    unknown = hole | missing
    middle = (inner + outer) / 2
    trend = mean_trend(middle, ~unknown & (angle <= _TREND_DEG), map_directions(grid, np.deg2rad(angle)))
    # The middle carries on its slope for a while; the thickness has none to carry on, or it would soon be negative.
    middle = trend + inpaint_tension(middle - trend, unknown, length=_TENSION_DEG / pitch)
    half = inpaint_tension(outer - inner, unknown) / 2
    return middle - half, middle + half, hole


def _untrusted(hole: np.ndarray, missing: np.ndarray, thickness: np.ndarray, pitch: float) -> np.ndarray:
    """The hole with the pixels at its edge that have some bone and some of the hole, bool (N, N).

    All that touch it count, and those that touch these where the wall is much thinner than around.
    """
    block = np.ones((3, 3), dtype=bool)
    wider = ndimage.binary_dilation(hole, block)
    away = ~ndimage.binary_dilation(hole, block, iterations=3) & ~missing
    weight, total = (
        ndimage.gaussian_filter(values, _AROUND_DEG / pitch)
        for values in (away.astype(np.float64), np.where(away, thickness, 0.0))
    )
    thin = thickness * weight < _THIN * total
    return np.asarray(wider | (ndimage.binary_dilation(wider, block) & thin & ~missing))


def _box_of_hole(
    inner: np.ndarray,
    outer: np.ndarray,
    hole: np.ndarray,
    affine: np.ndarray,
    vault: Vault,
    *,
    pitch: float,
    shape: tuple[int, ...],
    below_mm: float,
) -> tuple[np.ndarray, np.ndarray] | None:
    """First voxels, and those after the last, that hold all of the hole between the surfaces; None for nothing.

    What lies far below the base is left out: there are always directions without bone.
    """
    size = len(hole)
    grid = np.argwhere(hole) - size // 2
    direction = map_directions(grid, np.deg2rad(np.linalg.norm(grid, axis=-1) * pitch))
    # Between pixels the surfaces are interpolated, so that a neighbour may lie farther in or out.
    low, high = ndimage.minimum_filter(inner, 3)[hole], ndimage.maximum_filter(outer, 3)[hole]
    length = vault.model_radius(direction)
    local = np.concatenate([direction * (share * length)[:, None] for share in (low, high)])
    around = 2.0 * np.deg2rad(pitch) * vault.radius_mm + 2.0 * np.linalg.norm(affine[:3, :3], axis=0).max()
    local = local[vault.above_base(local) > -below_mm - around]
    if not len(local):
        return None
    world = vault.world(local)
    corners = np.stack([world.min(axis=0) - around, world.max(axis=0) + around])
    corners = np.stack(np.meshgrid(*corners.T, indexing="ij"), axis=-1).reshape(-1, 3)
    index = (corners - affine[:3, 3]) @ np.linalg.inv(affine[:3, :3]).T
    first = np.maximum(np.floor(index.min(axis=0)), 0).astype(int)
    return first, np.minimum(np.ceil(index.max(axis=0)) + 1, shape).astype(int)


InterpolateVaultD = InterpolateVaultDict = InterpolateVaultd
