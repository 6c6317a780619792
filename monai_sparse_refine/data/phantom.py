"""Skull phantoms: `skull_phantom`, and a command that writes one with a hole as NIfTI files."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import nibabel
import numpy as np
from monai.data import MetaTensor

from monai_sparse_refine.data.phantom_volume import skull_phantom
from monai_sparse_refine.errors import InputError
from monai_sparse_refine.files import atomic_path

__all__ = ["main", "skull_phantom"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Write a defective skull phantom, its complete skull and the implant; returns the exit code."""
    # Only the command needs the transforms; the phantom itself is made without them.
    from monai_sparse_refine.transforms.cranial_defect import DEFECT_KINDS, RandCranialDefect

    options = _parser(DEFECT_KINDS).parse_args(arguments)
    output = Path(options.output_dir)
    try:
        complete = skull_phantom(options.seed, spacing=options.spacing)
        defect_seed = options.seed if options.defect_seed is None else options.defect_seed
        cut = RandCranialDefect(options.defect)
        cut.set_random_state(defect_seed)
        defective = MetaTensor(cut(complete), affine=complete.affine)
        implant = complete.as_tensor() - defective.as_tensor()
        volumes = {
            "defective skull": (output / "defective.nii.gz", defective),
            "complete skull": (output / "truth" / "complete.nii.gz", complete),
            "implant": (output / "truth" / "implant.nii.gz", MetaTensor(implant, affine=complete.affine)),
        }
        for path, volume in volumes.values():
            _write(volume, path)
    except (InputError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for name, (path, _) in volumes.items():
        print(f"{name:16s} {path}")
    grid = " x ".join(str(size) for size in complete.shape[1:])
    voxel_ml = float(np.prod(complete.pixdim.numpy())) / 1000.0
    print(
        f"{grid} voxels of {options.spacing:g} mm; {cut.kind} defect of {cut.size_mm:.0f} mm mean radius; "
        f"implant {int(implant.sum()) * voxel_ml:.1f} ml"
    )
    return 0


def _parser(kinds: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m monai_sparse_refine.data.phantom",
        description=(
            "Make a procedural skull with a hole. Writes defective.nii.gz (what a completion gets), and in "
            "the folder truth the complete skull and the implant that fills the hole. A seed gives the same "
            "head at any spacing."
        ),
    )
    parser.add_argument(
        "--output-dir", required=True, metavar="DIR", help="folder to write to; made if missing"
    )
    parser.add_argument("--seed", type=int, default=0, help="which head (default: %(default)s)")
    parser.add_argument("--spacing", type=float, default=1.0, help="voxel edge in mm (default: %(default)s)")
    parser.add_argument(
        "--defect", choices=kinds, default="bilateral", help="kind of hole (default: %(default)s)"
    )
    parser.add_argument("--defect-seed", type=int, help="which hole of that kind (default: the head's seed)")
    return parser


def _write(volume: MetaTensor, path: Path) -> None:
    """Write a mask [1, X, Y, Z] as uint8 NIfTI, complete or not at all."""
    image = nibabel.Nifti1Image(volume[0].numpy().astype(np.uint8), volume.affine.numpy())
    image.header.set_xyzt_units("mm")
    with atomic_path(path) as temporary:
        nibabel.save(image, temporary)


if __name__ == "__main__":
    sys.exit(main())
