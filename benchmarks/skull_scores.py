"""Scores of one completed hole, and tables of many: median, mean and worst."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import ndimage

from benchmarks.skull_cases import SkullCase
from monai_sparse_refine.metrics import border_dice, border_gap, dice, hd95, reconstruction_error
from monai_sparse_refine.volume import as_mask, bounding_box, spacing_of

# What lies farther than this from the true implant was added outside the defect region.
REGION_MM = 5.0
CLOSED_VOXELS = 2


class Column(NamedTuple):
    """A score: its name in rows, its heading, its digits, whether more is better, whether it is a share."""

    name: str
    heading: str
    digits: int
    more_is_better: bool = False
    share: bool = False


COLUMNS = (
    Column("implant_dice", "implant DSC", 3, more_is_better=True),
    Column("border_dice", "border DSC (10 mm)", 3, more_is_better=True),
    Column("hd95_mm", "HD95 mm", 2),
    Column("re_percent", "RE %", 3),
    Column("skull_dice", "whole-skull DSC", 4, more_is_better=True),
    Column("volume_error_percent", "implant volume error %", 1),
    Column("closed", "hole closed", 0, more_is_better=True, share=True),
    Column("outside_percent", "added outside, % of skull", 3),
)

BY_KIND = tuple(
    column for column in COLUMNS if column.name in ("implant_dice", "border_dice", "hd95_mm", "closed")
)

# What `write_case_table` writes: where a score comes from, and the scores.
Row = Mapping[str, Any]


def score(case: SkullCase, implant: Any) -> dict[str, float]:
    """Scores of an implant by the names of `COLUMNS`."""
    true, pred = case.true_implant, as_mask(implant)
    if case.unscored is not None:
        pred = pred & ~as_mask(case.unscored)
    complete, bone = as_mask(case.complete), as_mask(case.defective)
    truth = as_mask(true)
    mm = spacing_of(case.complete)
    whole = bone | pred
    volume = np.count_nonzero(truth)
    return {
        "implant_dice": dice(pred, truth),
        "border_dice": border_dice(pred, truth, bone, spacing=mm),
        "hd95_mm": hd95(pred, truth, spacing=mm),
        "re_percent": reconstruction_error(whole, complete),
        "skull_dice": dice(whole, complete),
        "volume_error_percent": 100.0 * abs(np.count_nonzero(pred) - volume) / volume,
        "closed": float(border_gap(pred, truth, bone) <= CLOSED_VOXELS),
        "outside_percent": 100.0 * np.count_nonzero(pred & ~_region(truth, mm)) / np.count_nonzero(complete),
    }


def _region(truth: np.ndarray, mm: Sequence[float]) -> np.ndarray:
    """Voxels at most `REGION_MM` from the true implant."""
    near = np.zeros_like(truth)
    box = bounding_box(truth, margin=[int(REGION_MM / size) + 1 for size in mm])
    if box is not None:
        near[box] = ndimage.distance_transform_edt(~truth[box], sampling=mm) <= REGION_MM
    return near


def groups(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Rows by what the tables tell apart: what training has seen of such holes, and all."""
    names = ("seen kinds", "seen kinds, larger", "unseen kinds")
    chosen = {name: [row for row in rows if row["group"] == name] for name in names} | {"all": list(rows)}
    return {name: part for name, part in chosen.items() if part}


def summary(rows: Sequence[Row], column: Column) -> str:
    """``median / mean / worst`` of one score, or the share of cases in percent."""
    values = [float(row[column.name]) for row in rows]
    if column.share:
        return f"{100 * np.mean(values):.0f} %"
    worst = min(values) if column.more_is_better else max(values)
    return " / ".join(f"{value:.{column.digits}f}" for value in (np.median(values), np.mean(values), worst))


def markdown_table(headings: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    ruled = [list(headings), ["---"] * len(headings), *map(list, lines)]
    return "\n".join("| " + " | ".join(line) + " |" for line in ruled)


def group_sections(rows: Sequence[Row], columns: Sequence[Column]) -> str:
    """Markdown: for each test set and group of holes a heading and a table with a line for each method."""
    methods = list(dict.fromkeys(row["method"] for row in rows))
    parts = []
    for test_set in dict.fromkeys(row["test_set"] for row in rows):
        for group, members in groups([row for row in rows if row["test_set"] == test_set]).items():
            table = []
            for method in methods:
                mine = [row for row in members if row["method"] == method]
                table.append([method, *(summary(mine, column) for column in columns)])
            parts.append(f"## {test_set}, {group}: {len(members) // len(methods)} holes")
            parts.append(markdown_table(["", *(column.heading for column in columns)], table))
    return "\n\n".join(parts)


def result_tables(rows: Sequence[Row]) -> str:
    """Markdown: for each test set and grid, every score by group, and the main ones by kind of hole."""
    parts = []
    for key in dict.fromkeys((row["test_set"], row["grid"]) for row in rows):
        chosen = [row for row in rows if (row["test_set"], row["grid"]) == key]
        cases = len({(row["case"], row["kind"]) for row in chosen})
        skulls = len({row["case"] for row in chosen})
        parts.append(f"### {key[0]}, {key[1]} grid: {cases} holes in {skulls} skulls")
        parts.append(_group_table(chosen))
        parts += [f"{column.heading} by kind of hole:\n\n{_kind_table(chosen, column)}" for column in BY_KIND]
    return "\n\n".join(parts)


def _group_table(rows: Sequence[Row]) -> str:
    lines = []
    for group, members in groups(rows).items():
        for method in dict.fromkeys(row["method"] for row in members):
            mine = [row for row in members if row["method"] == method]
            lines.append(
                [f"**{group}** ({len(mine)})", method, *(summary(mine, column) for column in COLUMNS)]
            )
    return markdown_table(["holes", "method", *(column.heading for column in COLUMNS)], lines)


def _kind_table(rows: Sequence[Row], column: Column) -> str:
    kinds = dict.fromkeys(row["kind"] for row in rows)
    lines = []
    for method in dict.fromkeys(row["method"] for row in rows):
        mine = [row for row in rows if row["method"] == method]
        lines.append([method, *(summary([r for r in mine if r["kind"] == kind], column) for kind in kinds)])
    counts = [len({row["case"] for row in rows if row["kind"] == kind}) for kind in kinds]
    return markdown_table(["method", *(f"{k} ({n})" for k, n in zip(kinds, counts, strict=True))], lines)
