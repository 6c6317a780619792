"""Scores of one organ of one case, and tables of many."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from benchmarks.thoracic_methods import ORGANS
from monai_sparse_refine.metrics import components, dice, surface_distances, volume_error
from monai_sparse_refine.volume import spacing_of

__all__ = ["COLUMNS", "mean_table", "organ_scores", "worst_loss"]

Row = Mapping[str, Any]
TOLERANCE_MM = 2.0 * (1 + 1e-9)  # of surface Dice; a distance of just 2 mm may not be lost to rounding
INPUT = "resampled, linear"  # what the refiner gets


class Column(NamedTuple):
    """A score: its name in rows, its heading, its digits, and whether its size counts, not its sign."""

    name: str
    heading: str
    digits: int
    absolute: bool = False


COLUMNS = (
    Column("dice", "Dice", 4),
    Column("hd95_mm", "HD95 mm", 2),
    Column("assd_mm", "ASSD mm", 2),
    Column("surface_dice", "surface Dice 2 mm", 3),
    Column("components", "components", 1),
    Column("volume_error_percent", "volume error %", 1, absolute=True),
)


def organ_scores(labels: Any, truth: Any, organ: str) -> dict[str, Any]:
    """Scores of an organ in two label maps [1, X, Y, Z]."""
    pred, true = (np.asarray(volume)[0] == ORGANS[organ] for volume in (labels, truth))
    distances = surface_distances(pred, true, spacing=spacing_of(truth))
    empty = not (pred.any() and true.any())
    return {
        "organ": organ,
        "dice": dice(pred, true),
        "hd95_mm": float(np.percentile(distances, 95)) if len(distances) else 0.0,
        "assd_mm": float(distances.mean()) if len(distances) else 0.0,
        "surface_dice": float(pred.any() == true.any())
        if empty
        else float(np.mean(distances <= TOLERANCE_MM)),
        "components": components(pred),
        "volume_error_percent": volume_error(pred, true),
    }


def mean_table(rows: Sequence[Row], organ: str) -> list[list[str]]:
    """One line for each method, means over the cases, the best Dice and HD95 (of native rows) in bold."""
    methods = list(dict.fromkeys(str(row["method"]) for row in rows))
    mine = {m: [row for row in rows if row["method"] == m and row["organ"] == organ] for m in methods}
    mine = {method: chosen for method, chosen in mine.items() if chosen}
    if not mine:
        return []
    means = {m: [_mean(chosen, column) for column in COLUMNS] for m, chosen in mine.items()}
    native = [m for m in means if "working grid" not in m] or list(means)
    best = (max(means[m][0] for m in native), min(means[m][1] for m in native))
    lines = []
    for method, values in means.items():
        cells = [f"{value:.{column.digits}f}" for value, column in zip(values, COLUMNS, strict=True)]
        for position, value in enumerate(best):
            if method in native and values[position] == value:
                cells[position] = f"**{cells[position]}**"
        lines.append([method, *cells])
    return lines


def _mean(rows: Sequence[Row], column: Column) -> float:
    values = [float(row[column.name]) for row in rows]
    return float(np.mean(np.abs(values) if column.absolute else values))


def worst_loss(rows: Sequence[Row], method: str) -> tuple[float, str]:
    """Largest fall of an organ's Dice against the refiner's input, over all cases, and where."""
    before = {(row["case"], row["organ"]): row["dice"] for row in rows if row["method"] == INPUT}
    falls = [
        (before[row["case"], row["organ"]] - row["dice"], f"{row['case']}, {row['organ']}")
        for row in rows
        if row["method"] == method
    ]
    return max(falls, default=(0.0, ""))
