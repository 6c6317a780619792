"""Time and peak memory of the whole super-resolution command, 64 to 512 in-plane, as whole-process figures.

python -m benchmarks.super_resolution_cost ../shared/data/skull_masks/philips_skullphantom_bone1mm_skull.nii.gz
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.super_resolution_cases import coarsen, load_mask
from monai_sparse_refine.transforms.save import save_mask

BUNDLE = Path(__file__).resolve().parents[1] / "bundles" / "skull_super_resolution"


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
    print("| | seconds | peak GB so far |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        source = save_mask(coarse, Path(folder) / "coarse.nii.gz")
        for figure in (False, True):  # the smaller peak first: the children's peak only ever grows
            seconds = _command(source, Path(folder) / f"out{figure}", fine.shape[1:], figure)
            peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
            name = "with the picture" if figure else "mask alone"
            print(f"| {name} | {seconds:.1f} | {peak:.2f} |", flush=True)


def _command(source: Path, output: Path, shape: torch.Size, figure: bool) -> float:
    start = time.perf_counter()
    subprocess.run(
        [
            *(sys.executable, "-W", "ignore", "-m", "monai.bundle", "run"),
            f"--config_file={BUNDLE / 'configs' / 'inference.json'}",
            f"--bundle_root={BUNDLE}",
            f"--dataset_dir={source}",
            f"--output_dir={output}",
            f"--target_shape={list(shape)}",
            f"--figure={figure}",
            "--engine=native",
        ],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
