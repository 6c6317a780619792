"""Masks at several in-plane resolutions, a folder for each, as the reference method is trained and judged."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
from monai.transforms import Compose, LoadImage, Orientation

from monai_sparse_refine.data.inputs import FilePath, preflight
from monai_sparse_refine.errors import or_exit
from monai_sparse_refine.files import atomic_path
from monai_sparse_refine.volume import case_name, spacing_of

__all__ = ["Representation", "export_multi_resolution"]


class Representation(NamedTuple):
    """One case at one resolution.

    `shape` in voxels, `spacing` in mm, `occupied` the number of foreground voxels; `interpolated` tells that the
    case itself has fewer in-plane voxels, so that this one shows no more than it does.
    """

    path: Path
    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    occupied: int
    interpolated: bool


def export_multi_resolution(
    inputs: FilePath | Sequence[FilePath],
    output_dir: FilePath,
    *,
    in_plane: Sequence[int] = (64, 128, 256, 512),
    hu_threshold: float = 300.0,
) -> Iterator[Representation]:
    """Write masks at several in-plane resolutions, ``<output_dir>/<size>/<case>.nii.gz`` (uint8, RAS).

    Every folder holds the cases under their own names, so that one split file serves all of them, and each can be a
    ``--dataset_dir`` to train on. See `MakeMultiResolution` for how a mask is brought to a size.

    Args:
        inputs: masks or CTs, NIfTI or NRRD: a file, a folder or several.
        output_dir: folder for the folders; may not be the input folder.
        in_plane: voxels along the longer in-plane side (of axial slices).
        hu_threshold: HU above which a voxel of a CT is bone.

    Yields:
        What was written, as soon as it is.

    Raises:
        InputError: before anything is written, for inputs that cannot be used or sizes that are not positive.
    """
    # Transforms are loaded where they are used: they import the data package.
    from monai_sparse_refine.transforms import MakeMultiResolution, ToBinaryMask

    resample = MakeMultiResolution(in_plane)
    files = preflight(inputs, output_dir, hu_threshold=hu_threshold)
    load = Compose(
        [
            LoadImage(ensure_channel_first=True),
            ToBinaryMask(hu_threshold=hu_threshold),
            Orientation(axcodes="RAS", labels=None),
        ]
    )
    for file in files:
        mask: Any = load(file)
        for size, resampled in resample(mask).items():
            values = resampled.as_tensor()[0].numpy().astype(np.uint8)
            target = Path(output_dir).expanduser() / str(size) / f"{case_name(file)}.nii.gz"
            with atomic_path(target) as temporary:
                nib.save(nib.Nifti1Image(values, resampled.affine.numpy()), temporary)
            x, y, z = values.shape
            finer = x > mask.shape[1] or y > mask.shape[2]
            occupied = int(np.count_nonzero(values))
            yield Representation(target, (x, y, z), spacing_of(resampled), occupied, finer)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line: write the folders, with a line for each file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("inputs", nargs="+", help="masks or CTs (.nii, .nii.gz, .nrrd), or folders of them")
    parser.add_argument("--output-dir", required=True, help="folder for a folder of each size")
    parser.add_argument(
        "--in-plane",
        type=int,
        nargs="+",
        default=[64, 128, 256, 512],
        help="voxels along the longer in-plane side, one for each folder (64 128 256 512)",
    )
    parser.add_argument("--hu-threshold", type=float, default=300.0, help="HU above which a CT is bone")
    options = parser.parse_args(arguments)
    written = export_multi_resolution(
        options.inputs, options.output_dir, in_plane=options.in_plane, hu_threshold=options.hu_threshold
    )
    while (item := or_exit(next, written, None)) is not None:
        size = " x ".join(map(str, item.shape))
        voxel = " x ".join(f"{mm:.2f}" for mm in item.spacing)
        share = 100.0 * item.occupied / float(np.prod(item.shape))
        note = ", interpolated: finer than the input" if item.interpolated else ""
        print(
            f"{item.path}: {size} voxels of {voxel} mm, {item.occupied:,} occupied ({share:.1f} %){note}",
            flush=True,
        )


if __name__ == "__main__":
    main()
