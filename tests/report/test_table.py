from __future__ import annotations

import csv

from monai_sparse_refine.report.table import format_case_table, write_case_table

ROWS = [
    {"case": "a", "dice": 0.91234567, "hd95_mm": 12.345, "seconds": 3},
    {"case": "long name", "dice": 0.5, "mesh": "x.stl", "seconds": 5, "hd95_mm": None},
]


def test_csv_has_the_columns_of_all_rows(tmp_path):
    path = write_case_table(ROWS, tmp_path / "new" / "cases.csv")
    assert list(csv.reader(path.open())) == [
        ["case", "dice", "hd95_mm", "seconds", "mesh"],
        ["a", "0.912346", "12.345", "3", ""],
        ["long name", "0.5", "", "5", "x.stl"],
    ]
    assert [p.name for p in path.parent.iterdir()] == ["cases.csv"]


def test_text_is_aligned_and_ends_with_the_means():
    assert format_case_table(ROWS).splitlines() == [
        "case        dice  hd95_mm  seconds  mesh",
        "---------  -----  -------  -------  -----",
        "a          0.912     12.3        3  -",
        "long name  0.500        -        5  x.stl",
        "mean       0.706     12.3    4.000",
    ]


def test_text_of_chosen_columns_and_of_one_row():
    assert format_case_table(ROWS[:1], columns=["dice", "case"]) == " dice  case\n-----  ----\n0.912  a"
    assert len(format_case_table(ROWS, mean=False).splitlines()) == 4


def test_infinite_and_no_rows():
    rows = [{"case": "a", "hd95": float("inf")}, {"case": "b", "hd95": 1.0}]
    assert format_case_table(rows).splitlines()[2:] == ["a       inf", "b     1.000", "mean      -"]
    assert format_case_table([]) == "\n"
