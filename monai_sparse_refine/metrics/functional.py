"""Overlap, distance and volume of binary masks, by the definitions of the AutoImplant challenges.

Every function takes numpy arrays, tensors or MetaTensors, [X, Y, Z] or [1, X, Y, Z], foreground being what is
not 0 (above 0.5 in floating point). Where a spacing is needed, it is in mm, one number or one for each axis;
None reads it from a MetaTensor's affine and raises InputError where there is none. Shapes that differ raise
InputError too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from monai_sparse_refine.errors import InputError
from monai_sparse_refine.volume import as_mask, bounding_box, check_same_shape, spacing_of, surface

__all__ = [
    "border_dice",
    "border_gap",
    "dice",
    "hd95",
    "reconstruction_error",
    "surface_dice",
    "volume_ml",
]

# An implant has some 10,000 to 500,000 voxels, for which a search tree is faster than a distance transform
# and takes no memory to speak of. A prediction that fills the volume has more.
MANY = 2_000_000

Spacing = float | Sequence[float] | None


def dice(a: Any, b: Any) -> float:
    """Dice similarity coefficient, 2 |a and b| / (|a| + |b|).

    Returns:
        0 (disjoint, or one empty) to 1 (equal, or both empty).
    """
    first, second = _pair(a, b)
    total = np.count_nonzero(first) + np.count_nonzero(second)
    return 2.0 * np.count_nonzero(first & second) / total if total else 1.0


def border_dice(
    pred_implant: Any,
    true_implant: Any,
    defective: Any,
    *,
    spacing: Spacing = None,
    distance_mm: float = 10.0,
) -> float:
    """Dice of two implants within a distance of the defective skull: how well the rim fits.

    Counted are the implants' voxels whose centre is at most `distance_mm` from the centre of a skull voxel.

    Args:
        pred_implant: predicted implant.
        true_implant: true implant.
        defective: defective skull.
        spacing: mm.
        distance_mm: width of the border, 10 mm in the challenges.

    Returns:
        0 to 1. An empty prediction of a true implant scores 0, two empty implants score 1.

    Raises:
        InputError: for a defective skull without a voxel, which has no border.
    """
    pred, true = _pair(pred_implant, true_implant)
    bone = as_mask(defective, name="defective")
    check_same_shape(pred_implant=pred, true_implant=true, defective=bone)
    mm = spacing_of(pred_implant, true_implant, defective, spacing=spacing)
    if not bone.any():
        raise InputError("defective is empty, so the implants have no border; pass the skull with the hole")
    if not (pred.any() and true.any()):
        return dice(pred, true)
    # Skull beyond the reach of both implants cannot matter.
    box = bounding_box(pred | true, margin=[int(distance_mm / size) + 1 for size in mm])
    assert box is not None  # neither is empty
    pred, true, bone = pred[box], true[box], bone[box]
    near = _within(pred | true, bone, mm, distance_mm)
    total = np.count_nonzero(pred & near) + np.count_nonzero(true & near)
    return 2.0 * np.count_nonzero(pred & true & near) / total if total else 0.0


def hd95(a: Any, b: Any, *, spacing: Spacing = None) -> float:
    """Robust Hausdorff distance: 95th percentile of the distances from either surface to the other, in mm.

    The two sets of directed distances are pooled before the percentile is taken. A surface is made of the
    foreground voxels that have a background voxel, or the edge of the volume, on one of their six faces.

    Returns:
        0 for equal masks and for two empty ones. Where just one is empty no distance exists: the volume's
        diagonal in mm, larger than any that can occur, and finite, so that a mean over cases stays a number.
    """
    first, second = _pair(a, b)
    mm = spacing_of(a, b, spacing=spacing)
    box = bounding_box(first | second)
    if box is None:
        return 0.0
    if not (first.any() and second.any()):
        return float(np.linalg.norm(np.multiply(first.shape, mm)))
    # Outside the box there is background only, so the surfaces are the same as in the whole volume.
    edges = surface(first[box]), surface(second[box])
    shared = edges[0] & edges[1]
    points = [np.argwhere(edge & ~shared) for edge in edges]
    both = np.argwhere(shared)
    apart = [
        _distances(points[side], np.concatenate([points[1 - side], both]), mm) for side in (0, 1)
    ]  # voxels on both surfaces are at distance 0 and need no search
    return float(np.percentile(np.concatenate([*apart, np.zeros(2 * len(both))]), 95))


def surface_dice(a: Any, b: Any, *, tolerance: float, spacing: Spacing = None) -> float:
    """Share of both surfaces that lies within a tolerance of the other one (Nikolov et al., arXiv:1809.04430).

    Surfaces are made of voxels, as in `hd95`, each counting once.

    Args:
        a, b: masks.
        tolerance: in the unit of the spacing: mm, or voxels where `spacing=1`.
        spacing: mm.

    Returns:
        0 to 1. Two empty masks score 1, an empty one and another score 0.

    Raises:
        InputError: for a negative tolerance.
    """
    if not tolerance >= 0:
        raise InputError(f"tolerance is {tolerance}; expected 0 or more")
    first, second = _pair(a, b)
    mm = spacing_of(a, b, spacing=spacing)
    box = bounding_box(first | second)
    if box is None:
        return 1.0
    edges = surface(first[box]), surface(second[box])
    shared = edges[0] & edges[1]
    both = np.argwhere(shared)
    near = 2 * len(both)
    for side in (0, 1):
        own, other = (np.argwhere(edges[i] & ~shared) for i in (side, 1 - side))
        targets = np.concatenate([other, both])
        distance = _distances(own, targets, mm, limit=tolerance)
        near += int(np.count_nonzero(distance <= tolerance * (1 + 1e-9)))
    return near / (np.count_nonzero(edges[0]) + np.count_nonzero(edges[1]))


def reconstruction_error(a: Any, b: Any) -> float:
    """Percentage of the volume's voxels in which two masks differ, 0 to 100.

    Beware: a skull fills some 5 % of a scan and an implant 0.2 %, so that leaving the hole open scores about
        0.2 %.
    """
    first, second = _pair(a, b)
    return 100.0 * np.count_nonzero(first != second) / first.size


def volume_ml(mask: Any, *, spacing: Spacing = None) -> float:
    """Volume of the foreground in millilitres."""
    return np.count_nonzero(as_mask(mask)) * float(np.prod(spacing_of(mask, spacing=spacing))) / 1000.0


def border_gap(pred_implant: Any, true_implant: Any, defective: Any, *, percentile: float = 100.0) -> float:
    """Largest gap between an implant and the edge of the bone around the hole, in voxels.

    The edge is made of the skull's voxels that share a face with the true implant. The gap at one of them is
    the number of voxels without implant on the way to the nearest one with it, diagonal steps counting one.

    Args:
        pred_implant: predicted implant.
        true_implant: true implant, which says where bone has to be met.
        defective: defective skull.
        percentile: below 100 forgives a few outliers.

    Returns:
        0 where the implant touches the whole edge. The longest side of the volume where it is empty; 0 where
        the true implant meets no bone.
    """
    pred, true = _pair(pred_implant, true_implant)
    bone = as_mask(defective, name="defective")
    check_same_shape(pred_implant=pred, true_implant=true, defective=bone)
    box = bounding_box(true, margin=1)
    if box is None:
        return 0.0
    part = true[box]
    grown = np.pad(part, 1)
    touching = np.zeros_like(part)
    for axis in range(3):
        for start in (0, 2):
            window = [slice(1, -1)] * 3
            window[axis] = slice(start, start + part.shape[axis])
            touching |= grown[tuple(window)]
    edge = np.argwhere(touching & bone[box] & ~part) + np.array([side.start for side in box])
    if not len(edge):
        return 0.0
    if not pred.any():
        return float(max(pred.shape))
    steps = cKDTree(np.argwhere(surface(pred))).query(edge, p=np.inf)[0]
    # A voxel of the edge that the prediction covers has no gap either.
    steps = np.where(pred[tuple(edge.T)], 1, steps)
    return float(np.percentile(steps - 1, percentile))


def _pair(a: Any, b: Any) -> tuple[np.ndarray, np.ndarray]:
    first, second = as_mask(a, name="a"), as_mask(b, name="b")
    check_same_shape(a=first, b=second)
    return first, second


def _within(mask: np.ndarray, bone: np.ndarray, mm: Sequence[float], limit: float) -> np.ndarray:
    """The voxels of a mask at most `limit` mm from bone."""
    limit *= 1 + 1e-9  # a distance of just the limit may not be lost to rounding
    if not bone.any():
        return np.zeros_like(mask)
    if np.count_nonzero(mask) > MANY:
        return mask & (ndimage.distance_transform_edt(~bone, sampling=mm) <= limit)
    points = np.argwhere(mask)  # (N, 3)
    # Distances to the bone's surface are distances to the bone, except inside it.
    near = bone[tuple(points.T)] | (_distances(points, np.argwhere(surface(bone)), mm, limit=limit) <= limit)
    within = np.zeros_like(mask)
    within[tuple(points[near].T)] = True
    return within


def _distances(
    points: np.ndarray, targets: np.ndarray, mm: Sequence[float], *, limit: float = np.inf
) -> np.ndarray:
    """Distance in mm from voxels (N, 3) to the nearest of others (M, 3); may be infinite beyond the limit."""
    if not (len(points) and len(targets)):
        return np.full(len(points), np.inf)
    scale = np.asarray(mm)
    tree = cKDTree(targets * scale)
    return np.asarray(tree.query(points * scale, distance_upper_bound=limit * (1 + 1e-9) + 1e-9)[0])
