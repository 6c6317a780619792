"""Memory and time of the sparse networks against their dense twins: tables, curves and a CSV.

    python -m benchmarks.paper_tables --sizes 64 128 256 512 --batches 1 2 4 8

The counterpart of tables 4 and 5 and figure 5 of Li et al., Sci. Rep. 13:20229 (2023): a skull at growing in-plane
sizes and batches, and a 2D outline that grows. Every measurement has a process of its own. What exceeds the limits
of memory or time is not measured, and the tables say so.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.command_line import command_line
from benchmarks.paper_growth import make_outlines
from benchmarks.paper_runner import add_arguments, prepare, sweep
from benchmarks.paper_tables_page import draw_growth, draw_sizes, page
from monai_sparse_refine.data import skull_phantom
from monai_sparse_refine.files import atomic_path
from monai_sparse_refine.report import write_case_table
from monai_sparse_refine.transforms import MakeMultiResolution, RandCranialDefect

REPOSITORY = Path(__file__).resolve().parents[1]
HEAD_MM = 224.0  # a phantom's length, so that its finest grid has about 512 voxels in-plane
SLICE_MM = 1.0


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    options = _options(arguments)
    prepare(options)
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        skulls = make_cases(options.sizes, Path(folder), seed=options.seed) if options.sizes else {}
        outlines = make_outlines(options.outline_sizes, Path(folder))
        rows = [{"dimensions": 3, **row} for row in sweep(options, skulls, options.batches)]
        growth = [{"dimensions": 2, **row} for row in sweep(options, outlines)]
    target = Path(options.output)
    write_case_table([*rows, *growth], target / "paper_tables.csv")
    draw_sizes(rows, target / "paper_tables.png")
    draw_growth(growth, target / "paper_growth.png")
    text = page(
        rows,
        growth,
        skulls,
        outlines,
        options,
        command=command_line("paper_tables", arguments),
        minutes=(time.monotonic() - start) / 60,
    )
    with atomic_path(target / "paper_tables.md") as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(f"written: {target / 'paper_tables.md'}, paper_tables.csv, paper_tables.png and paper_growth.png")


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--sizes", type=int, nargs="*", default=[64, 128, 256, 512], help="in-plane voxels, rising"
    )
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 2, 4, 8], help="batch sizes, rising")
    parser.add_argument(
        "--outline-sizes",
        type=int,
        nargs="*",
        default=[128, 256, 512, 1024, 2048, 4096],
        help="pixels along an axis of the 2D outlines, rising",
    )
    add_arguments(parser)
    parser.add_argument("--seed", type=int, default=90_000, help="of the phantom")
    parser.add_argument("--output", default=str(REPOSITORY / "docs" / "results"), help="folder to write to")
    return parser.parse_args(arguments)


def make_cases(sizes: Sequence[int], folder: Path, *, seed: int) -> dict[int, dict[str, Any]]:
    """One phantom with a hole at every in-plane size, as npz files for the measurements.

    Returns:
        By size: `file`, `shape` and the `occupied` voxels of the defective skull.
    """
    pitch = HEAD_MM / max(sizes)
    complete = skull_phantom(seed, spacing=(pitch, pitch, max(pitch, SLICE_MM)))
    cut = RandCranialDefect(("parietotemporal",))
    cut.set_random_state(seed)
    low = MakeMultiResolution(sizes)
    defective = low(cut(complete))
    cases = {}
    for size, mask in low(complete).items():
        file = folder / f"skull_{size}.npz"
        np.savez(file, complete=mask[0].numpy(), defective=defective[size][0].numpy())
        occupied = int((defective[size] > 0).sum())
        cases[size] = {"file": file, "shape": tuple(mask.shape[1:]), "occupied": occupied}
    return cases


if __name__ == "__main__":
    main()
