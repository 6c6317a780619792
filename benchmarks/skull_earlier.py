"""Rows of an earlier accuracy table beside new ones: short trainings of hours need not be repeated for new weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.earlier_rows import read_rows
from monai_sparse_refine.errors import InputError

__all__ = ["read_table", "with_earlier_rows"]

_HOLE = ("test_set", "grid", "case", "kind")
_SAME = 0.03


def read_table(path: str | Path) -> list[dict[str, Any]]:
    """Rows of a CSV file that ``benchmarks.skull_accuracy`` wrote.

    Raises:
        InputError: if it is no such file.
    """
    return read_rows(path, columns=(*_HOLE, "method", "re_percent"), made_by="benchmarks.skull_accuracy")


def with_earlier_rows(
    rows: Sequence[Mapping[str, Any]], earlier: Sequence[Mapping[str, Any]], *, identity: str
) -> list[dict[str, Any]]:
    """New rows with those of other methods from an earlier table of the same holes, each hole's in that table's order.

    Args:
        rows: new rows, with one of the method `identity` for every hole.
        earlier: rows of the earlier table, from :func:`read_table`.
        identity: the method that leaves the hole open. Its reconstruction error is the hole's size, by which the
            holes are told to be the same.

    Raises:
        InputError: for a hole that is not in the earlier table, or was another.
    """
    old_holes = _by_hole(earlier)
    merged = []
    for hole, new in _by_hole(rows).items():
        old = old_holes.get(hole, {})
        if identity not in old or not _same(new[identity]["re_percent"], old[identity]["re_percent"]):
            raise InputError(
                f"the earlier table has no such hole: {', '.join(hole)}; score all methods anew, without --earlier"
            )
        merged += [dict(new.get(name, row)) for name, row in old.items()]
        merged += [dict(row) for name, row in new.items() if name not in old]
    return merged


def _by_hole(rows: Sequence[Mapping[str, Any]]) -> dict[tuple[str, ...], dict[str, Mapping[str, Any]]]:
    """Rows by hole and method."""
    holes: dict[tuple[str, ...], dict[str, Mapping[str, Any]]] = {}
    for row in rows:
        holes.setdefault(tuple(str(row[name]) for name in _HOLE), {})[str(row["method"])] = row
    return holes


def _same(one: Any, other: Any) -> bool:
    """Whether two sizes are of the same hole: other processors draw a few voxels of a phantom otherwise."""
    return abs(float(one) - float(other)) <= _SAME * abs(float(one))
