"""Cut a drawn defect out of a voxel grid: only around the hole, in one piece, with no loose chips left."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from monai_sparse_refine.transforms.defect_shapes import Defect
from monai_sparse_refine.volume import bounding_box

__all__ = ["cut_defect"]

_LOOSE_SHARE = 0.3  # a bigger share of the implant's size than this is no loose chip
_CHIP_MM = 12.0  # how far from the hole a chip may reach
_TOUCHING = np.ones((3, 3, 3), dtype=bool)


def cut_defect(mask: np.ndarray, affine: np.ndarray, defect: Defect) -> tuple[np.ndarray, ...]:
    """Voxels of a skull that a defect takes: one piece, with the chips that would be left loose.

    Args:
        mask: bool [X, Y, Z].
        affine: voxel to world mm, RAS (4, 4).

    Returns:
        Index arrays of the removed voxels, as from `np.nonzero`.
    """
    box = _box_around(defect.centre_mm, defect.reach_mm, affine, mask.shape)
    part = np.ascontiguousarray(mask[box])
    flat = np.flatnonzero(part)
    index = np.stack(np.unravel_index(flat, part.shape), axis=1).astype(np.float32)
    # Voxel -> world -> head in one step; the box's corner goes into the offset to keep float32 exact enough.
    start = np.array([s.start for s in box])
    axes = defect.vault.axes
    offset = axes @ (affine[:3, :3] @ start + affine[:3, 3] - defect.vault.centre)
    local = index @ (axes @ affine[:3, :3]).T.astype(np.float32) + offset.astype(np.float32)
    removed = np.zeros(part.shape, dtype=bool)
    removed.ravel()[flat[defect.contains(local)]] = True

    pad = np.ceil(_CHIP_MM / np.linalg.norm(affine[:3, :3], axis=0)).astype(int)
    close = bounding_box(removed, margin=pad)
    if close is None:
        return tuple(np.zeros(0, dtype=int) for _ in range(3))
    hole = _one_piece(removed[close])
    hole |= _loose_chips(part[close] & ~hole, hole)
    corner = start + [s.start for s in close]
    return tuple(i + c for i, c in zip(np.nonzero(hole), corner, strict=True))


def _box_around(
    centre_mm: np.ndarray, reach_mm: float, affine: np.ndarray, shape: tuple[int, ...]
) -> tuple[slice, slice, slice]:
    """Slices of the voxel box that holds a ball in world mm."""
    inverse = np.linalg.inv(affine)
    middle = inverse[:3, :3] @ centre_mm + inverse[:3, 3]
    half = reach_mm * np.linalg.norm(inverse[:3, :3], axis=1)
    low = np.clip(np.floor(middle - half), 0, np.array(shape)).astype(int)
    high = np.clip(np.ceil(middle + half) + 1, 0, np.array(shape)).astype(int)
    x, y, z = (slice(int(a), int(max(a, b))) for a, b in zip(low, high, strict=True))
    return x, y, z


def _one_piece(removed: np.ndarray) -> np.ndarray:
    """The largest connected piece: specks beside it stay in the skull."""
    labels, count = ndimage.label(removed, structure=_TOUCHING)
    if count < 2:
        return removed
    return labels == 1 + int(np.argmax(np.bincount(labels.ravel())[1:]))


def _loose_chips(rest: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """Small pieces of bone that touch the hole and nothing else: they go with the implant."""
    chips = np.zeros_like(rest)
    labels, count = ndimage.label(rest, structure=_TOUCHING)
    if count < 2:
        return chips
    sizes = np.bincount(labels.ravel())
    attached = np.zeros(count + 1, dtype=bool)
    attached[1 + int(np.argmax(sizes[1:]))] = True
    for axis in range(3):
        for end in (0, -1):
            attached[np.unique(np.take(labels, end, axis=axis))] = True
    limit = _LOOSE_SHARE * np.count_nonzero(hole)
    grown = np.pad(hole, 1)
    for label, where in enumerate(ndimage.find_objects(labels), start=1):
        if attached[label] or sizes[label] > limit:
            continue
        chip = labels[where] == label
        around = ndimage.binary_dilation(np.pad(chip, 1), structure=_TOUCHING)
        if (around & grown[tuple(slice(s.start, s.stop + 2) for s in where)]).any():
            chips[where] |= chip
    return chips
