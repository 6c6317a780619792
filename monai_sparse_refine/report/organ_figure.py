"""A picture of one refined organ: before, after and truth from the side, and as outlines on axial slices."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from monai_sparse_refine.files import atomic_path
from monai_sparse_refine.metrics.functional import dice, hd95
from monai_sparse_refine.report.render import BACKGROUND, SIDES, cast, occupancy, shade
from monai_sparse_refine.report.sheet import INK
from monai_sparse_refine.volume import as_mask, as_volume, bounding_box, check_same_shape

__all__ = ["organ_figure"]

# No grey: outlines lie on a CT. What is equal is drawn over each other, so what was before is dashed and on top.
COLOURS = {"before": "#ff9d3c", "after": "#35d0dc", "truth": "#f06ad8"}
OUTLINES = ("truth", "after", "before")
MARGIN_MM = 14.0
PIXELS = 260
WINDOW = (-160.0, 340.0)  # HU of black and white
SLICES = 3


def organ_figure(
    before: Any,
    after: Any,
    *,
    path: str | Path,
    affine: Any,
    truth: Any = None,
    image: Any = None,
    title: str = "",
) -> Path:
    """Draw an organ before and after its refinement and save it as PNG.

    The upper row shows surfaces from the patient's left; the lower one the axial slices in which before and truth (or
    after, where there is no truth) differ most, at least 8 mm apart, each titled by its height above the lowest. Axes
    are brought to RAS, lengths are true in mm.

    Args:
        before: mask, [X, Y, Z] or [1, X, Y, Z], as the other volumes.
        after: refined mask.
        path: PNG to write.
        affine: voxel to world mm, RAS, [4, 4].
        truth: true mask.
        image: CT in HU, behind the outlines.
        title: heading.

    Returns:
        The path written.

    Raises:
        InputError: shapes that differ.
    """
    masks = {"before": as_mask(before, name="before"), "after": as_mask(after, name="after")}
    if truth is not None:
        masks["truth"] = as_mask(truth, name="truth")
    volumes = dict(masks)
    if image is not None:
        volumes["image"] = as_volume(image, name="image")
    check_same_shape(**volumes)
    volumes, mm = _to_ras(volumes, np.asarray(affine, dtype=float).reshape(4, 4))
    whole = np.any([volumes[name] for name in masks], axis=0)
    box = bounding_box(whole, margin=[int(MARGIN_MM / step) + 1 for step in mm]) or (slice(None),) * 3
    volumes = {name: volume[box] for name, volume in volumes.items()}
    masks = {name: volumes[name] for name in masks}

    figure = Figure(figsize=(3.3 * SLICES, 7.2), facecolor=BACKGROUND)
    FigureCanvasAgg(figure)
    figure.suptitle(title, color=INK, size=13, weight="bold")
    grid = figure.subplots(2, SLICES)
    for axes in grid.flat:
        axes.set_facecolor(BACKGROUND)
        axes.set_axis_off()
    for axes, (name, mask) in zip(grid[0], masks.items(), strict=False):
        _surface(axes, name, mask, mm, masks.get("truth"))
    slices = _slices(masks, mm)
    for axes, z in zip(grid[1], slices, strict=False):
        _slice(axes, masks, volumes.get("image"), z, mm)
        axes.set_title(f"slice {(z - slices[0]) * mm[2]:+.0f} mm", color=INK, size=9)
    for number, name in enumerate(masks):
        dash = "- -" if name == "before" else "—"
        figure.text(0.30 + 0.2 * number, 0.055, f"{dash} {name}", color=COLOURS[name], size=10, ha="center")
    figure.subplots_adjust(left=0.01, right=0.99, top=0.9, bottom=0.09, wspace=0.03, hspace=0.12)
    target = Path(path)
    with atomic_path(target) as temporary:
        figure.savefig(temporary, dpi=80, facecolor=BACKGROUND, format="png")
    return target


def _to_ras(volumes: dict[str, np.ndarray], affine: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Axes nearest to RAS, and the spacing along them."""
    orientation = nib.io_orientation(affine)
    turned = {name: nib.apply_orientation(volume, orientation) for name, volume in volumes.items()}
    mm = np.linalg.norm(affine[:3, :3], axis=0)
    return turned, np.array([mm[int(np.flatnonzero(orientation[:, 0] == axis)[0])] for axis in range(3)])


def _surface(axes: Axes, name: str, mask: np.ndarray, mm: np.ndarray, truth: np.ndarray | None) -> None:
    pitch = float(max(np.multiply(mask.shape, mm))) / PIXELS
    hits = cast(occupancy(mask, mm.tolist(), pitch), SIDES[(0, -1)], grain=float(mm.max()) / pitch)
    colour = np.array([int(COLOURS[name][i : i + 2], 16) / 255 for i in (1, 3, 5)])
    axes.imshow(shade(hits, colour))
    heading = name
    if truth is not None and name != "truth":
        heading += f": Dice {dice(mask, truth):.3f}, HD95 {hd95(mask, truth, spacing=mm.tolist()):.1f} mm"
    axes.set_title(heading, color=INK, size=10)


def _slices(masks: dict[str, np.ndarray], mm: np.ndarray) -> list[int]:
    """Axial slices with the most voxels that changed or were wrong, in order."""
    reference = masks.get("truth", masks["after"])
    wrong = (masks["before"] != reference).sum(axis=(0, 1)).astype(float)
    chosen: list[int] = []
    apart = max(1, round(8 / mm[2]))
    while len(chosen) < SLICES and wrong.max() > 0:
        z = int(wrong.argmax())
        chosen.append(z)
        wrong[max(0, z - apart) : z + apart + 1] = 0
    return sorted(chosen) or [masks["after"].shape[2] // 2]


def _slice(
    axes: Axes, masks: dict[str, np.ndarray], image: np.ndarray | None, z: int, mm: np.ndarray
) -> None:
    extent = (0.0, masks["after"].shape[0] * mm[0], 0.0, masks["after"].shape[1] * mm[1])
    if image is not None:
        # Radiological: the patient's right is on the left.
        axes.imshow(
            image[::-1, :, z].T[::-1],
            cmap="gray",
            vmin=WINDOW[0],
            vmax=WINDOW[1],
            extent=extent,
            aspect="equal",
        )
    for name in OUTLINES:
        if name in masks and masks[name][:, :, z].any() and min(masks[name].shape[:2]) > 1:
            field = masks[name][::-1, :, z].T.astype(float)
            lines = axes.contour(field, [0.5], colors=COLOURS[name], linewidths=1.3, extent=extent)
            lines.set_linestyle("dashed" if name == "before" else "solid")
    axes.set_xlim(extent[:2])
    axes.set_ylim(extent[2:])
    axes.set_aspect("equal")
