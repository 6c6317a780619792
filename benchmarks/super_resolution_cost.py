"""Time and peak memory of the whole super-resolution command, 64 to 512 in-plane, as whole-process figures.

python -m benchmarks.super_resolution_cost ../shared/data/skull_masks/philips_skullphantom_bone1mm_skull.nii.gz
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch

from benchmarks.bundle_command import run_bundle
from benchmarks.super_resolution_cases import coarsen, load_mask
from monai_sparse_refine.transforms.save import save_mask


def main() -> None:
    """Coarsen a fine mask, bring it back to its own shape by the bundle's command, print a markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("mask", help="fine mask")
    parser.add_argument("--factor", type=float, default=8)
    options = parser.parse_args()
    fine = load_mask(options.mask)
    coarse = coarsen(fine, options.factor)
    shapes = ["x".join(str(n) for n in mask.shape[1:]) for mask in (coarse, fine)]
    print(f"{shapes[0]} to {shapes[1]}, {torch.get_num_threads()} threads\n")
    print("| | seconds | peak GB |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        source = save_mask(coarse, Path(folder) / "coarse.nii.gz")
        for name, figure in (("mask alone", False), ("with the picture", True)):
            cost = run_bundle(
                "skull_super_resolution",
                dataset_dir=source,
                output_dir=Path(folder) / f"figure_{figure}",
                target_shape=list(fine.shape[1:]),
                figure=figure,
            )
            print(f"| {name} | {cost.seconds:.1f} | {cost.gigabytes:.2f} |", flush=True)


if __name__ == "__main__":
    main()
