"""Time and peak memory of the whole completion command on a full-resolution skull, as whole-process figures.

python -m benchmarks.full_resolution ../shared/data/skull_masks/philips_skullphantom_bone1mm_skull.nii.gz
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import nibabel as nib
import torch
from monai.transforms import LoadImage

from benchmarks.bundle_command import run_bundle
from monai_sparse_refine.transforms import RandCranialDefect, ToBinaryMask


def main() -> None:
    """Cut a hole into a skull, complete it on the default and the native working grid, print a markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("skull", help="complete skull mask or CT")
    parser.add_argument("--kind", default="parietotemporal")
    parser.add_argument("--seed", type=int, default=2)
    options = parser.parse_args()
    skull = ToBinaryMask()(LoadImage(ensure_channel_first=True)(options.skull))
    holed: Any = RandCranialDefect(options.kind).set_random_state(options.seed)(skull)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "skull.nii.gz"
        nib.save(nib.Nifti1Image(holed[0].numpy().astype("uint8"), holed.affine.numpy()), source)
        shape = "x".join(str(n) for n in holed.shape[1:])
        print(f"{shape}, {options.kind}, seed {options.seed}, {torch.get_num_threads()} threads\n")
        print("| working grid | seconds | peak GB |\n|---|---|---|")
        for name, spacing in (("default", 2.0), ("native", "$None")):
            output = Path(folder) / name.replace(" ", "_")
            cost = run_bundle(
                "skull_completion", dataset_dir=source, output_dir=output, working_spacing=spacing
            )
            print(f"| {name} | {cost.seconds:.1f} | {cost.gigabytes:.2f} |", flush=True)


if __name__ == "__main__":
    main()
