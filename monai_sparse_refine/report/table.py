"""A table of cases, as a CSV file and as text for a terminal."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai_sparse_refine.files import atomic_path

__all__ = ["format_case_table", "write_case_table"]


def write_case_table(rows: Sequence[Mapping[str, Any]], path: str | Path) -> Path:
    """Write one row for each case as CSV, complete or not at all.

    Args:
        rows: values by column; the columns are those of all the rows, in the order in which they appear
            first. A value that a row lacks, and None, leaves its cell empty.
        path: file to write.

    Returns:
        The path written.
    """
    target = Path(path)
    columns = _columns(rows)
    with atomic_path(target) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(columns)
        writer.writerows([_exact(row.get(column)) for column in columns] for row in rows)
    return target


def format_case_table(
    rows: Sequence[Mapping[str, Any]], *, columns: Sequence[str] | None = None, mean: bool = True
) -> str:
    """The same table as text with aligned columns.

    Args:
        rows: as for `write_case_table`.
        columns: which, in which order; None takes all.
        mean: below several rows, add the mean of each column of numbers (of those that are there).
    """
    names = _columns(rows) if columns is None else list(columns)
    lines = [names, *([_short(row.get(name)) for name in names] for row in rows)]
    numeric = [
        any(_is_number(row.get(name)) for row in rows)
        and all(row.get(name) is None or _is_number(row.get(name)) for row in rows)
        for name in names
    ]
    if mean and len(rows) > 1 and any(numeric):
        means = [_mean(rows, name) if number else "" for name, number in zip(names, numeric, strict=True)]
        lines.append([means[0] or "mean", *means[1:]])
    widths = [max(len(line[i]) for line in lines) for i in range(len(names))]
    rule = ["-" * width for width in widths]
    text = []
    for line in [lines[0], rule, *lines[1:]]:
        cells = (
            cell.rjust(width) if number else cell.ljust(width)
            for cell, width, number in zip(line, widths, numeric, strict=True)
        )
        text.append("  ".join(cells).rstrip())
    return "\n".join(text)


def _columns(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _mean(rows: Sequence[Mapping[str, Any]], name: str) -> str:
    values = [float(row[name]) for row in rows if row.get(name) is not None]
    return _short(math.fsum(values) / len(values)) if all(map(math.isfinite, values)) else "-"


def _exact(value: Any) -> Any:
    """Six significant digits are more than a measurement has, and keep a file readable."""
    return f"{value:.6g}" if isinstance(value, float) else "" if value is None else value


def _short(value: Any) -> str:
    if value is None:
        return "-"
    if not isinstance(value, float):
        return str(value)
    if not math.isfinite(value):
        return str(value)
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"
