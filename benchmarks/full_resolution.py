"""Time and peak memory of the whole completion command on a full-resolution skull, as whole-process figures.

python -m benchmarks.full_resolution ../shared/data/skull_masks/philips_skullphantom_bone1mm_skull.nii.gz
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nibabel as nib
import torch
from monai.transforms import LoadImage

from monai_sparse_refine.transforms import RandCranialDefect, ToBinaryMask

BUNDLE = Path(__file__).resolve().parents[1] / "bundles" / "skull_completion"


def main() -> None:
    """Cut a defect into a complete skull, complete it on both working grids, print a markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("skull", help="complete skull mask or CT")
    parser.add_argument("--kind", default="parietotemporal")
    parser.add_argument("--seed", type=int, default=2)
    options = parser.parse_args()
    skull = ToBinaryMask()(LoadImage(ensure_channel_first=True)(options.skull))
    holed = RandCranialDefect(options.kind).set_random_state(options.seed)(skull)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "skull.nii.gz"
        nib.save(nib.Nifti1Image(holed[0].numpy().astype("uint8"), holed.affine.numpy()), source)
        shape = "x".join(str(n) for n in holed.shape[1:])
        print(f"{shape}, {options.kind}, seed {options.seed}, {torch.get_num_threads()} threads\n")
        print("| working grid | seconds | peak GB so far |\n|---|---|---|")
        for grid in ("2.0", "$None"):  # the smaller peak first: the children's peak only ever grows
            seconds = _complete(source, Path(folder) / f"out{len(grid)}", grid)
            peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
            print(
                f"| {'native' if grid == '$None' else grid + ' mm'} | {seconds:.1f} | {peak:.2f} |",
                flush=True,
            )


def _complete(source: Path, output: Path, grid: str) -> float:
    start = time.perf_counter()
    subprocess.run(
        [
            *(sys.executable, "-W", "ignore", "-m", "monai.bundle", "run"),
            f"--config_file={BUNDLE / 'configs' / 'inference.json'}",
            f"--bundle_root={BUNDLE}",
            f"--dataset_dir={source}",
            f"--output_dir={output}",
            f"--working_spacing={grid}",
            "--engine=native",
        ],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
