"""Binary masks in whichever container they come: as a numpy volume, their spacing, their bounding box."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from monai.data import MetaTensor

from monai_sparse_refine.errors import InputError

__all__ = [
    "affine_of_box",
    "as_mask",
    "as_tensor",
    "as_volume",
    "bounding_box",
    "case_name",
    "check_same_grid",
    "check_same_shape",
    "spacing_of",
    "surface",
    "volume_kind",
]

# A volume that fits eight bits is no CT: its values are labels, or a picture's grey levels.
MAX_LABEL = 255
# Bone above 300 HU fills some 4 to 7 % of a head scan; values with an offset of 1024 fill far more than this.
MAX_BONE_FRACTION = 0.4
# With that offset most of what is above a threshold for bone is soft tissue, which lies here; of bone a quarter does.
OFFSET_TISSUE = (900, 1200)
MAX_OFFSET_TISSUE = 0.5
# A CT has hundreds of values, a label map few.
MAX_LABELS = 150


def as_tensor(volume: Any) -> torch.Tensor:
    """View an array, tensor or MetaTensor as a plain tensor; copies only what torch cannot view.

    Arrays of another byte order (files of another machine) and with negative strides (flipped) are such.
    """
    if isinstance(volume, torch.Tensor):
        return volume.as_subclass(torch.Tensor)
    array = np.asarray(volume)
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    return torch.as_tensor(np.ascontiguousarray(array))


def as_volume(volume: Any, *, name: str = "volume") -> np.ndarray:
    """View a volume as a three-dimensional numpy array, without copying where that is possible.

    Args:
        volume: numpy array, tensor or MetaTensor, [X, Y, Z] or [1, X, Y, Z].
        name: what to call it in an error message.

    Returns:
        Array [X, Y, Z] of the same dtype; float32 for bfloat16, which numpy has not.

    Raises:
        InputError: where the shape is neither of the two.
    """
    if isinstance(volume, MetaTensor):
        volume = volume.as_tensor()
    if isinstance(volume, torch.Tensor) and volume.dtype == torch.bfloat16:
        volume = volume.float()
    array = volume.detach().cpu().numpy() if isinstance(volume, torch.Tensor) else np.asarray(volume)
    if array.ndim == 4 and array.shape[0] == 1:
        array = array[0]
    if array.ndim != 3:
        raise InputError(
            f"{name} has shape {tuple(array.shape)}; expected one 3D volume, [X, Y, Z] or [1, X, Y, Z]: "
            "pass one channel of one case"
        )
    return array


def as_mask(mask: Any, *, name: str = "mask") -> np.ndarray:
    """The foreground of a mask as a boolean array [X, Y, Z].

    Foreground is what is not 0, and above 0.5 in a floating-point volume, so that a probability map is cut at
    its usual threshold. See `as_volume` for what is accepted and raised.
    """
    array = as_volume(mask, name=name)
    if array.dtype == bool:
        return array
    return array > 0.5 if array.dtype.kind == "f" else array != 0


def check_same_shape(**volumes: np.ndarray) -> None:
    """Raise InputError, naming every argument and its shape, unless all the shapes are equal."""
    if len({volume.shape for volume in volumes.values()}) > 1:
        shapes = ", ".join(f"{name} {tuple(volume.shape)}" for name, volume in volumes.items())
        raise InputError(f"shapes differ: {shapes}; all have to lie on one voxel grid")


def check_same_grid(**volumes: Any) -> None:
    """Raise InputError where two MetaTensors of one shape place it differently in the world.

    Combined voxel by voxel, one of them would be mirrored or shifted. Volumes without an affine are not compared.
    The corners may differ by a tenth of a voxel.

    Args:
        volumes: by what to call them, [C, X, Y, Z] of one spatial shape.
    """
    placed = {name: volume for name, volume in volumes.items() if isinstance(volume, MetaTensor)}
    if len(placed) < 2:
        return
    (first, reference), *others = placed.items()
    corners = np.array(list(np.ndindex(2, 2, 2))) * (np.array(reference.shape[-3:]) - 1)  # (8, 3)
    world = _world(reference, corners)
    tolerance = 0.1 * min(spacing_of(reference))
    for name, volume in others:
        apart = float(np.abs(_world(volume, corners) - world).max())
        if apart > tolerance:
            raise InputError(
                f"{first} and {name} have one shape, but their affines place it up to {apart:.1f} mm apart: bring both "
                "to one orientation and grid (Orientationd, ResampleToMatchd)"
            )


def _world(volume: MetaTensor, voxels: np.ndarray) -> np.ndarray:
    """Where voxels (N, 3) lie in the world, mm."""
    affine = np.asarray(volume.affine.cpu(), dtype=float).reshape(-1, 4, 4)[0]
    return np.asarray(voxels @ affine[:3, :3].T + affine[:3, 3])


def spacing_of(*volumes: Any, spacing: float | Sequence[float] | None = None) -> tuple[float, float, float]:
    """Voxel spacing in mm, given, or else read from the first MetaTensor's affine.

    Args:
        volumes: volumes that may know their spacing. A collated batch with one affine a case counts with its
            first.
        spacing: mm, one number or one for each axis; wins over what the volumes say.

    Raises:
        InputError: where the spacing is not known, or not three positive finite numbers. It is never assumed
            to
            be 1 mm: distances and volumes would be silently wrong.
    """
    if spacing is None:
        known = next((v for v in volumes if isinstance(v, MetaTensor)), None)
        if known is None:
            raise InputError(
                "spacing is not known: pass spacing= in mm, or a MetaTensor that carries an affine"
            )
        affine = torch.as_tensor(known.affine, dtype=torch.float64).reshape(-1, *known.affine.shape[-2:])[0]
        values = affine[:3, :3].square().sum(0).sqrt().tolist()
    else:
        try:
            values = np.broadcast_to(np.asarray(spacing, dtype=float), (3,)).tolist()
        except (TypeError, ValueError):  # words, or another number of axes
            values = []
    if len(values) != 3 or not all(np.isfinite(v) and v > 0 for v in values):
        raise InputError(
            f"spacing is {values if spacing is None else spacing}; expected three positive finite numbers in mm, "
            "one for each axis"
        )
    return (values[0], values[1], values[2])


def bounding_box(mask: np.ndarray, *, margin: int | Sequence[int] = 0) -> tuple[slice, slice, slice] | None:
    """Slices of the smallest box around the foreground, widened by `margin` voxels within the volume.

    Args:
        mask: boolean array [X, Y, Z].
        margin: voxels, one number or one for each axis.

    Returns:
        Three slices, or None where the mask is empty.
    """
    margins = np.broadcast_to(np.asarray(margin, dtype=int), (3,))
    in_plane: np.ndarray = np.any(mask, axis=2)  # (X, Y): one pass over the volume serves two axes
    lines = (np.any(in_plane, axis=1), np.any(in_plane, axis=0))
    if not lines[0].any():
        return None
    # The third axis is looked at within the box of the first two only.
    box_xy = tuple(slice(int(i[0]), int(i[-1]) + 1) for i in (np.flatnonzero(line) for line in lines))
    z = np.flatnonzero(mask[box_xy[0], box_xy[1]].any(axis=(0, 1)))
    starts = (box_xy[0].start, box_xy[1].start, int(z[0]))
    stops = (box_xy[0].stop, box_xy[1].stop, int(z[-1]) + 1)
    box = [
        slice(max(0, start - int(m)), min(size, stop + int(m)))
        for start, stop, m, size in zip(starts, stops, margins, mask.shape, strict=True)
    ]
    return (box[0], box[1], box[2])


def affine_of_box(affine: Any, box: Sequence[slice]) -> np.ndarray:
    """Affine [4, 4] of a box of a grid, from the grid's own (numpy or tensor)."""
    shifted = np.asarray(affine, dtype=float).copy()
    shifted[:3, 3] += shifted[:3, :3] @ [part.start for part in box]
    return shifted


