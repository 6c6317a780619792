"""The page and the figures of `benchmarks.paper_accuracy`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import NullFormatter

from benchmarks.paper_skulls import CT, MRI
from benchmarks.paper_training import KEEP_THRESHOLD, KNOWN_WEIGHT, LEARNING_RATES
from benchmarks.skull_scores import Column, markdown_table, summary
from monai_sparse_refine.files import atomic_path

Rows = Sequence[Mapping[str, Any]]
COLUMNS = (
    Column("dice", "DSC", 4, more_is_better=True),
    Column("re_percent", "RE %", 3),
    Column("implant_dice", "implant DSC", 3, more_is_better=True),
    Column("own_dice", "DSC of the output alone", 4, more_is_better=True),
)
BOXES, VOXELS = "paper_accuracy_boxes.png", "paper_accuracy_voxels.png"


def page(
    rows: Rows,
    trained: Mapping[tuple[str, str], Mapping[int, int]],
    options: argparse.Namespace,
    *,
    command: str,
) -> str:
    """The results as Markdown.

    Args:
        rows: scores of a method on a case each, as in the CSV.
        trained: steps by size, by kind of skull and network.
        options: of the command line.
        command: that made them.
    """
    first, later = LEARNING_RATES
    seconds = ", ".join(f"{value:g}" for value in options.seconds)
    lines = [
        "# The paper's networks and the dense twin, at every resolution",
        "",
        "The counterpart of table 2 and figures 2 to 4 of Li et al., Sci. Rep. 13:20229 (2023), on skulls",
        "never trained on. **Every network had the same budget of one processor core, coarse to fine:",
        f"{seconds} seconds at the kind's sizes, as far as it was trained.** So the table compares networks at",
        "equal cost, and its values are those of so short a training. A size without training gets the weights of",
        "the next coarser one. One training run, one seed.",
        "",
        *(_EARLIER_ROWS if options.earlier else ()),
        *(_bundle_row(options.bundle) if options.bundle else ()),
        f"Training: one skull a step, Adam with AMSGrad, learning rate {first:g} at the first and {later:g} at",
        f"each later size, falling to a tenth; the paper's loss with weight {KNOWN_WEIGHT:g} for what the input holds;",
        f"sparse networks keep voxels of logit above {KEEP_THRESHOLD:g} until the last level. The stream of skulls",
        "and holes is the same for every network; a cheaper one gets further in it. Rate, weight and threshold",
        "were chosen in a few trial runs of sparse ch1 at the coarsest sizes, scored on these same test holes: in",
        "that respect the table favours it.",
        "",
        "Cells are `median / mean / worst`. What is scored is the input with what the network adds:",
        "completion only adds. The last column scores the network's output alone, as the paper does. DSC and",
        "RE are of the whole skull, and the identity rows show how little they say: read the implant DSC.",
        "",
        f"Made by `{command}`; every case is in [paper_accuracy.csv](paper_accuracy.csv).",
        "",
    ]
    for skulls in dict.fromkeys(row["skulls"] for row in rows):
        mine = [row for row in rows if row["skulls"] == skulls]
        steps = {name: found for (kind, name), found in trained.items() if kind == skulls}
        lines += [f"## {skulls}", "", _DATA[skulls], "", _score_table(mine, steps), ""]
        lines += [_verdict(mine), *_notes(mine, steps), ""]
    lines += ["## Box plots", "", f"![DSC, RE and implant DSC]({BOXES})", ""]
    lines += ["## Occupied voxels against volume", "", _voxel_table(rows), "", f"![voxels]({VOXELS})", ""]
    return "\n".join(lines)


_EARLIER_ROWS = (
    "The networks' rows, which were trained by the same command without `--earlier`, are of an earlier run and taken",
    "over from its table; only the rows of the input and of the bundle were scored anew.",
    "",
)
_DATA = {
    CT: (
        "Bone of radiotherapy patients (masks exported by `python -m monai_sparse_refine.data.head_masks`; voxels\n"
        "of about 4 mm, so that sizes above 64 are interpolated) and procedural phantoms (drawn at\n"
        "0.44 x 0.44 x 2 mm, so that 512 is real), brought to each in-plane size by `MakeMultiResolution`; slices\n"
        "are never interpolated. One hole in each skull, by `RandCranialDefect`, of kinds that training saw; a\n"
        "skull without room for any is left out."
    ),
    MRI: (
        "Only the surfaces of the head and of the cranial cavity, one voxel thick, on cubes of 224 mm: the\n"
        "cavity is a brain mask, the outer surface lies 10 to 20 mm outside it, smoothly varying. Two ball-\n"
        "shaped holes of 20 to 35 mm radius through both surfaces, one at a time, in every head tested."
    ),
}


def _bundle_row(bundle: str) -> tuple[str, ...]:
    metadata = json.loads((Path(bundle) / "configs" / "metadata.json").read_text(encoding="utf-8"))
    return (
        f"The row of the bundle is version {metadata['version']} of what this package ships: another network, with",
        "guesses for input, trained for hours on the training patients of the same split. It says what is reached at",
        "each size, not what a network is worth.",
        "",
    )


def _score_table(rows: Rows, steps: Mapping[str, Mapping[int, int]]) -> str:
    lines = []
    for size, method in dict.fromkeys((row["size"], row["method"]) for row in rows):
        mine = [row for row in rows if (row["size"], row["method"]) == (size, method)]
        stage = mine[0]["weights_of"]
        weights = "-" if stage is None else f"{stage} ({_steps_until(steps[method], stage)})"
        cells = ["-" if mine[0][column.name] is None else summary(mine, column) for column in COLUMNS]
        lines.append([str(size), method, str(len(mine)), weights, *cells])
    headings = ["size", "method", "holes", "trained up to (steps)", *(column.heading for column in COLUMNS)]
    return markdown_table(headings, lines)


def _steps_until(steps: Mapping[int, int], stage: int) -> str:
    return " + ".join(str(count) for size, count in steps.items() if size <= stage)


def _verdict(rows: Rows) -> str:
    """Where a network's median DSC is above that of the input mask, in words."""
    medians = {
        key: float(np.median([row["dice"] for row in rows if (row["method"], row["size"]) == key]))
        for key in dict.fromkeys((row["method"], row["size"]) for row in rows)
    }
    identity = rows[0]["method"]
    better = [
        f"{method} at {size}"
        for (method, size), value in medians.items()
        if method != identity and round(value, 4) > round(medians[identity, size], 4)
    ]
    return f"- Median DSC above that of the input mask: {', '.join(better) or 'none'}."


