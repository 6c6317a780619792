"""A procedural skull: plausible anatomy, another head for every seed, the same head at every resolution."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from monai.data import MetaTensor

from monai_sparse_refine.data.phantom_head import Head
from monai_sparse_refine.errors import InputError

__all__ = ["skull_phantom"]

_BLOCK_MM = 4.0  # edge of the blocks in which bone is looked for first
_SPACE_MM = ((-96.0, 96.0), (-120.0, 124.0), (-140.0, 104.0))  # holds every head
_BLOCK_VOXEL_MM = 1.0  # blocks and bounds are those of this voxel size, so that all spacings share them
_SLACK = 1.6  # how much faster than a true distance the approximate one may change
_MARGIN_MM = 10.0
_CHUNK = 1 << 17  # points at a time: the arrays of one evaluation stay in the cache
_UNSURE = 0.01  # within this of bone's edge the sign may turn on how a processor rounds single precision


def skull_phantom(
    seed: int, *, spacing: float | Sequence[float] = 1.0, shape: Sequence[int] | None = None
) -> MetaTensor:
    """Make the skull of one seed as a binary mask.

    Args:
        seed: chooses the head; a seed gives the same head at every spacing.
        spacing: voxel size in mm, one number or one for each axis.
        shape: voxels along each axis, the head in the middle (cut where it does not fit). None: a tight box
            with a margin of 10 mm, except below, where the scan ends.

    Returns:
        uint8 MetaTensor [1, X, Y, Z] of 0 and 1, RAS orientation, the world's origin at the volume's centre.

    Raises:
        InputError: where spacing or shape are not three positive numbers.
    """
    edges = np.broadcast_to(np.asarray(spacing, dtype=float), (3,))
    if not (np.isfinite(edges).all() and (edges > 0).all()):
        raise InputError(f"spacing is {spacing}; expected one or three positive numbers in mm")
    head = Head.draw(int(seed))
    blocks = _occupied_blocks(head)
    low, high = _bounds(head, blocks)
    if shape is None:
        size = np.ceil((high - low) / edges).astype(int)
    else:
        size = np.asarray(shape, dtype=int)
        if size.shape != (3,) or (size < 1).any():
            raise InputError(f"shape is {tuple(shape)}; expected three positive numbers of voxels")
    middle = 0.5 * (low + high)
    axes = [middle[a] + (np.arange(size[a]) - 0.5 * (size[a] - 1)) * edges[a] for a in range(3)]
    mask = _sample(head, blocks, axes, voxel_mm=float(edges.max()))

    affine = np.diag([*edges, 1.0])
    affine[:3, 3] = -0.5 * (size - 1) * edges
    return MetaTensor(torch.from_numpy(mask)[None], affine=torch.from_numpy(affine))


def _solid(
    head: Head, x: np.ndarray, y: np.ndarray, z: np.ndarray, *, voxel_mm: float, pores: bool
) -> np.ndarray:
    """`Head.solid`, chunk by chunk, for points (N,): in double precision near 0, so that every processor agrees."""
    result = np.empty(x.size, dtype=np.float32)
    for start in range(0, x.size, _CHUNK):
        part = slice(start, start + _CHUNK)
        value = head.solid(x[part], y[part], z[part], voxel_mm=voxel_mm, pores=pores)
        unsure = np.flatnonzero(np.abs(value) < _UNSURE)
        at = (points[part][unsure].astype(np.float64) for points in (x, y, z))
        value[unsure] = head.solid(*at, voxel_mm=voxel_mm, pores=pores)
        result[part] = value
    return result


def _occupied_blocks(head: Head) -> np.ndarray:
    """Signed distance to bone at the centres of the blocks of the whole space, float32 [X, Y, Z]."""
    centres = [np.arange(lo + _BLOCK_MM / 2, hi, _BLOCK_MM, dtype=np.float32) for lo, hi in _SPACE_MM]
    x, y, z = (grid.ravel() for grid in np.meshgrid(*centres, indexing="ij"))
    distance = _solid(head, x, y, z, voxel_mm=_BLOCK_VOXEL_MM, pores=False)
    return distance.reshape([len(c) for c in centres])


def _bounds(head: Head, blocks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper corner, in head space, of the scanned box."""
    low, high = np.empty(3), np.empty(3)
    start = np.array([lo for lo, _ in _SPACE_MM])
    heights = _SPACE_MM[2][0] + _BLOCK_MM * (np.arange(blocks.shape[2]) + 0.5)
    bone = (blocks < 0) & (heights > head.scan_floor_mm)
    for axis in range(3):
        hit = np.flatnonzero(bone.any(axis=tuple(a for a in range(3) if a != axis)))
        low[axis] = start[axis] + _BLOCK_MM * hit[0] - _MARGIN_MM
        high[axis] = start[axis] + _BLOCK_MM * (hit[-1] + 1) + _MARGIN_MM
    low[2] = max(low[2], head.scan_floor_mm)
    return low, high


def _sample(head: Head, blocks: np.ndarray, axes: Sequence[np.ndarray], *, voxel_mm: float) -> np.ndarray:
    """Bone on the grid of the three axes, uint8 [X, Y, Z], looked for only in blocks that can hold any."""
    thicker = max(0.0, voxel_mm - _BLOCK_VOXEL_MM)  # walls grow with the voxels
    candidate = blocks < _SLACK * _BLOCK_MM * 0.5 * np.sqrt(3.0) + thicker
    index = [
        np.floor((axis - lo) / _BLOCK_MM).astype(int) for axis, (lo, _) in zip(axes, _SPACE_MM, strict=True)
    ]
    known = [(i >= 0) & (i < n) for i, n in zip(index, blocks.shape, strict=True)]
    index = [np.clip(i, 0, n - 1) for i, n in zip(index, blocks.shape, strict=True)]
    x, y, z = (axis.astype(np.float32) for axis in axes)
    mask = np.zeros([len(axis) for axis in axes], dtype=np.uint8)
    scanned = known[2] & (axes[2] >= head.scan_floor_mm)
    # Slabs along the first axis are contiguous in memory.
    for i in np.flatnonzero(known[0]):
        plane = candidate[index[0][i]][np.ix_(index[1], index[2])] & known[1][:, None] & scanned
        j, k = np.nonzero(plane)
        if j.size:
            points = np.full(j.size, x[i], dtype=np.float32), y[j], z[k]
            mask[i, j, k] = _solid(head, *points, voxel_mm=voxel_mm, pores=True) < 0
    return mask
