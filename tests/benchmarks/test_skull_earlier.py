"""Rows of an earlier table go beside new ones only where the holes are the same."""

import pytest

from benchmarks.skull_earlier import read_table, with_earlier_rows
from monai_sparse_refine.errors import InputError
from monai_sparse_refine.report import write_case_table

OPEN = "open"


def _rows(**dice: float) -> list[dict[str, object]]:
    hole = {"test_set": "patients", "grid": "native", "case": "a", "kind": "cube"}
    return [{**hole, "method": name, "re_percent": 0.123456, "dice": value} for name, value in dice.items()]


def test_new_rows_replace_those_of_their_method_and_others_stay(tmp_path):
    table = write_case_table(_rows(open=0.0, twin=0.5, ours=0.6), tmp_path / "table.csv")
    merged = with_earlier_rows(_rows(open=0.0, ours=0.7, other=0.8), read_table(table), identity=OPEN)
    assert [(row["method"], float(row["dice"])) for row in merged] == [
        ("open", 0.0),
        ("twin", 0.5),
        ("ours", 0.7),
        ("other", 0.8),
    ]


def test_another_hole_is_told(tmp_path):
    table = write_case_table(_rows(open=0.0, ours=0.6), tmp_path / "table.csv")
    larger = [{**row, "re_percent": 0.2} for row in _rows(open=0.0, ours=0.7)]
    elsewhere = [{**row, "case": "b"} for row in _rows(open=0.0, ours=0.7)]
    for rows in (larger, elsewhere):
        with pytest.raises(InputError, match=r"no such hole: patients, native, [ab], cube"):
            with_earlier_rows(rows, read_table(table), identity=OPEN)


def test_what_is_no_such_table_is_told_before_any_work(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_table(tmp_path / "none.csv")
    other = write_case_table([{"a": 1}], tmp_path / "other.csv")
    with pytest.raises(InputError, match="no table of"):
        read_table(other)
