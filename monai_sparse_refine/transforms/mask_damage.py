"""The usual faults of a segmentation network's mask, one function each: boolean [X, Y, Z] in and out, sizes in mm."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import ndimage

__all__ = ["DAMAGE"]

Damage = Callable[[np.ndarray, np.ndarray, np.random.RandomState], np.ndarray]


def holes(mask: np.ndarray, mm: np.ndarray, random: np.random.RandomState) -> np.ndarray:
    """One to four balls of 3 to 10 mm radius, around voxels of the mask, are lost."""
    out = mask.copy()
    for centre in _pick(mask, random.randint(1, 5), random):
        out &= ~_ball(mask.shape, mm, centre, random.uniform(3, 10))
    return out


def missing_slices(mask: np.ndarray, mm: np.ndarray, random: np.random.RandomState) -> np.ndarray:
    """One to three runs of slices, up to 9 mm thick, are lost; slices lie across the axis of the thickest voxels."""
    out = mask.copy()
    view = np.moveaxis(out, _slice_axis(mm), 0)
    filled = np.flatnonzero(view.any(axis=(1, 2)))
    thickness = mm[_slice_axis(mm)]
    for _ in range(random.randint(1, 4)):
        start = random.choice(filled)
        view[start : start + max(1, round(random.uniform(1, 9) / thickness))] = False
    return out


def missing_end(mask: np.ndarray, mm: np.ndarray, random: np.random.RandomState) -> np.ndarray:
    """One end along the axis across the slices is lost, 5 to 35 mm and at most half of the length."""
    axis = _slice_axis(mm)
    out = mask.copy()
    view = np.moveaxis(out, axis, 0)
    filled = np.flatnonzero(view.any(axis=(1, 2)))
    count = min(max(1, round(random.uniform(5, 35) / mm[axis])), len(filled) // 2)
    lost = filled[:count] if random.uniform() < 0.5 else filled[len(filled) - count :]
    view[lost] = False
    return out


def blobs(mask: np.ndarray, mm: np.ndarray, random: np.random.RandomState) -> np.ndarray:
    """One to four balls of 2 to 8 mm radius appear 4 to 30 mm from voxels of the mask, away from its middle."""
    out = mask.copy()
    middle = np.argwhere(mask).mean(0)
    for start in _pick(mask, random.randint(1, 5), random):
        way = (start - middle) * mm + random.standard_normal(3)
        way /= np.linalg.norm(way)
        # The last voxel of the mask on the way out.
        path = np.rint(start + np.arange(0, 200)[:, None] * way / mm).astype(int)
        path = path[((path >= 0) & (path < mask.shape)).all(1)]
        edge = path[np.flatnonzero(mask[tuple(path.T)])[-1]]
        out |= _ball(mask.shape, mm, edge + way * random.uniform(4, 30) / mm, random.uniform(2, 8))
    return out


def leaks(mask: np.ndarray, mm: np.ndarray, random: np.random.RandomState) -> np.ndarray:
    """One to three tongues of 2 to 5 mm radius and some 10 to 25 mm length flow out of the surface."""
    out = mask.copy()
    edge = mask & ~ndimage.binary_erosion(mask)
    for start in _pick(edge, random.randint(1, 4), random):
        way = random.standard_normal(3)
        way /= np.linalg.norm(way)
        radius, length = random.uniform(2, 5), random.uniform(10, 25)
        for step in np.arange(0, length, radius):
            out |= _ball(mask.shape, mm, start + way * step / mm, radius * random.uniform(0.7, 1.2))
    return out


def stumps(mask: np.ndarray, mm: np.ndarray, random: np.random.RandomState) -> np.ndarray:
    """One or two balls of 6 to 14 mm radius, around voxels of the surface, are added: a neighbour taken for a part."""
    out = mask.copy()
    for centre in _pick(mask & ~ndimage.binary_erosion(mask), random.randint(1, 3), random):
        out |= _ball(mask.shape, mm, centre, random.uniform(6, 14))
    return out


def prolonged_end(mask: np.ndarray, mm: np.ndarray, random: np.random.RandomState) -> np.ndarray:
    """One end along the axis across the slices runs on by 10 to 40 mm, its last full slice drifting sideways."""
    axis = _slice_axis(mm)
    out = mask.copy()
    view = np.moveaxis(out, axis, 0)
    step = 1 if random.uniform() < 0.5 else -1
    filled = np.flatnonzero(view.any(axis=(1, 2)))[::step]
    count = round(random.uniform(10, 40) / mm[axis])
    drift = random.uniform(-0.5, 0.5, 2) * mm[axis] / np.delete(mm, axis)  # voxels a slice
    # The very last slices are a dome, not what a vessel is like.
    pattern = view[filled[-1 - min(len(filled) - 1, round(6 / mm[axis]))]].copy()
    for n in range(1, count + 1):
        place = filled[-1] + step * n
        if not 0 <= place < len(view):
            break
        view[place] |= _shifted(pattern, np.rint(n * drift).astype(int))
    return out


def steps(mask: np.ndarray, mm: np.ndarray, random: np.random.RandomState) -> np.ndarray:
    """Stair-steps: sampled on a grid of 3 to 7 mm and brought back, both by the nearest voxel."""
    coarse = random.uniform(3, 7)
    offset = random.uniform(0, 1, 3)
    index = []
    for size, step, shift in zip(mask.shape, mm, offset, strict=True):
        cell = max(coarse, step) / step  # in voxels
        centre = (np.floor(np.arange(size) / cell - shift + 1) + shift - 0.5) * cell
        index.append(np.clip(np.rint(centre), 0, size - 1).astype(int))
    return mask[np.ix_(*index)]


def erosion(mask: np.ndarray, mm: np.ndarray, random: np.random.RandomState) -> np.ndarray:
    """1 to 4 mm are lost all around; less where nothing would be left."""
    depth = ndimage.distance_transform_edt(np.pad(mask, 1), sampling=mm)[1:-1, 1:-1, 1:-1]
    return np.asarray(depth > min(random.uniform(1, 4), 0.6 * float(depth.max())))


def dilation(mask: np.ndarray, mm: np.ndarray, random: np.random.RandomState) -> np.ndarray:
    """1 to 4 mm are added all around."""
    return np.asarray(ndimage.distance_transform_edt(~mask, sampling=mm) <= random.uniform(1, 4))


def lost_component(mask: np.ndarray, mm: np.ndarray, random: np.random.RandomState) -> np.ndarray:
    """A component that is not the largest is lost; of a single one, the smaller part beyond a gap of 3 to 8 mm."""
    labels, count = ndimage.label(mask)
    if count > 1:
        order = np.argsort(np.bincount(labels.ravel())[1:]) + 1
        return np.asarray(mask & (labels != random.choice(order[:-1])))
    axis = _slice_axis(mm)
    out = mask.copy()
    view = np.moveaxis(out, axis, 0)
    filled = np.flatnonzero(view.any(axis=(1, 2)))
    cut = int(random.choice(filled))
    width = max(1, round(random.uniform(3, 8) / mm[axis]))
    view[cut : cut + width] = False
    low, high = view[:cut], view[cut + width :]
    smaller = low if np.count_nonzero(low) < np.count_nonzero(high) else high
    smaller[:] = False
    return out


DAMAGE: dict[str, Damage] = {
    "holes": holes,
    "missing_slices": missing_slices,
    "missing_end": missing_end,
    "blobs": blobs,
    "leaks": leaks,
    "stumps": stumps,
    "prolonged_end": prolonged_end,
    "steps": steps,
    "erosion": erosion,
    "dilation": dilation,
    "lost_component": lost_component,
}


def _slice_axis(mm: np.ndarray) -> int:
    """Axis of the thickest voxels; of equal ones the last, as slices are stored."""
    return int(len(mm) - 1 - np.argmax(mm[::-1]))


def _pick(mask: np.ndarray, count: int, random: np.random.RandomState) -> np.ndarray:
    """Voxels of a mask, (count, 3)."""
    where = np.flatnonzero(mask)
    return np.stack(np.unravel_index(random.choice(where, count), mask.shape), axis=1).astype(float)


def _shifted(plane: np.ndarray, by: np.ndarray) -> np.ndarray:
    """A boolean plane moved by whole voxels; what leaves it is lost."""
    out = np.zeros_like(plane)
    source, target = [], []
    for n, size in zip(by, plane.shape, strict=True):
        source.append(slice(max(0, -n), max(0, min(size, size - n))))
        target.append(slice(max(0, n), max(0, min(size, size + n))))
    out[tuple(target)] = plane[tuple(source)]
    return out


def _ball(shape: tuple[int, ...], mm: np.ndarray, centre: np.ndarray, radius: float) -> np.ndarray:
    out = np.zeros(shape, dtype=bool)
    low = np.clip(np.floor(centre - radius / mm).astype(int), 0, shape)
    high = np.clip(np.ceil(centre + radius / mm).astype(int) + 1, low, shape)
    offsets = [(np.arange(a, b) - c) * s for a, b, c, s in zip(low, high, centre, mm, strict=True)]
    x, y, z = np.ix_(*offsets)
    out[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = x**2 + y**2 + z**2 <= radius**2
    return out
