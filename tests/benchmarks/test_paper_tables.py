"""Memory and time tables on a tiny grid: measured cells, page, CSV and curves."""

import csv

import pytest

from benchmarks.paper_tables import main, make_cases


@pytest.mark.slow
def test_every_cell_is_measured(tmp_path):
    main(
        [
            *["--sizes", "32", "--batches", "1", "2", "--outline-sizes", "64", "--modes", "infer"],
            *["--models", "sparse ch1", "dense ch1", "--repeats", "1", "--threads", "1"],
            *["--device", "cpu", "--output", str(tmp_path)],
        ]
    )
    rows = list(csv.DictReader((tmp_path / "paper_tables.csv").open()))
    assert len(rows) == 2 * (2 + 1)
    assert all(row["status"] == "ok" for row in rows)
    assert all(float(row["seconds"]) > 0 and float(row["peak_mib"]) > 0 for row in rows)
    skull = {(row["model"], row["mode"], row["batch"]): row for row in rows if row["dimensions"] == "3"}
    assert len({row["parameters"] for row in skull.values()}) == 1  # the twin has as many
    first, second = (skull["sparse ch1", "infer", batch] for batch in "12")
    dense = skull["dense ch1", "infer", "1"]
    assert 2 * int(first["input"]) == int(second["input"])
    assert int(dense["generated"]) == int(dense["volume"]) > int(first["generated"]) > int(first["input"])
    page = (tmp_path / "paper_tables.md").read_text()
    assert "| 32 | sparse ch1 |" in page and "batch 2" in page and "| 64 |" in page
    assert all((tmp_path / f"{name}.png").stat().st_size > 1000 for name in ("paper_tables", "paper_growth"))


def test_cases_share_the_skull_and_its_hole(tmp_path):
    cases = make_cases([16, 32], tmp_path, seed=90_000)
    assert [max(case["shape"][:2]) for case in cases.values()] == [16, 32]
    assert 0 < cases[16]["occupied"] < cases[32]["occupied"]
