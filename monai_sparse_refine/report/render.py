"""Shaded pictures of masks by parallel rays along the body's axes, with numpy and scipy alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from monai_sparse_refine.volume import bounding_box

__all__ = ["SIDES", "Hits", "Side", "at_hits", "cast", "occupancy", "shade"]


class Side(NamedTuple):
    """Where a viewer stands, in RAS axes: 0 to the patient's right, 1 to the front, 2 up.

    Each of `forward` (into the picture), `up` and `right` is an axis and the sign of its direction.
    `edges` names what lies to the left and the right of the picture.
    """

    name: str
    forward: tuple[int, int]
    up: tuple[int, int]
    right: tuple[int, int]
    edges: tuple[str, str]


SIDES = {
    (0, 1): Side("right", (0, -1), (2, 1), (1, 1), ("P", "A")),
    (0, -1): Side("left", (0, 1), (2, 1), (1, -1), ("A", "P")),
    (1, 1): Side("front", (1, -1), (2, 1), (0, -1), ("R", "L")),
    (1, -1): Side("back", (1, 1), (2, 1), (0, 1), ("L", "R")),
    (2, 1): Side("top", (2, -1), (1, 1), (0, 1), ("L", "R")),
    (2, -1): Side("below", (2, 1), (1, 1), (0, -1), ("R", "L")),
}

# Below one half, so that walls thinner than a pixel do not fall through.
LEVEL = 0.35
BACKGROUND = (0.055, 0.075, 0.10)


class Hits(NamedTuple):
    """Where rays meet a surface first, one for each pixel (H, W).

    `found` tells which do; `depth` is in pixels from the viewer's side (NaN where none); `voxel` the place
    along the ray; `normal` (H, W, 3) points to the right, up and to the viewer.
    """

    found: np.ndarray
    depth: np.ndarray
    voxel: np.ndarray
    normal: np.ndarray


def occupancy(mask: np.ndarray, spacing: Sequence[float], pitch: float) -> np.ndarray:
    """Resample a mask to cubes and smooth away its steps.

    Args:
        mask: boolean array [X, Y, Z].
        spacing: mm for each axis.
        pitch: edge of a cube in mm.

    Returns:
        float32 array, 0 to 1, with one cube of empty margin on each side.
    """
    sizes = [max(1, round(n * mm / pitch)) for n, mm in zip(mask.shape, spacing, strict=True)]
    whole = np.zeros([n + 2 for n in sizes], dtype=np.float32)
    box = bounding_box(mask)
    if box is None:
        return whole
    field = mask[box].astype(np.float32)
    place, around = [], []
    for axis, (part, size, mm) in enumerate(zip(box, sizes, spacing, strict=True)):
        ratio = size / mask.shape[axis]
        # The cubes that the content reaches into, and those that smoothing lets it reach.
        start, stop = int(part.start * ratio), min(size, int(np.ceil(part.stop * ratio)))
        field = _area_resample(field, axis, np.arange(start, stop + 1) / ratio - part.start)
        reach = int(np.ceil(3 * _sigma(mm, pitch)))
        place.append(slice(start + 1, stop + 1))
        around.append(slice(max(0, start + 1 - reach), stop + 1 + reach))
    # Sums in single precision may fall below zero by a hair.
    whole[tuple(place)] = np.maximum(field, 0)
    sigma = [_sigma(mm, pitch) for mm in spacing]
    whole[tuple(around)] = ndimage.gaussian_filter(whole[tuple(around)], sigma, mode="constant", truncate=3.0)
    return whole


def _sigma(mm: float, pitch: float) -> float:
    """Width of the smoothing in cubes: about half a voxel, or what makes a step of one cube a slope."""
    return max(0.8, 0.45 * mm / pitch)


def _area_resample(field: np.ndarray, axis: int, edges: np.ndarray) -> np.ndarray:
    """Mean of the field between neighbouring edges, in voxels along an axis; 0 outside of the field."""
    before = field.shape[axis]
    step = np.float32(edges[1] - edges[0])
    field = np.moveaxis(field, axis, 0)
    # The integral up to any position, from which a part's mean is a difference.
    total = np.zeros((before + 1, *field.shape[1:]), dtype=np.float32)
    np.cumsum(field, axis=0, out=total[1:])
    position = np.clip(edges, 0, before)
    low = np.minimum(position.astype(int), before - 1)
    weight = (position - low).astype(np.float32).reshape(-1, *[1] * (field.ndim - 1))
    at = total[low] * (1 - weight) + total[low + 1] * weight
    return np.moveaxis(np.diff(at, axis=0) / step, 0, axis)


def view(field: np.ndarray, side: Side) -> np.ndarray:
    """Turn a field [X, Y, Z] in RAS into (depth, row, column) as a viewer at that side sees it; no copy."""
    turned = field.transpose(side.forward[0], side.up[0], side.right[0])
    return turned[:: side.forward[1], :: -side.up[1], :: side.right[1]]


def cast(field: np.ndarray, side: Side, *, grain: float = 1.0) -> Hits:
    """Follow a ray for each pixel to the first place where the field exceeds the level.

    Args:
        field: occupancy [X, Y, Z] in RAS.
        side: where the rays come from.
        grain: edge of the mask's coarsest voxel in cubes, over which the normals are smoothed.
    """
    seen = view(field, side)  # (D, H, W)
    above = seen > LEVEL
    index = above.argmax(axis=0)  # (H, W)
    rows, columns = _pixels(index.shape)
    found = above[index, rows, columns]
    last = np.array(seen.shape) - 1

    def at(d: int, r: int, c: int) -> np.ndarray:
        """Value a step away from each hit."""
        place = [
            np.clip(i + step, 0, n)
            for i, step, n in zip((index, rows, columns), (d, r, c), last, strict=True)
        ]
        return seen[tuple(place)]

    here, before = at(0, 0, 0), at(-1, 0, 0)
    # The surface lies between this voxel and the one before, where the field passes the level.
    part = np.clip((here - LEVEL) / np.maximum(here - before, 1e-6), 0, 1)
    depth = np.where(found, index - part, np.nan)
    slope = []
    for d, r, c in np.eye(3, dtype=int).tolist():
        # Wide differences, since the field of a mask has steps that narrow ones would show.
        slope.append(sum(at(n * d, n * r, n * c) - at(-n * d, -n * r, -n * c) for n in (1, 2, 3)))
    # Occupancy falls outwards; rows count downwards.
    normal = _unit(np.stack([-slope[2], slope[1], slope[0]], axis=-1).astype(np.float32))
    return Hits(found, depth, index, _smooth_normals(normal, depth, reach=max(1, round(1.8 * grain))))


def at_hits(field: np.ndarray, side: Side, hits: Hits) -> np.ndarray:
    """Value of a field where rays from a side met another one (H, W)."""
    rows, columns = _pixels(hits.voxel.shape)
    return view(field, side)[hits.voxel, rows, columns]


def _pixels(shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of each pixel, to index with."""
    return np.arange(shape[0])[:, None], np.arange(shape[1])[None, :]


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-6)