def _notes(rows: Rows, steps: Mapping[str, Mapping[int, int]]) -> list[str]:
    """What was not trained and not run."""
    sizes = list(dict.fromkeys(row["size"] for row in rows))
    done = {(row["method"], row["size"]) for row in rows}
    notes = []
    for name, found in steps.items():
        untrained = [str(size) for size in sizes if size not in found]
        absent = [str(size) for size in sizes if (name, size) not in done]
        if untrained:
            notes.append(
                f"- Not trained at {', '.join(untrained)}: {name}. The budget holds too few steps there."
            )
        if absent:
            notes.append(f"- Not run at {', '.join(absent)}: {name}. The volume exceeds `--test-voxels`.")
    if "dense ch2" not in steps:
        notes.append(
            "- Left out: dense ch2. Of all networks its steps are the slowest ([paper_tables.md](paper_tables.md))."
        )
    return notes


def _voxel_table(rows: Rows) -> str:
    lines = []
    for skulls, size in dict.fromkeys((row["skulls"], row["size"]) for row in rows):
        occupied, volume = _voxels(rows, skulls, size)
        lines.append(
            [skulls, str(size), f"{volume:,.0f}", f"{occupied:,.0f}", f"{100 * occupied / volume:.2f} %"]
        )
    return markdown_table(["skulls", "size", "voxels of the volume", "occupied", "share"], lines)


