"""The page and the curves of `benchmarks.paper_tables`."""

from __future__ import annotations

import argparse
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter

from benchmarks.paper_step import OK
from benchmarks.skull_scores import markdown_table
from monai_sparse_refine.files import atomic_path

Rows = Sequence[Mapping[str, Any]]
Cases = Mapping[int, Mapping[str, Any]]
TITLES = {"train": "Training step", "infer": "Inference"}
COLORS = {"sparse ch1": "C0", "sparse ch2": "C1", "dense ch1": "C2", "dense ch2": "C3"}


def page(
    rows: Rows,
    growth: Rows,
    skulls: Cases,
    outlines: Cases,
    options: argparse.Namespace,
    *,
    command: str,
    minutes: float,
) -> str:
    """The results as Markdown.

    Args:
        rows, growth: measurements of the skull and of the outline, as in the CSV.
        skulls, outlines: `shape` and `occupied` by size.
        options: of the command line.
        command: that made them.
        minutes: that it took.
    """
    hardware = torch.cuda.get_device_name() if options.device == "cuda" else f"{platform.machine()} CPU"
    lines = [
        "# Memory and time: sparse networks against their dense twins",
        "",
        "The counterpart of tables 4 and 5 and figure 5 of Li et al., Sci. Rep. 13:20229 (2023).",
        f"{hardware}, {options.threads} threads, torch {torch.__version__}, engine {options.engine}; limits of",
        f"{options.memory_gb:g} GB and {options.time_limit:g} s for one measurement, which has a process of its own.",
        f"Cells are seconds for the whole batch (best of up to {options.repeats} steps; a slow one is not repeated) /",
        "peak MiB that the steps added. Networks are untrained; the sparse ones are shown the target, so that they",
        "keep as many voxels as trained ones do. Times of other machines differ: compare ratios. *Expected* marks",
        "what was not tried, because a smaller batch or case exceeds a limit or comes near it.",
        "",
        f"Made in {minutes:.0f} minutes by `{command}`; the numbers are in [paper_tables.csv](paper_tables.csv).",
        "",
    ]
    if rows:
        for mode in options.modes:
            mine = [row for row in rows if row["mode"] == mode]
            lines += [f"## {TITLES[mode]}", "", _mode_table(mine, options), ""]
        lines += ["## Occupied voxels against volume", "", _voxel_table(rows, skulls), ""]
        lines += ["![seconds and memory](paper_tables.png)", ""]
    if growth:
        lines += [
            "## A 2D outline that grows",
            "",
            "The same networks in two dimensions, on a closed curve three pixels wide with a gap: doubling the side",
            "doubles the curve's pixels and quadruples the image's. Cells are seconds / MiB.",
            "",
            _growth_table(growth, outlines, options),
            "",
            "![growth](paper_growth.png)",
            "",
        ]
    return "\n".join(lines)


def _mode_table(rows: Rows, options: argparse.Namespace) -> str:
    lines = []
    for size in options.sizes:
        for model in options.models:
            found = {row["batch"]: row for row in rows if (row["size"], row["model"]) == (size, model)}
            lines.append([str(size), model, *(_cell(found[batch]) for batch in options.batches)])
    return markdown_table(["in-plane", "network", *(f"batch {batch}" for batch in options.batches)], lines)


def _growth_table(rows: Rows, outlines: Cases, options: argparse.Namespace) -> str:
    found = {(row["size"], row["model"], row["mode"]): row for row in rows}
    columns = [(model, mode) for mode in options.modes for model in options.models]
    lines = [
        [str(size), f"{case['occupied']:,}", *(_cell(found[size, model, mode]) for model, mode in columns)]
        for size, case in outlines.items()
    ]
    return markdown_table(
        ["side", "occupied pixels", *(f"{model}, {mode}" for model, mode in columns)], lines
    )


def _cell(row: Mapping[str, Any]) -> str:
    if row["status"] != OK:
        return str(row["status"])
    return f"{row['seconds']:.2f} / {row['peak_mib']:.0f}"


def _voxel_table(rows: Rows, skulls: Cases) -> str:
    lines = []
    for size, case in skulls.items():
        volume = int(np.prod(case["shape"]))
        generated = [
            row["generated"]
            for row in rows
            if (row["size"], row["batch"], row["status"]) == (size, 1, OK) and "sparse" in row["model"]
        ]
        share = f"{100 * case['occupied'] / volume:.2f} %"
        last = f"{max(generated):,}" if generated else "-"
        shown = " x ".join(map(str, case["shape"]))
        lines.append([str(size), shown, f"{volume:,}", f"{case['occupied']:,}", share, last])
    headings = [
        "in-plane",
        "grid",
        "voxels of the volume",
        "occupied",
        "share",
        "generated at the finest level",
    ]
    return markdown_table(headings, lines)


def draw_sizes(rows: Rows, path: Path) -> None:
    """Seconds and memory of one skull against the in-plane size, and of rising batches at one size."""
    single = [row for row in rows if row["batch"] == min(row["batch"] for row in rows)]
    # The largest size at which every network manages more than one batch size says most.
    counts = {
        size: min(
            sum(
                row["status"] == OK
                for row in rows
                if (row["size"], row["model"], row["mode"]) == (size, *line)
            )
            for line in {(row["model"], row["mode"]) for row in rows}
        )
        for size in dict.fromkeys(row["size"] for row in rows)
    }
    size = max((size for size, count in counts.items() if count > 1), default=min(counts, default=0))
    panels = [
        (single, "size", "in-plane voxels"),
        ([row for row in rows if row["size"] == size], "batch", f"batch size at {size} in-plane"),
    ]
    _draw(panels, path, "A skull: time and memory of training and inference")


def draw_growth(rows: Rows, path: Path) -> None:
    """Seconds and memory of the 2D outline against its pixels, and on linear axes against the image's side."""
    panels = [(rows, "input", "occupied pixels"), (rows, "size", "side of the image, pixels (linear axes)")]
    _draw(panels, path, "A 2D outline that grows", linear=1)


def _draw(
    panels: Sequence[tuple[Rows, str, str]], path: Path, title: str, *, linear: int | None = None
) -> None:
    """Two panels side by side, seconds above memory; ``linear`` is the panel without logarithmic axes."""
    figure, axes = plt.subplots(2, 2, figsize=(10, 8), layout="constrained")
    for column, (rows, x, x_label) in enumerate(panels):
        measured = [row for row in rows if row["status"] == OK]
        scale = "linear" if column == linear else "log"
        for axis, key, label in zip(
            axes[:, column], ("seconds", "peak_mib"), ("seconds", "peak MiB"), strict=True
        ):
            axis.set(xscale=scale, yscale=scale, xlabel=x_label, ylabel=label)
            _curves(axis, measured, x, key)
            places = sorted({row[x] for row in measured})
            if x != "input" and scale == "log" and places:
                axis.set_xticks(places, [str(place) for place in places])
                axis.xaxis.set_minor_formatter(NullFormatter())
            axis.grid(alpha=0.3)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=8)
    figure.suptitle(title)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=100)
    plt.close(figure)


def _curves(axis: Axes, rows: Rows, x: str, y: str) -> None:
    for model, mode in dict.fromkeys((row["model"], row["mode"]) for row in rows):
        points = [row for row in rows if (row["model"], row["mode"]) == (model, mode)]
        axis.plot(
            [row[x] for row in points],
            [max(row[y], 1e-3) for row in points],
            "-o" if mode == "train" else "--o",
            color=COLORS[model],
            label=f"{model}, {mode}",
            markersize=3,
        )
