"""Rows of an earlier table of `benchmarks.paper_accuracy`, so that the bundle can be scored without training anew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.earlier_rows import read_rows
from benchmarks.skull_cases import SkullCase
from monai_sparse_refine.errors import InputError

_NUMBERS = {
    "size": int,
    "weights_of": int,
    "dice": float,
    "re_percent": float,
    "implant_dice": float,
    "own_dice": float,
    "occupied": int,
    "volume": int,
}


class EarlierTable(NamedTuple):
    """Scores of trained networks, and how they were trained."""

    path: Path
    networks: list[str]
    rows: list[dict[str, Any]]
    steps: dict[tuple[str, str], dict[int, int]]  # by size, by kind of skull and network

    def scores(self, network: str, cases: Sequence[SkullCase]) -> list[dict[str, Any]]:
        """Rows of one network on the cases of one size; none where it was not run.

        Raises:
            InputError: if they are of other cases.
        """
        first = cases[0]
        key = (first.test_set, first.grid, network)
        found = [row for row in self.rows if (row["skulls"], row["size"], row["method"]) == key]
        if found and [row["case"] for row in found] != [case.name for case in cases]:
            raise InputError(
                f"{self.path}: {network} was scored on other skulls at size {first.grid}; "
                "give the data and options of that run"
            )
        return found


def read_table(path: str | Path) -> EarlierTable:
    """Read a CSV file that `benchmarks.paper_accuracy` wrote.

    Raises:
        InputError: if it is no such file.
    """
    found = read_rows(
        path, columns=("skulls", "case", "method", "steps", *_NUMBERS), made_by="benchmarks.paper_accuracy"
    )
    rows = [_typed(row) for row in found if row["steps"]]
    steps: dict[tuple[str, str], dict[int, int]] = {}
    for row in rows:
        steps.setdefault((row["skulls"], row["method"]), {}).update(_steps(row["steps"]))
    return EarlierTable(Path(path), list(dict.fromkeys(row["method"] for row in rows)), rows, steps)


def steps_text(steps: Mapping[int, int], stage: int | None) -> str | None:
    """Training steps by size, up to that of the weights, as the table holds them: "64: 2063, 128: 635"."""
    if stage is None:
        return None
    return ", ".join(f"{size}: {count}" for size, count in steps.items() if size <= stage)


def _steps(text: str) -> dict[int, int]:
    pairs = (part.split(":") for part in text.split(","))
    return {int(size): int(count) for size, count in pairs}


def _typed(row: Mapping[str, str]) -> dict[str, Any]:
    """Values as they were before they were written; an empty cell is None."""
    return {name: None if not text else _NUMBERS.get(name, str)(text) for name, text in row.items()}
