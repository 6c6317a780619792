"""Rows of a table that a benchmark wrote earlier."""

from __future__ import annotations

import csv
from collections.abc import Collection
from pathlib import Path
from typing import Any

from monai_sparse_refine.errors import InputError

__all__ = ["read_rows"]


def read_rows(path: str | Path, *, columns: Collection[str], made_by: str) -> list[dict[str, Any]]:
    """Rows of a CSV file, as text.

    Args:
        path: the file.
        columns: those that it has to have.
        made_by: what writes such files, for the message.

    Raises:
        InputError: if there is no such file, or one without rows or these columns.
    """
    file = Path(path)
    if not file.is_file():
        raise InputError(f"no such file: {file}")
    with file.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    if not rows or not set(columns) <= rows[0].keys():
        raise InputError(f"{file} is no table of {made_by}: it needs rows, and columns {', '.join(columns)}")
    return rows
