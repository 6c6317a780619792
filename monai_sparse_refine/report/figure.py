"""A picture of a completion: defective skull, completed skull and implant from three sides and in slices."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from monai_sparse_refine.files import atomic_path
from monai_sparse_refine.metrics.functional import dice, hd95, volume_ml
from monai_sparse_refine.report.render import BACKGROUND, SIDES, Side, at_hits, cast, occupancy, shade
from monai_sparse_refine.report.sheet import FAINT, INK, Sheet, centred
from monai_sparse_refine.volume import as_mask, bounding_box, check_same_shape, spacing_of

__all__ = ["completion_figure"]

BONE = np.array([0.95, 0.90, 0.80])
IMPLANT = np.array([0.13, 0.70, 0.76])
TRUTH = "#ff9d3c"
# Pixels along the longest side of the skull.
SIZE = 300
DPI = 110


def completion_figure(
    defective: Any,
    completed: Any,
    implant: Any,
    *,
    path: str | Path,
    spacing: float | Sequence[float] | None = None,
    affine: Any = None,
    title: str | None = None,
    truth: Any = None,
) -> Path:
    """Draw a completion and save it as PNG.

    The sides are those that face the implant. Masks are brought to the RAS axes nearest to their own, so that
    up is up; lengths are true in mm.

    Args:
        defective: skull with the hole, [X, Y, Z] or [1, X, Y, Z], as the other masks.
        completed: completed skull.
        implant: implant; may be empty.
        path: PNG to write.
        spacing: mm; None reads it from the affine.
        affine: voxel to world mm, RAS, [4, 4]; None takes that of the first mask that is a MetaTensor, and
            the axes as RAS where none is.
        title: heading.
        truth: true implant, for the Dice coefficient and an outline in the slices.

    Returns:
        The path written.

    Raises:
        InputError: shapes that differ, or an unknown spacing.
    """
    given = {"defective": defective, "completed": completed, "implant": implant}
    if truth is not None:
        given["truth"] = truth
    masks = {name: as_mask(mask, name=name) for name, mask in given.items()}
    check_same_shape(**masks)
    if affine is None:
        affine = next((m.affine for m in given.values() if getattr(m, "affine", None) is not None), None)
    if spacing is None and affine is not None:
        spacing = np.linalg.norm(np.asarray(affine, dtype=float).reshape(4, 4)[:3, :3], axis=0).tolist()
    mm = spacing_of(*given.values(), spacing=spacing)
    numbers, footer = _numbers(masks, mm), _grid(masks["defective"].shape, mm)
    masks, mm = _to_ras(masks, mm, affine)
    masks, mm = _crop(masks, mm)

    sheet = Sheet(np.multiply(masks["completed"].shape, mm).tolist())
    sheet.write(title or "Skull completion", numbers, footer=footer)
    _draw_sides(sheet, masks, mm)
    _draw_slices(sheet, masks, mm)
    target = Path(path)
    with atomic_path(target) as temporary:
        sheet.figure.savefig(temporary, format="png", dpi=DPI, facecolor=BACKGROUND)
    return target


def implant_text(volume: float) -> str:
    """An implant's volume in ml for a person, or that there is none."""
    return f"implant {volume:.1f} ml" if volume > 0 else "no hole found, nothing added"


def _numbers(masks: dict[str, np.ndarray], mm: Sequence[float]) -> str:
    text = [implant_text(volume_ml(masks["implant"], spacing=mm))]
    if "truth" in masks:
        text.append(f"true implant {volume_ml(masks['truth'], spacing=mm):.1f} ml")
        text.append(f"Dice {dice(masks['implant'], masks['truth']):.3f}")
        text.append(f"HD95 {hd95(masks['implant'], masks['truth'], spacing=mm):.1f} mm")
    return "   ·   ".join(text)


def _grid(shape: Sequence[int], mm: Sequence[float]) -> str:
    return f"{' x '.join(map(str, shape))} voxels of {' x '.join(f'{v:.3g}' for v in mm)} mm"


def _to_ras(
    masks: dict[str, np.ndarray], mm: tuple[float, float, float], affine: Any
) -> tuple[dict[str, np.ndarray], tuple[float, float, float]]:
    """Turn the axes so that they run right, front and up as nearly as they can; views, no copies."""
    if affine is None:
        return masks, mm
    turn = nib.io_orientation(np.asarray(affine, dtype=float).reshape(4, 4))
    axes = [int(np.flatnonzero(turn[:, 0] == axis)[0]) for axis in range(3)]
    flips = tuple(slice(None, None, int(turn[axis, 1])) for axis in axes)
    x, y, z = (mm[axis] for axis in axes)
    return {name: m.transpose(axes)[flips] for name, m in masks.items()}, (x, y, z)


def _crop(
    masks: dict[str, np.ndarray], mm: tuple[float, float, float]
) -> tuple[dict[str, np.ndarray], tuple[float, float, float]]:
    """Cut to what there is to see."""
    everything = masks["completed"] | masks["defective"] | masks["implant"]
    if "truth" in masks:
        everything |= masks["truth"]
    box = bounding_box(everything, margin=2)
    return (masks if box is None else {name: m[box] for name, m in masks.items()}), mm


