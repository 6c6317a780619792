"""The head in a mask: told from a head holder or whatever else lies around it, and where its middle is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from monai.data import MetaTensor
from scipy import ndimage

from monai_sparse_refine.errors import InputError
from monai_sparse_refine.transforms.vault import Vault, some_voxels, vault_of
from monai_sparse_refine.transforms.vault_map import map_pitch, map_size, on_map, to_map
from monai_sparse_refine.volume import affine_of_box, bounding_box

__all__ = ["cranial_middle", "skull_part", "without_holder"]

_LEAST_MM = 50.0
_GAP_MM = 3.0
_OUTSIDE = 0.8
# In front, the outer table of the frontal sinus may be a part of its own, up to so much above the base.
_SINUS_MM = 40.0
_SOME_POINTS = 200_000  # a dozen for each pixel of the finest map


def without_holder(bone: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """A skull without large parts that lie outside its vault, which would be taken for a piece of it.

    The skull is the largest part (voxels that touch by their faces) that has a vault. Another one goes where what it
    has beside or behind the vault is at least 50 mm long, and at least 80 % of that lies 3 mm or more beyond the
    skull's outer surface, seen from the middle of the cranial cavity. Across a hole that surface goes on from its rim,
    so that a loose piece of the vault stays. So do jaw and spine, which lie lower, the outer wall of the frontal sinus,
    and all small parts.

    Args:
        bone: bool [X, Y, Z].
        affine: voxel to world mm, RAS (4, 4).

    Returns:
        Bool [X, Y, Z]; the very array that came in where nothing goes, or no vault is found.
    """
    box = bounding_box(bone)
    if box is None:
        return bone
    labels, _ = ndimage.label(bone[box])
    long = _long_parts(labels, affine)
    if len(long) < 2:
        return bone
    there = affine_of_box(affine, box)
    found = _largest_with_vault(labels, long, there)
    if found is None:
        return bone
    own, vault = found
    surface = _outer_surface(labels == own, there, vault)
    goes = [
        number for number in long if number != own and _is_outside(labels == number, there, vault, surface)
    ]
    if not goes:
        return bone
    kept = bone.copy()
    kept[box] &= ~np.isin(labels, goes)
    return kept


def skull_part(bone: np.ndarray, affine: np.ndarray) -> np.ndarray | None:
    """The largest part of a mask that has a vault: a table under the head may be larger than the skull.

    Args:
        bone: bool [X, Y, Z].
        affine: voxel to world mm, RAS (4, 4).

    Returns:
        Bool [X, Y, Z]; None where no part (voxels that touch by their faces) has a vault.
    """
    box = bounding_box(bone)
    if box is None:
        return None
    labels, _ = ndimage.label(bone[box])
    found = _largest_with_vault(labels, _long_parts(labels, affine), affine_of_box(affine, box))
    if found is None:
        return None
    kept = np.zeros_like(bone)
    kept[box] = labels == found[0]
    return kept


def cranial_middle(bone: np.ndarray, *volumes: Any) -> np.ndarray | None:
    """Middle of the cranial cavity as voxel indices (3,); None where no volume has an affine, or without a vault.

    Args:
        bone: bool [X, Y, Z].
        volumes: volumes on the mask's grid; the first MetaTensor says where it lies.
    """
    affines = [volume.affine for volume in volumes if isinstance(volume, MetaTensor)]
    if not affines:
        return None
    affine = affines[0].cpu().numpy().astype(float)
    try:
        centre = vault_of(without_holder(bone, affine), affine).centre
    except InputError:
        return None
    return np.asarray(np.linalg.solve(affine[:3, :3], centre - affine[:3, 3]))


def _long_parts(labels: np.ndarray, affine: np.ndarray) -> list[int]:
    """The numbers of the parts that are long enough to matter, the largest first."""
    mm = np.linalg.norm(affine[:3, :3], axis=0)
    long = [
        number
        for number, part in enumerate(ndimage.find_objects(labels), start=1)
        if _length(np.array([side.stop - side.start for side in part]) * mm) >= _LEAST_MM
    ]
    if len(long) < 2:
        return long
    sizes = np.bincount(labels.ravel())
    return sorted(long, key=lambda number: -int(sizes[number]))


def _largest_with_vault(
    labels: np.ndarray, numbers: Sequence[int], affine: np.ndarray
) -> tuple[int, Vault] | None:
    """The first of some parts that has a vault, and that."""
    for number in numbers:
        try:
            return number, vault_of(labels == number, affine)
        except InputError:
            continue
    return None


def _outer_surface(skull: np.ndarray, affine: np.ndarray, vault: Vault) -> np.ndarray:
    """Map (N, N) of a skull's outermost bone as shares of the model's radius, continued where there is none."""
    pitch = map_pitch(affine, vault)
    size = map_size(pitch)
    pixel, share, _ = to_map(some_voxels(skull, _SOME_POINTS), affine, vault, pitch, size)
    inside = on_map(pixel, size)
    outer = np.full((size, size), -np.inf)
    np.maximum.at(outer, tuple(np.round(pixel[inside]).astype(int).T), share[inside])
    nearest = ndimage.distance_transform_edt(np.isinf(outer), return_distances=False, return_indices=True)
    return np.asarray(outer[tuple(nearest)])


def _is_outside(part: np.ndarray, affine: np.ndarray, vault: Vault, surface: np.ndarray) -> bool:
    """Whether what a part has beside or behind the vault is long, and lies beyond a surface nearly everywhere."""
    voxels = some_voxels(part, _SOME_POINTS)
    size = len(surface)
    pixel, share, height = to_map(voxels, affine, vault, map_pitch(affine, vault), size)
    front = vault.local(voxels @ affine[:3, :3].T + affine[:3, 3])[:, 1]
    seen = on_map(pixel, size) & (height > 0) & ((front < 0) | (height > _SINUS_MM))
    if not seen.any():
        return False
    sides_mm = (np.ptp(voxels[seen], axis=0) + 1) * np.linalg.norm(affine[:3, :3], axis=0)
    if _length(sides_mm) < _LEAST_MM:
        return False
    there = surface[tuple(np.round(pixel[seen]).astype(int).T)]
    beyond = share[seen] > there + _GAP_MM / vault.radius_mm
    return bool(beyond.mean() >= _OUTSIDE)


def _length(sides_mm: np.ndarray) -> float:
    return float(np.linalg.norm(sides_mm))
