"""Tell an implant from the noise that a completion leaves along the bone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from monai_sparse_refine.transforms.cut_film import film_on_cut
from monai_sparse_refine.transforms.near_distance import distance_to
from monai_sparse_refine.volume import bounding_box, surface

__all__ = ["clean_implant", "through_wall"]

# On coarser grids a wall has two or three voxels, and no cut face of its own.
_FILM_FINEST_MM = 2.0


def clean_implant(
    difference: np.ndarray,
    defective: np.ndarray,
    *,
    spacing: Sequence[float],
    core_mm: float = 3.0,
    lip_mm: float = 1.5,
    min_volume_ml: float = 0.2,
    min_relative_volume: float = 0.1,
    middle: Sequence[float] | np.ndarray | None = None,
    through_mm: float = 6.0,
    reach_mm: float = 20.0,
    film_mm: float = 4.0,
    corner_voxels: int = 2,
) -> np.ndarray:
    """Keep of a difference what bridges a hole, and drop what merely clings to the bone.

    Noise of a completion lies along the intact bone, a voxel or two thick. An implant spans a hole, so its
    middle (the core) is far from all bone, however thin the implant is. So:

    1. The core is every voxel at least `core_mm` from the bone, and more than two voxels, so that a film two
       voxels thick is none on a coarse grid either.
    2. A voxel nearer to the bone belongs to the implant where it lies between core and bone, which is where
       its distance to the core and its distance to the bone sum up to no more than `core_mm + lip_mm`; or
       where the difference is at least two voxels thick in every direction and the core is no farther than `2
       * core_mm` (the corners of an angular hole). A film on the bone beyond the rim is neither.
    3. A burr hole at the corner of a hole is narrow and its filling far from the core, but it goes through the
       wall, which a film does not: seen from the middle of the head, no bone lies behind or before it. So a
       voxel without bone within `through_mm` in and out stays where it is joined to the implant, within `reach_mm`.
    4. Where the cut runs aslant, the implant ends in a thin edge over bone that faces the hole: that film stays, up
       to `film_mm` from the rest (see `film_on_cut`), on grids of voxels of 2 mm at most.
    5. What lies in the angle between this and the bone stays too, up to `corner_voxels` from the rest: a hole with
       plane sides leaves bone there behind a slanting rim, and so looks like a film.
    6. Parts without a core, parts below `min_volume_ml`, and parts below `min_relative_volume` times the
       largest go.

    Args:
        difference: boolean array [X, Y, Z], completed and not defective.
        defective: boolean array [X, Y, Z].
        spacing: mm for each axis.
        core_mm: 0 skips steps 1 to 5. A hole narrower than twice this is not seen as a hole.
        lip_mm: how far noise at the rim may reach over the bone. It counts as one voxel at least.
        min_volume_ml: 0 keeps parts of any size.
        min_relative_volume: 0 keeps parts of any size.
        middle: voxel indices (3,) of the middle of the cranial cavity; None skips steps 3 and 4.
        through_mm: how far in and out no bone may lie.
        reach_mm: how far from the implant of step 2 a voxel may be; 0 skips step 3.
        film_mm: how far from the implant of step 3 a voxel may be; 0 skips step 4.
        corner_voxels: how far from the implant of step 4 a voxel may be; 0 skips step 5.

    Returns:
        Boolean array [X, Y, Z], a subset of the difference.
    """
    mm = np.asarray(spacing, dtype=float)
    kept = difference.copy()
    core = None
    if core_mm > 0:
        depth = max(core_mm, 2.001 * float(mm.max()))
        core, kept = _bridge(difference, defective, mm, depth, max(lip_mm, float(mm.max())))
        if middle is not None and reach_mm > 0 and kept.any():
            kept |= through_wall(
                difference,
                kept,
                defective,
                spacing=mm,
                middle=middle,
                through_mm=through_mm,
                reach_mm=reach_mm,
            )
        if middle is not None and film_mm > 0 and mm.max() <= _FILM_FINEST_MM:
            kept |= film_on_cut(difference, kept, defective, spacing=mm, middle=middle, reach_mm=film_mm)
        if corner_voxels > 0:
            kept |= _corners(difference, kept, defective, corner_voxels)
    box = bounding_box(kept)
    if box is None:
        return kept
    # Parts may touch over edges and corners: a thin implant on a coarse grid does.
    labels, count = ndimage.label(kept[box], structure=np.ones((3, 3, 3), dtype=bool))
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    sizes[0] = 0
    large = sizes * mm.prod() / 1000 >= min_volume_ml
    if core is not None:
        cored = np.zeros(count + 1, dtype=bool)
        cored[np.unique(labels[core[box]])] = True
        large &= cored
    large &= sizes >= min_relative_volume * sizes[large].max(initial=0)
    large[0] = False
    kept[box] = large[labels]
    return kept


def _bridge(
    difference: np.ndarray, defective: np.ndarray, mm: np.ndarray, core_mm: float, lip_mm: float
) -> tuple[np.ndarray, np.ndarray]:
    """Core, and core with what ties it to the bone: steps 1 and 2 of `clean_implant`.

    Most of a difference is noise on the bone all over the head, and most bone is far from the hole: distances are
    measured where they can matter alone.
    """
    points = np.argwhere(difference)  # (N, 3)
    core = np.zeros_like(difference)
    deep = points[~_touches(points, defective)]
    core[tuple(deep[_to_bone(deep, defective, mm, core_mm) >= core_mm].T)] = True
    kept = core.copy()
    box = bounding_box(core, margin=[int(n) + 1 for n in np.ceil(2 * core_mm / mm)])
    if box is None:
        return core, kept
    start = np.array([side.start for side in box])
    rest = np.argwhere(difference[box] & ~core[box])
    # Only the core's own surface can be the nearest to a voxel outside it.
    to_core = distance_to(rest, np.argwhere(surface(core[box])), mm, 2 * core_mm)
    rest, to_core = rest[np.isfinite(to_core)] + start, to_core[np.isfinite(to_core)]
    # The nearest bone voxel's centre is one voxel inside the bone, hence the extra voxel between core and
    # bone.
    tied = to_core + _to_bone(rest, defective, mm, core_mm) <= core_mm + lip_mm
    kept[tuple(rest[tied].T)] = True
    thick = np.zeros_like(difference)
    # An axis of one slice cannot be two voxels thick.
    block = np.ones([min(2, size) for size in difference.shape], dtype=bool)
    thick[box] = ndimage.binary_opening(difference[box], structure=block)
    corner = rest[~tied]
    corner = corner[thick[tuple(corner.T)]]
    kept[tuple(corner.T)] = True
    return core, kept


def _touches(points: np.ndarray, bone: np.ndarray) -> np.ndarray:
    """Whether a voxel outside the bone has some of it on one of its six faces: (N, 3) -> bool (N,)."""
    touches = np.zeros(len(points), dtype=bool)
    for axis, size in enumerate(bone.shape):
        for step in (-1, 1):
            beside = list(points.T)
            beside[axis] = np.clip(beside[axis] + step, 0, size - 1)
            touches |= bone[tuple(beside)]
    return touches


def _to_bone(points: np.ndarray, bone: np.ndarray, mm: np.ndarray, limit: float) -> np.ndarray:
    """Distance in mm from every voxel (N, 3) to the nearest voxel of bone, infinite beyond the limit: (N,)."""
    if not len(points):
        return np.zeros(0)
    margin = np.ceil(limit / mm).astype(int) + 1
    first = np.maximum(points.min(axis=0) - margin, 0)
    last = points.max(axis=0) + margin + 1
    near = bone[tuple(slice(low, high) for low, high in zip(first, last, strict=True))]
    return distance_to(points - first, np.argwhere(surface(near)), mm, limit)


def _corners(difference: np.ndarray, implant: np.ndarray, bone: np.ndarray, reach: int) -> np.ndarray:
    """Voxels of a difference that lie in the angle between an implant and the bone: step 5 of `clean_implant`.

    These are what the closing of both by a block of three voxels adds.
    """
    corners = np.zeros_like(implant)
    box = bounding_box(implant, margin=reach + 2)
    if box is None:
        return corners
    near, solid = implant[box], implant[box] | bone[box]
    # At the end of the volume both go on as they are.
    wide = ndimage.maximum_filter(solid, 3, mode="nearest")
    closed = ndimage.minimum_filter(wide, 3, mode="nearest")
    free = closed & difference[box] & ~near
    free &= ndimage.maximum_filter(near, 2 * reach + 1, mode="nearest")
    block = np.ones((3, 3, 3), dtype=bool)
    corners[box] = ndimage.binary_propagation(near, structure=block, mask=near | free) & ~near
    return corners


def through_wall(
    candidates: np.ndarray,
    implant: np.ndarray,
    solid: np.ndarray,
    *,
    spacing: Sequence[float] | np.ndarray,
    middle: Sequence[float] | np.ndarray,
    through_mm: float,
    reach_mm: float,
) -> np.ndarray:
    """An implant with the voxels joined to it that go through the wall: seen from the middle, nothing is behind them.

    Args:
        candidates: boolean array [X, Y, Z].
        implant: boolean array [X, Y, Z].
        solid: boolean array [X, Y, Z], what may not lie in or out of such a voxel.
        spacing: mm for each axis.
        middle: voxel indices (3,) of the middle of the cranial cavity.
        through_mm: how far in and out nothing may lie; a voxel and a half at least.
        reach_mm: how far from the implant a voxel may be.

    Returns:
        Boolean array [X, Y, Z].
    """
    mm = np.asarray(spacing, dtype=float)
    joined = np.zeros_like(implant)
    box = bounding_box(implant, margin=[int(n) for n in np.ceil(reach_mm / mm)])
    if box is None:
        return joined
    start = np.array([side.start for side in box])
    points = np.argwhere(candidates[box] & ~implant[box])
    points = points[np.isfinite(distance_to(points, np.argwhere(surface(implant[box])), mm, reach_mm))]
    # A film on the bone is at least a voxel thick.
    through = max(through_mm, 1.5 * float(mm.max()))
    free = implant[box].copy()
    free[tuple(points[_nothing_behind(points + start, solid, mm, np.asarray(middle), through)].T)] = True
    joined[box] = ndimage.binary_propagation(implant[box], structure=np.ones((3, 3, 3)), mask=free)
    return joined


def _nothing_behind(
    points: np.ndarray, solid: np.ndarray, mm: np.ndarray, middle: np.ndarray, through_mm: float
) -> np.ndarray:
    """Whether nothing solid lies within a distance, in and out along the line from the middle: (N, 3) -> (N,)."""
    away = (points - middle) * mm
    away = away / np.maximum(np.linalg.norm(away, axis=1, keepdims=True), 1e-6) / mm  # voxels for each mm
    free = np.ones(len(points), dtype=bool)
    step = float(mm.min()) / 2
    last = np.asarray(solid.shape) - 1
    for distance in np.arange(step, through_mm + step / 2, step):
        for sign in (-1, 1):
            seen = np.rint(points[free] + sign * distance * away[free]).astype(int)
            inside = ((seen >= 0) & (seen <= last)).all(axis=1)
            hit = solid[tuple(np.clip(seen, 0, last).T)] & inside
            free[np.flatnonzero(free)[hit]] = False
    return free