def _smooth_normals(normal: np.ndarray, depth: np.ndarray, *, reach: int, passes: int = 2) -> np.ndarray:
    """Average normals over pixels of about the same depth: the terraces of a mask go, its edges stay.

    Args:
        normal: (H, W, 3).
        depth: (H, W), NaN where there is none.
        reach: pixels; a pass takes three on a line, one apart, and up to this far apart.
        passes: how often.
    """
    sharp = normal
    for step in [n for _ in range(passes) for n in sorted({1, max(1, reach // 2), reach})]:
        for axis in (0, 1):
            total = normal.copy()
            for shift in (-step, step):
                # Slopes steeper than this are edges; a rolled-in border is far off in depth, or harmless.
                gap = (np.roll(depth, shift, axis) - depth) / (1.1 * step)
                weight = np.nan_to_num(np.exp(-0.5 * gap**2)).astype(np.float32)
                total += weight[..., None] * np.roll(normal, shift, axis)
            normal = _unit(total)
    # A little of the grain, without which bone looks like wax.
    return _unit(normal + 0.12 * sharp)


def shade(hits: Hits, colour: np.ndarray) -> np.ndarray:
    """Light a surface from above the viewer's left shoulder, and darken what lies in a hollow or far away.

    Args:
        hits: rays.
        colour: RGB, 0 to 1, (3,) or (H, W, 3).

    Returns:
        Picture (H, W, 3), 0 to 1.
    """
    key, fill = (np.array(v) / np.linalg.norm(v) for v in ((-0.45, 0.6, 0.75), (0.6, -0.1, 0.8)))
    light = 0.16 + 0.68 * np.clip(hits.normal @ key, 0, 1) + 0.22 * np.clip(hits.normal @ fill, 0, 1)
    gloss = 0.16 * np.clip(hits.normal @ _halfway(key), 0, 1) ** 24
    found = hits.found.astype(np.float64)
    depth = np.nan_to_num(hits.depth)
    # Depth against the mean depth around, of surface only: positive in sockets, sutures and at the rim of a
    # hole.
    hollow = np.zeros_like(depth)
    for width in (2.5, 8.0):
        around = ndimage.gaussian_filter(depth * found, width) / np.maximum(
            ndimage.gaussian_filter(found, width), 1e-3
        )
        hollow += np.clip((depth - around) / (2.5 * width), 0, 1)
    far = depth / max(1.0, float(depth.max()))
    light *= (1 - 0.42 * np.clip(hollow, 0, 1)) * (1 - 0.28 * far)
    picture = np.clip(np.asarray(colour) * light[..., None] + gloss[..., None], 0, 1)
    return picture * found[..., None] + np.array(BACKGROUND) * (1 - found[..., None])


def _halfway(light: np.ndarray) -> np.ndarray:
    """Direction of the highlight: between the light and the viewer."""
    middle = light + np.array([0, 0, 1.0])
    return middle / np.linalg.norm(middle)