def _voxels(rows: Rows, skulls: str, size: int) -> tuple[float, float]:
    """Median occupied voxels and volume of the complete skulls that were taken at every size."""
    mine = [row for row in rows if row["skulls"] == skulls]
    sizes = {row["size"] for row in mine}
    everywhere = set.intersection(*({row["case"] for row in mine if row["size"] == other} for other in sizes))
    chosen = [row for row in mine if row["size"] == size and row["case"] in everywhere]
    occupied, volume = (float(np.median([row[name] for row in chosen])) for name in ("occupied", "volume"))
    return occupied, volume


def write_figures(rows: Rows, folder: Path) -> None:
    """Draw the box plots, and the occupied voxels against the volume."""
    for name, draw in ((BOXES, _draw_boxes), (VOXELS, _draw_voxels)):
        _save(draw, rows, folder / name)


def _save(draw: Callable[[Rows], Figure], rows: Rows, path: Path) -> None:
    figure = draw(rows)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=100)
    plt.close(figure)


def _draw_boxes(rows: Rows) -> Figure:
    kinds = list(dict.fromkeys(row["skulls"] for row in rows))
    figure, axes = plt.subplots(
        3, len(kinds), figsize=(6.2 * len(kinds), 9), layout="constrained", squeeze=False
    )
    for column, skulls in enumerate(kinds):
        mine = [row for row in rows if row["skulls"] == skulls]
        for row_axes, score in zip(axes, COLUMNS[:3], strict=True):
            _boxes(row_axes[column], mine, score)
        axes[0, column].set_title(skulls)
        axes[-1, column].set_xlabel("size")
    methods = dict.fromkeys(row["method"] for row in rows)
    handles = [Patch(color=f"C{n}", alpha=0.5, label=method) for n, method in enumerate(methods)]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=8)
    return figure


def _boxes(axis: Axes, rows: Rows, score: Column) -> None:
    """Groups of boxes, one for each size, in it one for each method."""
    methods = list(dict.fromkeys(row["method"] for row in rows))
    sizes = list(dict.fromkeys(row["size"] for row in rows))
    width = 0.8 / len(methods)
    for number, method in enumerate(methods):
        color = f"C{number}"
        for place, size in enumerate(sizes):
            values = [row[score.name] for row in rows if (row["method"], row["size"]) == (method, size)]
            if not values:
                continue
            x = place + (number - (len(methods) - 1) / 2) * width
            axis.boxplot(
                values,
                positions=[x],
                widths=0.85 * width,
                patch_artist=True,
                boxprops={"facecolor": color, "alpha": 0.5, "edgecolor": color},
                medianprops={"color": "black"},
                flierprops={"marker": ".", "markersize": 3},
            )
    axis.set_xticks(range(len(sizes)), [str(size) for size in sizes])
    axis.set_ylabel(score.heading)
    axis.grid(axis="y", alpha=0.3)


def _draw_voxels(rows: Rows) -> Figure:
    kinds = list(dict.fromkeys(row["skulls"] for row in rows))
    figure, axes = plt.subplots(
        1, len(kinds), figsize=(5 * len(kinds), 4.2), layout="constrained", squeeze=False, sharey=True
    )
    for axis, skulls in zip(axes[0], kinds, strict=True):
        sizes = list(dict.fromkeys(row["size"] for row in rows if row["skulls"] == skulls))
        counts = np.array([_voxels(rows, skulls, size) for size in sizes])
        for column, style, what in ((1, "--s", "volume"), (0, "-o", "occupied")):
            axis.plot(sizes, counts[:, column], style, label=what, markersize=4)
        axis.set(xscale="log", yscale="log", xlabel="size", ylabel="voxels", title=skulls)
        axis.set_xticks(sizes, [str(size) for size in sizes])
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    return figure
