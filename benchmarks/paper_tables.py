"""Memory and time of the sparse networks against their dense twins: tables, curves and a CSV.

    python -m benchmarks.paper_tables --sizes 64 128 256 512 --batches 1 2 4 8

The counterpart of tables 4 and 5 and figure 5 of Li et al., Sci. Rep. 13:20229 (2023). Every measurement has a
process of its own. What exceeds the limits of memory or time is not measured, and the tables say so.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch

from benchmarks.paper_step import MODELS
from benchmarks.skull_scores import markdown_table
from monai_sparse_refine.data import skull_phantom
from monai_sparse_refine.files import atomic_path
from monai_sparse_refine.report import write_case_table
from monai_sparse_refine.transforms import MakeMultiResolution, RandCranialDefect

REPOSITORY = Path(__file__).resolve().parents[1]
HEAD_MM = 224.0  # a phantom's length, so that its finest grid has about 512 voxels in-plane
SLICE_MM = 1.0
FAILED = "failed"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    options = _options(arguments)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        cases = make_cases(options.sizes, Path(folder), seed=options.seed)
        for size, case in cases.items():
            for model in options.models:
                for mode in options.modes:
                    rows += _batches(options, model, mode, size, case)
    shapes = {size: case["shape"] for size, case in cases.items()}
    occupied = {size: case["occupied"] for size, case in cases.items()}
    target = Path(options.output)
    write_case_table(rows, target / "paper_tables.csv")
    draw_curves(rows, target / "paper_tables.png")
    with atomic_path(target / "paper_tables.md") as temporary:
        temporary.write_text(_page(rows, shapes, occupied, options), encoding="utf-8")
    print(f"written: {target / 'paper_tables.md'}, .csv and .png")


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 128, 256, 512], help="in-plane voxels")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 2, 4, 8], help="batch sizes, rising")
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    parser.add_argument("--modes", nargs="+", default=["train", "infer"], choices=["train", "infer"])
    parser.add_argument("--repeats", type=int, default=3, help="steps of which the fastest counts")
    parser.add_argument(
        "--memory-gb", type=float, default=12.0, help="limit of one process (the paper's GPU: 12)"
    )
    parser.add_argument("--time-limit", type=float, default=1800.0, help="seconds for one measurement")
    parser.add_argument("--engine", default="native", help="auto, native or minkowski")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
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
        file = folder / f"{size}.npz"
        np.savez_compressed(file, complete=mask[0].numpy(), defective=defective[size][0].numpy())
        occupied = int((defective[size] > 0).sum())
        cases[size] = {"file": file, "shape": tuple(mask.shape[1:]), "occupied": occupied}
    return cases


def _batches(
    options: argparse.Namespace, model: str, mode: str, size: int, case: dict[str, Any]
) -> list[dict[str, Any]]:
    """Measure rising batch sizes until one exceeds a limit."""
    rows, stopped = [], None
    for batch in options.batches:
        result = stopped or _measure(options, model=model, mode=mode, case=str(case["file"]), batch=batch)
        if result["status"] not in ("ok", FAILED):
            stopped = result
        rows.append({"model": model, "mode": mode, "in_plane": size, "batch": batch, **result})
        print(f"{model} {mode} {size} x {batch}: {result}", file=sys.stderr, flush=True)
    return rows


def _measure(options: argparse.Namespace, **what: Any) -> dict[str, Any]:
    spec = {
        **what,
        "repeats": options.repeats,
        "engine": options.engine,
        "device": options.device,
        "memory_gb": options.memory_gb,
    }
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.paper_step", json.dumps(spec)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=options.time_limit, cwd=REPOSITORY
        )
    except subprocess.TimeoutExpired:
        return {"status": "over the time limit"}
    if done.returncode == 0:
        return dict(json.loads(done.stdout.strip().splitlines()[-1]))
    # An engine in C++ that gets no memory ends the process.
    if done.returncode < 0 or "bad_alloc" in done.stderr:
        return {"status": "over the memory limit"}
    print(done.stderr, file=sys.stderr)
    return {"status": FAILED}


def draw_curves(rows: Sequence[dict[str, Any]], path: Path) -> Path:
    """Seconds and memory of one case, against the in-plane size and against the occupied voxels."""
    figure, axes = plt.subplots(2, 2, figsize=(10, 7.5), layout="constrained", sharey="row")
    measured = [row for row in rows if row["status"] == "ok" and row["batch"] == 1]
    for row_axes, (key, label) in zip(
        axes, (("seconds", "seconds"), ("peak_mib", "peak memory, MiB")), strict=True
    ):
        for axis, (x, x_label) in zip(
            row_axes, (("in_plane", "in-plane voxels"), ("input", "occupied voxels")), strict=True
        ):
            for model, mode in dict.fromkeys((row["model"], row["mode"]) for row in measured):
                points = [row for row in measured if (row["model"], row["mode"]) == (model, mode)]
                style = "-o" if mode == "train" else "--o"
                values = [max(row[key], 1e-3) for row in points]
                axis.plot([row[x] for row in points], values, style, label=f"{model}, {mode}", markersize=3)
            axis.set(xscale="log", yscale="log", xlabel=x_label, ylabel=label)
            axis.grid(alpha=0.3)
    if measured:
        axes[0, 0].legend(fontsize=7)
    figure.suptitle("One case: time and memory of training and inference")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)
    plt.close(figure)
    return path


def _page(
    rows: Sequence[dict[str, Any]],
    shapes: dict[int, tuple[int, ...]],
    occupied: dict[int, int],
    options: argparse.Namespace,
) -> str:
    hardware = torch.cuda.get_device_name() if options.device == "cuda" else f"{platform.machine()} CPU"
    lines = [
        "# Memory and time: sparse networks against their dense twins",
        "",
        f"{hardware}, {torch.get_num_threads()} threads, torch {torch.__version__}, engine {options.engine}, limits "
        f"{options.memory_gb:g} GB and {options.time_limit:g} s for one measurement. Cells are seconds for the whole",
        f"batch (best of {options.repeats} steps) / peak MiB that the steps added. Untrained networks; the sparse",
        "ones are shown the target, so that they keep as many voxels as trained ones do. Times of other machines",
        "differ: compare ratios. A dash is a cell that was not asked for.",
        "",
        f"Made by `python -m benchmarks.paper_tables --sizes {' '.join(map(str, options.sizes))} --batches "
        f"{' '.join(map(str, options.batches))}`; the numbers are in [paper_tables.csv](paper_tables.csv).",
        "",
    ]
    for mode, title in (("train", "Training step"), ("infer", "Inference")):
        if mode in options.modes:
            lines += [
                f"## {title}",
                "",
                _mode_table([row for row in rows if row["mode"] == mode], options),
                "",
            ]
    lines += ["## Occupied voxels against volume", "", _voxel_table(rows, shapes, occupied), ""]
    lines += ["![seconds and memory](paper_tables.png)", ""]
    return "\n".join(lines)


def _mode_table(rows: Sequence[dict[str, Any]], options: argparse.Namespace) -> str:
    lines = []
    for size in options.sizes:
        for model in options.models:
            found = {row["batch"]: row for row in rows if (row["in_plane"], row["model"]) == (size, model)}
            lines.append([str(size), model, *(_cell(found.get(batch)) for batch in options.batches)])
    return markdown_table(["in-plane", "network", *(f"batch {batch}" for batch in options.batches)], lines)


def _cell(row: dict[str, Any] | None) -> str:
    if row is None:
        return "-"
    if row["status"] != "ok":
        return str(row["status"])
    return f"{row['seconds']:.2f} / {row['peak_mib']:.0f}"


def _voxel_table(
    rows: Sequence[dict[str, Any]], shapes: dict[int, tuple[int, ...]], occupied: dict[int, int]
) -> str:
    lines = []
    for size, shape in shapes.items():
        volume = int(np.prod(shape))
        generated = [
            row["generated"]
            for row in rows
            if row["in_plane"] == size
            and row["batch"] == 1
            and row["status"] == "ok"
            and "sparse" in row["model"]
        ]
        share = 100 * occupied[size] / volume
        last = f"{max(generated):,}" if generated else "-"
        shown = " x ".join(map(str, shape))
        lines.append([str(size), shown, f"{volume:,}", f"{occupied[size]:,}", f"{share:.2f} %", last])
    return markdown_table(
        ["in-plane", "grid", "voxels of the volume", "occupied", "share", "generated at the finest level"],
        lines,
    )


if __name__ == "__main__":
    main()