def surface(mask: np.ndarray) -> np.ndarray:
    """Foreground voxels with a background voxel, or the edge of the volume, on one of their six faces.

    Args:
        mask: boolean array [X, Y, Z].
    """
    inner = np.zeros_like(mask)
    core = (slice(1, -1),) * 3
    if min(mask.shape) > 2:
        inner[core] = mask[core]
        for axis in range(3):
            for step in (slice(0, -2), slice(2, None)):
                shifted = list(core)
                shifted[axis] = step
                inner[core] &= mask[tuple(shifted)]
    return mask & ~inner


def case_name(file: Any) -> str:
    """File name without folder and without the suffixes of an image file: `a/b.nii.gz` is `b`."""
    name = str(file).replace("\\", "/").rsplit("/", 1)[-1]
    for suffix in (".gz", ".nii", ".nrrd", ".seg"):
        if name.lower().endswith(suffix) and len(name) > len(suffix):
            name = name[: -len(suffix)]
    return name


def volume_kind(volume: np.ndarray, *, hu_threshold: float, name: str = "volume") -> Literal["mask", "ct"]:
    """Tell a binary mask (only 0 and 1, both present) from a CT in HU, and refuse anything else.

    A CT is what has values below 0 or above 255.

    Args:
        volume: array [X, Y, Z] of any real dtype.
        hu_threshold: HU above which a voxel of a CT is bone.
        name: what to call it in an error message.

    Raises:
        InputError: no voxels, complex or composite values, NaN or infinity, no foreground, a label map or
            grey-scale picture, a CT without a voxel above the threshold, or one that is not in HU.
    """
    if volume.size == 0:
        raise InputError(f"{name} has shape {tuple(volume.shape)}, so no voxels")
    if volume.dtype.kind not in "buif":
        raise InputError(f"{name} has values of type {volume.dtype}; expected one real number for each voxel")
    # min and max pass NaN and infinity on, so a finite volume needs no pass of its own to be told.
    low, high = float(volume.min()), float(volume.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        bad = int(volume.size - np.isfinite(volume).sum())
        raise InputError(f"{name} has {bad} voxels that are NaN or infinite; replace them and save it again")
    if low == high == 0:
        raise InputError(
            f"{name} is empty: every voxel is 0; expected a binary mask or a CT in Hounsfield units"
        )
    if low >= 0 and high <= MAX_LABEL:
        if high == 1 and (volume.dtype.kind != "f" or bool(np.all((volume == 0) | (volume == 1)))):
            if low == 1:
                raise InputError(
                    f"{name} is 1 everywhere; expected a binary mask with background around the bone"
                )
            return "mask"
        raise InputError(f"{name} has the values {_some_values(volume)}; {_advice(volume)}")
    fraction = float(np.count_nonzero(volume > hu_threshold)) / volume.size
    if fraction == 0:
        raise InputError(
            f"{name} has no voxel above hu_threshold={hu_threshold:g}: values go from {low:g} to {high:g}; "
            "lower the threshold, or check that the file is a CT in Hounsfield units"
        )
    if low >= 0:
        if _is_label_map(volume):
            raise InputError(f"{name} has the values {_some_values(volume)}; {_advice(volume)}")
        bone = volume[volume > hu_threshold]
        least, most = OFFSET_TISSUE
        tissue = float(np.count_nonzero((bone > least) & (bone < most))) / bone.size
        if fraction > MAX_BONE_FRACTION or (hu_threshold < least and tissue > MAX_OFFSET_TISSUE):
            raise InputError(
                f"{name} has {100 * fraction:.0f} % of its voxels above hu_threshold={hu_threshold:g} and none "
                f"below 0 (values from {low:g} to {high:g}); expected Hounsfield units, where air is -1000: "
                "subtract the offset (often 1024) or raise the threshold"
            )
    return "ct"


def _is_label_map(volume: np.ndarray) -> bool:
    """Whether values from 0 on are whole and few; a few voxels tell that they are many."""
    some = volume.ravel()[:: max(1, volume.size // 1_000_000)]
    if len(np.unique(some)) > MAX_LABELS:
        return False
    values = np.unique(volume)
    return len(values) <= MAX_LABELS and bool(np.all(values == np.rint(values)))


def _some_values(volume: np.ndarray, *, limit: int = 8) -> str:
    """The first few distinct values, as text."""
    values = np.unique(volume)
    text = ", ".join(f"{v:.4g}" if volume.dtype.kind == "f" else str(v) for v in values[:limit].tolist())
    return f"{text} and {len(values) - limit} more" if len(values) > limit else text


def _advice(volume: np.ndarray) -> str:
    values = np.unique(volume)
    expected = "expected only 0 and 1, or a CT in Hounsfield units"
    if len(values) == 1:
        return expected
    if len(values) == 2:
        return f"{expected}: save it as (volume > {values[0]:g}) with 0 and 1"
    if volume.dtype.kind == "f" and values[-1] <= 1:
        return f"{expected}: for a probability map, save (volume > 0.5)"
    return f"{expected}: for a label map, save the one structure you want as (volume == its label)"
