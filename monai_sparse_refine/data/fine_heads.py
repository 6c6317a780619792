"""Fine skull masks of coarse head CTs: interpolated, thresholded, written as NIfTI to train and test completion on."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from monai.data import MetaTensor
from monai.transforms import LoadImage, Orientation

from monai_sparse_refine.data.fine_masks import PARTS, ct_mask
from monai_sparse_refine.data.head_masks import crop_head, has_usable_vault
from monai_sparse_refine.data.inputs import find_volumes
from monai_sparse_refine.data.skull_cases import read_split
from monai_sparse_refine.errors import InputError
from monai_sparse_refine.files import atomic_path
from monai_sparse_refine.volume import affine_of_box, as_volume, case_name, spacing_of

__all__ = ["export_fine_heads"]


def export_fine_heads(
    files: Sequence[Path], output_dir: str | Path, *, voxel_mm: float = 1.5, variants: int = 2, seed: int = 0
) -> list[str]:
    """Write skull masks on a finer grid than their CTs' and return their case names.

    A mask of 4 mm voxels cannot be deformed, nor does it look like a fine scan: its walls are steps. The CT behind
    it, interpolated before it is thresholded, gives smooth walls that can, and do. Each variant has its own
    sharpening, noise and threshold (see :func:`~monai_sparse_refine.data.fine_masks.ct_mask`), and so its own
    thickness.

    Args:
        files: head CTs in HU.
        output_dir: folder for ``<case>_fine<variant>.nii.gz`` (uint8, RAS, cropped to the head, largest component).
        voxel_mm: edge of the new voxels.
        variants: masks of each CT; those without a usable vault are left out.
        seed: decides them.

    Raises:
        InputError: for a file that is no CT.
    """
    # Transforms are loaded where they are used: they import the data package.
    from monai_sparse_refine.transforms.resample import box_affine

    load, to_ras = LoadImage(ensure_channel_first=True), Orientation(axcodes="RAS", labels=None)
    written = []
    for number, file in enumerate(files):
        name = case_name(file).removesuffix("_ct")
        image: Any = to_ras(load(file))
        ct, spacing = as_volume(image, name=name), spacing_of(image)
        if ct.min() >= 0:
            raise InputError(f"{file} has no negative values; expected a CT in HU")
        for variant in range(variants):
            mask = ct_mask(ct, spacing, [voxel_mm] * 3, np.random.default_rng([seed, number, variant]))
            affine = box_affine(image.affine, ct.shape, mask.shape)
            box = _head_box(mask, spacing_of(MetaTensor(mask[None], affine=affine)))
            if box is None:
                continue
            case = f"{name}_fine{variant}"
            with atomic_path(Path(output_dir) / f"{case}.nii.gz") as temporary:
                head = nib.Nifti1Image(mask[box].astype(np.uint8), affine_of_box(affine, box))
                nib.save(head, temporary)
            written.append(case)
    return written


def _head_box(mask: np.ndarray, spacing: Sequence[float]) -> tuple[slice, slice, slice] | None:
    """Box of the head in a mask whose last axis runs up; None without a usable vault."""
    downwards = mask[:, :, ::-1]
    if not has_usable_vault(downwards, spacing):
        return None
    x, y, z = crop_head(downwards, spacing)
    height = mask.shape[2]
    return x, y, slice(height - z.stop, height - z.start)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line: a folder of fine skulls for each part of a split."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cts", help="folder of head CTs, <case>_ct.nii.gz or <case>.nii.gz")
    parser.add_argument("--output-dir", required=True, help="folder for a folder of each part")
    parser.add_argument("--split", required=True, help="split file (JSON) of the patients")
    parser.add_argument("--parts", nargs="+", default=list(PARTS), help="parts of the split")
    parser.add_argument("--voxel-mm", type=float, default=1.5)
    parser.add_argument("--variants", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    files = {case_name(file).removesuffix("_ct"): file for file in find_volumes(options.cts)}
    for part in options.parts:
        chosen = [files[name] for name in read_split(options.split, part) if name in files]
        folder = Path(options.output_dir) / part
        names = export_fine_heads(
            chosen, folder, voxel_mm=options.voxel_mm, variants=options.variants, seed=options.seed
        )
        print(f"{len(names)} skulls of {len(chosen)} CTs in {folder}", flush=True)


if __name__ == "__main__":
    main()
