"""A picture of masks of several resolutions side by side: from the front, from below, and one slice."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from monai_sparse_refine.errors import InputError
from monai_sparse_refine.files import atomic_path
from monai_sparse_refine.report.render import BACKGROUND, SIDES, Side, cast, occupancy, shade
from monai_sparse_refine.report.sheet import FAINT, INK
from monai_sparse_refine.volume import as_mask, bounding_box, spacing_of

__all__ = ["super_resolution_figure"]

BONE = np.array([0.95, 0.90, 0.80])
# Pixels along the longest side of the field of view, and inches of a panel's width.
SIZE, WIDTH, DPI = 320, 3.4, 110
FRONT, BELOW = SIDES[1, 1], SIDES[2, -1]


def super_resolution_figure(
    masks: Mapping[str, Any], *, path: str | Path, title: str, note: str = "", slice_at: float = 0.5
) -> Path:
    """Draw masks of one field of view, each on a grid of its own, in columns, and save the picture as PNG.

    Rows: from the front (face), from below (base of the skull) and an axial slice. Axes are turned to RAS as nearly
    as they can be; lengths are true.

    Args:
        masks: MetaTensors [1, X, Y, Z] or [X, Y, Z] with an affine, by heading; all cover about the same box.
        path: PNG to write.
        title: heading.
        note: line below it.
        slice_at: height of the slice as a share of the foreground of the last mask, 0 at its lowest voxel.

    Returns:
        The path written.

    Raises:
        InputError: no mask, or one without an affine.
    """
    if not masks:
        raise InputError("masks is empty; give at least one mask to draw")
    turned = _cropped({name: _to_ras(mask, name) for name, mask in masks.items()})
    reference, mm = list(turned.values())[-1]
    extent = [n * size for n, size in zip(reference.shape, mm, strict=True)]
    pitch = max(extent) / SIZE
    height = _height(reference, slice_at)
    rows = [extent[2], extent[1], extent[1]]  # mm
    inch = WIDTH / extent[0]
    figure = Figure(
        figsize=(WIDTH * len(turned) + 0.4, 1.15 + sum(rows) * inch + 0.4), facecolor=BACKGROUND, dpi=DPI
    )
    FigureCanvasAgg(figure)
    panels = figure.subplots(
        3,
        len(turned),
        squeeze=False,
        gridspec_kw={"height_ratios": rows, "left": 0.03, "right": 0.995, "bottom": 0.01, "wspace": 0.03},
    )
    figure.subplots_adjust(top=1 - 1.15 / figure.get_figheight(), hspace=0.03)
    figure.text(0.03, 1 - 0.3 / figure.get_figheight(), title, size=15, color=INK, weight="bold", va="center")
    figure.text(0.03, 1 - 0.62 / figure.get_figheight(), note, size=10.5, color=FAINT, va="center")
    for column, (name, (mask, size)) in enumerate(turned.items()):
        smooth = occupancy(mask, size, pitch)
        pictures = [shade(cast(smooth, side, grain=max(size) / pitch), BONE) for side in (FRONT, BELOW)]
        pictures.append(_slice(mask, height, BELOW))
        for row, picture in enumerate(pictures):
            axes = panels[row][column]
            axes.imshow(picture, interpolation="nearest", extent=(0, extent[0], 0, rows[row]), aspect="equal")
            axes.set_axis_off()
        shape = " x ".join(str(n) for n in mask.shape)
        panels[0][column].set_title(f"{name}\n{shape}", color=INK, size=11, pad=5)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=DPI, facecolor=BACKGROUND)
    return Path(path)


def _to_ras(mask: Any, name: str) -> tuple[np.ndarray, tuple[float, float, float]]:
    """The mask with its axes turned to the right, front and up as nearly as they can, and its spacing in mm."""
    affine = getattr(mask, "affine", None)
    if affine is None:
        raise InputError(f"{name} has no affine; pass a MetaTensor")
    turn = nib.io_orientation(np.asarray(affine, dtype=float).reshape(4, 4))
    axes = [int(np.flatnonzero(turn[:, 0] == axis)[0]) for axis in range(3)]
    flips = tuple(slice(None, None, int(turn[axis, 1])) for axis in axes)
    spacing = spacing_of(mask)
    x, y, z = (spacing[axis] for axis in axes)
    return as_mask(mask, name=name).transpose(axes)[flips], (x, y, z)


def _cropped(
    masks: dict[str, tuple[np.ndarray, tuple[float, float, float]]],
) -> dict[str, tuple[np.ndarray, tuple[float, float, float]]]:
    """All masks cut to the box of their foreground, along edges of the coarsest one's voxels."""
    shapes = [mask.shape for mask, _ in masks.values()]
    coarsest = np.min(shapes, axis=0)
    low, high = coarsest.copy(), np.zeros(3, dtype=int)
    for mask, _ in masks.values():
        box = bounding_box(mask)
        if box is not None:
            scale = coarsest / np.array(mask.shape)
            low = np.minimum(low, np.floor([side.start for side in box] * scale - 1e-6).astype(int))
            high = np.maximum(high, np.ceil([side.stop for side in box] * scale + 1e-6).astype(int))
    if (high <= low).any():
        return masks
    low, high = np.maximum(low - 1, 0), np.minimum(high + 1, coarsest)
    cut = {}
    for name, (mask, mm) in masks.items():
        scale = np.array(mask.shape) / coarsest
        ends = zip(np.rint(low * scale).astype(int), np.rint(high * scale).astype(int), strict=True)
        cut[name] = (mask[tuple(slice(int(a), int(b)) for a, b in ends)], mm)
    return cut


def _height(mask: np.ndarray, share: float) -> float:
    """Height of a slice as a share of the volume's."""
    filled = np.flatnonzero(mask.any(axis=(0, 1)))
    if not len(filled):
        return 0.5
    return (filled[0] + share * (filled[-1] - filled[0]) + 0.5) / mask.shape[2]


def _slice(mask: np.ndarray, height: float, side: Side) -> np.ndarray:
    """An axial slice as a radiologist looks at it, one pixel for each voxel."""
    plane = mask[:, :, min(mask.shape[2] - 1, int(height * mask.shape[2]))].T  # rows are y
    plane = plane[:: -side.up[1], :: side.right[1]]
    picture = np.broadcast_to(BACKGROUND, (*plane.shape, 3)).copy()
    picture[plane] = BONE * 0.85
    return picture
