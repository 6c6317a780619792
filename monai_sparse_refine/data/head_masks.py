"""Complete-vault skull masks from a packed collection of head bone masks: filter, orient, write as NIfTI."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

from monai_sparse_refine.errors import InputError
from monai_sparse_refine.files import atomic_path

# The packed array's axes run to posterior, left and inferior; RAS wants right, anterior and superior.
_AXES_TO_RAS = np.array([[0.0, -1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, -1.0]])


def ring_coverage(mask: np.ndarray, spacing: Sequence[float], *, sectors: int = 48) -> np.ndarray:
    """Fraction of directions in which bone surrounds the head, for every slice along the last axis (Z,).

    Directions are counted from the middle of the slice's bone, bone nearer than 35 mm (spine, base) not at all; a
    slice whose bone is less than 100 mm wide counts 0. Enclosed area would be the obvious measure, but bone of
    4 mm voxels is too porous to enclose anything.
    """
    coverage = np.zeros(mask.shape[2])
    in_plane = np.asarray(spacing[:2], dtype=float)
    for z in range(mask.shape[2]):
        voxels = np.argwhere(mask[:, :, z])  # (N, 2)
        if len(voxels) == 0 or (np.ptp(voxels, axis=0) * in_plane).min() < 100:
            continue
        offset = (voxels - (voxels.min(0) + voxels.max(0)) / 2) * in_plane
        far = offset[np.hypot(*offset.T) > 35]
        angle = (np.arctan2(far[:, 1], far[:, 0]) + np.pi) / (2 * np.pi)  # (N,) in [0, 1]
        coverage[z] = len(np.unique((angle * sectors).astype(int) % sectors)) / sectors
    return coverage


def has_usable_vault(mask: np.ndarray, spacing: Sequence[float], *, min_height_mm: float = 50.0) -> bool:
    """Tell whether bone surrounds the head (90 % of the directions) over at least ``min_height_mm``."""
    closed = int((ring_coverage(mask, spacing) >= 0.9).sum())
    return closed * float(spacing[2]) >= min_height_mm


def crop_head(
    mask: np.ndarray, spacing: Sequence[float], *, height_mm: float = 190.0, margin_mm: float = 10.0
) -> tuple[slice, slice, slice]:
    """Box of the head: the top ``height_mm`` of the bone (the first slices, Z runs downwards) with a margin."""
    step = np.asarray(spacing, dtype=float)
    top = int(np.flatnonzero(mask.any((0, 1)))[0])
    bottom = min(mask.shape[2], top + round(height_mm / step[2]))
    head = mask[:, :, top:bottom]
    box = []
    for axis in range(2):
        hit = np.flatnonzero(head.any(axis=tuple(a for a in range(3) if a != axis)))
        margin = round(margin_mm / step[axis])
        box.append(slice(max(0, int(hit[0]) - margin), min(mask.shape[axis], int(hit[-1]) + 1 + margin)))
    return box[0], box[1], slice(max(0, top - round(margin_mm / step[2])), bottom)


def export_head_masks(source: str | Path, output_dir: str | Path) -> list[str]:
    """Write the usable masks of a packed file as NIfTI and return their case names.

    Args:
        source: ``.npz`` with ``masks`` (N, 128**3 / 8) packed bits, ``ids`` (N,) and ``vox`` (N, 3) in mm, the
            axes running to posterior, left and inferior.
        output_dir: folder for ``<id>.nii.gz`` (uint8, cropped to the head, largest component, RAS affine).

    Raises:
        InputError: if the file is missing or not of this form.
    """
    try:
        with np.load(source, allow_pickle=False) as packed:
            masks, ids, spacings = packed["masks"], packed["ids"], packed["vox"]
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{source} is no packed mask file with 'masks', 'ids' and 'vox': {error}") from error
    names = []
    for bits, name, spacing in zip(masks, ids, spacings, strict=True):
        mask = np.unpackbits(bits).reshape(128, 128, 128).astype(bool)
        if not has_usable_vault(mask, spacing):
            continue
        box = crop_head(mask, spacing)
        labels, _ = ndimage.label(mask[box], structure=np.ones((3, 3, 3)))
        largest = labels == np.bincount(labels.ravel())[1:].argmax() + 1
        affine = np.eye(4)
        affine[:3, :3] = _AXES_TO_RAS @ np.diag(spacing)
        first = np.array([side.start for side in box])
        affine[:3, 3] = affine[:3, :3] @ (first - (np.asarray(mask.shape) - 1) / 2)
        with atomic_path(Path(output_dir) / f"{name}.nii.gz") as temporary:
            nib.save(nib.Nifti1Image(largest.astype(np.uint8), affine), temporary)
        names.append(str(name))
    return names


def split_names(
    names: Sequence[str], *, seed: int = 0, validation: int = 6, test: int = 16
) -> dict[str, list[str]]:
    """Split case names by patient into training, validation and test (sorted within each part)."""
    order = np.random.RandomState(seed).permutation(sorted(names))
    parts = {
        "test": order[:test],
        "validation": order[test : test + validation],
        "training": order[test + validation :],
    }
    return {part: sorted(str(name) for name in chosen) for part, chosen in parts.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line: export the masks and write the split file if it does not exist yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", help="packed .npz file of head bone masks")
    parser.add_argument("--output-dir", required=True, help="folder for the NIfTI masks")
    parser.add_argument("--split", help="split file (JSON) to write if it does not exist")
    options = parser.parse_args(arguments)
    names = export_head_masks(options.source, options.output_dir)
    print(f"{len(names)} skulls with a usable vault in {options.output_dir}")
    if options.split and not Path(options.split).exists():
        with atomic_path(options.split) as temporary:
            temporary.write_text(json.dumps(split_names(names), indent=1) + "\n", encoding="utf-8")
        print(f"split written to {options.split}")


if __name__ == "__main__":
    main()