def _centre(mask: np.ndarray) -> np.ndarray:
    """Centroid in voxels."""
    sums = [np.count_nonzero(mask, axis=tuple({0, 1, 2} - {axis})) for axis in range(3)]
    return np.array([float(np.average(np.arange(len(s)), weights=s)) for s in sums])


def _facing(masks: dict[str, np.ndarray]) -> list[Side]:
    """Front or back, left or right, top or below: from where the implant is seen."""
    skull = masks["completed"] if masks["completed"].any() else masks["defective"]
    if masks["implant"].any() and skull.any():
        away = _centre(masks["implant"]) - _centre(skull)
    else:
        away = np.array([-1.0, 1.0, 1.0])
    # The base hides the vault from below, so top it is unless the implant is clearly low.
    low = away[2] < -0.2 * masks["implant"].shape[2]
    return [
        SIDES[1, 1 if away[1] >= 0 else -1],
        SIDES[0, 1 if away[0] > 0 else -1],
        SIDES[2, -1 if low else 1],
    ]


def _draw_sides(sheet: Sheet, masks: dict[str, np.ndarray], mm: tuple[float, float, float]) -> None:
    pitch = float(np.multiply(masks["completed"].shape, mm).max()) / SIZE
    grain = max(mm) / pitch
    bone = occupancy(masks["defective"], mm, pitch)
    plug = occupancy(masks["implant"], mm, pitch)
    if np.array_equal(masks["completed"], masks["defective"] | masks["implant"]):
        whole = np.minimum(bone + plug, 1)
    else:
        whole = occupancy(masks["completed"], mm, pitch)
    for row, side in enumerate(_facing(masks)):
        hits = cast(bone, side, grain=grain)
        skull = shade(hits, BONE)
        pictures = {
            "Defective skull": skull,
            "Completed": _two_colours(whole, plug, side, grain),
            "Implant": _ghost(skull, plug, side, grain),
        }
        for column, (name, picture) in enumerate(pictures.items()):
            axes = sheet.panel(row, column, side.edges)
            axes.imshow(picture, interpolation="bilinear", extent=centred(picture.shape, (pitch, pitch)))
            if row == 0:
                axes.set_title(name, color=INK, size=13, pad=8)
            if column == 0:
                place = "below" if side.name == "below" else f"the {side.name}"
                axes.set_ylabel(f"from {place}", color=INK, size=12)
                sheet.scale_bar(axes)


def _two_colours(whole: np.ndarray, plug: np.ndarray, side: Side, grain: float) -> np.ndarray:
    """The completed skull, painted where the implant is."""
    hits = cast(whole, side, grain=grain)
    share = at_hits(plug, side, hits) / np.maximum(at_hits(whole, side, hits), 1e-3)
    paint = np.clip(2.5 * (share - 0.5) + 0.5, 0, 1)[..., None]
    return shade(hits, BONE * (1 - paint) + IMPLANT * paint)


def _ghost(skull: np.ndarray, plug: np.ndarray, side: Side, grain: float) -> np.ndarray:
    """The implant in front of a faint skull, whatever hides it."""
    hits = cast(plug, side, grain=grain)
    faint = np.array(BACKGROUND) + 0.25 * (skull - BACKGROUND)
    return np.where(hits.found[..., None], shade(hits, IMPLANT), faint)


def _draw_slices(sheet: Sheet, masks: dict[str, np.ndarray], mm: tuple[float, float, float]) -> None:
    """Three planes through the implant's centre, as a radiologist looks at them."""
    middle = masks["implant"] if masks["implant"].any() else masks["completed"]
    centre = _centre(middle) if middle.any() else np.array(middle.shape) / 2
    planes = [("axial", SIDES[2, -1]), ("coronal", SIDES[1, 1]), ("sagittal", SIDES[0, -1])]
    for column, (name, side) in enumerate(planes):
        axis = side.forward[0]
        at = int(np.clip(round(centre[axis]), 0, middle.shape[axis] - 1))
        cut = {key: _plane(mask, axis, at, side) for key, mask in masks.items()}
        picture = np.broadcast_to(BACKGROUND, (*cut["implant"].shape, 3)).copy()
        picture[cut["defective"]] = BONE * 0.8
        picture[cut["implant"]] = IMPLANT
        pitch = (mm[side.up[0]], mm[side.right[0]])
        axes = sheet.panel(3, column, side.edges)
        extent = centred(picture.shape, pitch)
        axes.imshow(picture, interpolation="nearest", extent=extent)
        if "truth" in cut and cut["truth"].any() and min(cut["truth"].shape) > 1:
            outline = cut["truth"].astype(float)
            axes.contour(outline, levels=[0.5], colors=[TRUTH], linewidths=1.1, extent=extent, origin="upper")
        axes.set_title(name, color=FAINT, size=11, pad=5)
        if column == 0:
            axes.set_ylabel("slices through the implant", color=INK, size=12)
    if "truth" in masks:
        sheet.note("outline: true implant", TRUTH)


def _plane(mask: np.ndarray, axis: int, at: int, side: Side) -> np.ndarray:
    """One slice (rows, columns) as seen from a side."""
    plane = np.take(mask, at, axis=axis)
    if side.up[0] > side.right[0]:
        plane = plane.T
    return plane[:: -side.up[1], :: side.right[1]]
