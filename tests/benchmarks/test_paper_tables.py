"""Memory and time tables on a tiny grid: measured cells, cells over a limit, page, CSV and curves."""

import csv

import pytest

from benchmarks.paper_tables import main, make_cases

ARGUMENTS = ["--sizes", "32", "--repeats", "1", "--device", "cpu"]


@pytest.mark.slow
def test_every_cell_is_measured_or_explained(tmp_path):
    models = ["--models", "sparse ch1", "dense ch1"]
    main([*ARGUMENTS, *models, "--modes", "infer", "--batches", "1", "2", "--output", str(tmp_path)])
    rows = list(csv.DictReader((tmp_path / "paper_tables.csv").open()))
    assert [(row["model"], row["batch"]) for row in rows] == [
        (model, batch) for model in ("sparse ch1", "dense ch1") for batch in "12"
    ]
    assert all(row["status"] == "ok" for row in rows)
    assert all(float(row["seconds"]) > 0 and float(row["peak_mib"]) > 0 for row in rows)
    assert len({row["parameters"] for row in rows}) == 1  # the twin has as many
    first, second, dense, _ = rows
    assert int(second["input"]) == 2 * int(first["input"]) < int(dense["volume"])
    assert int(dense["generated"]) == int(dense["volume"]) > int(first["generated"])
    page = (tmp_path / "paper_tables.md").read_text()
    assert "| 32 | sparse ch1 |" in page and "batch 2" in page
    assert (tmp_path / "paper_tables.png").stat().st_size > 1000


@pytest.mark.slow
def test_a_cell_over_a_limit_is_not_measured_and_neither_are_larger_batches(tmp_path):
    limits = ["--time-limit", "0.2", "--batches", "1", "64"]
    main([*ARGUMENTS, "--models", "dense ch1", "--modes", "train", *limits, "--output", str(tmp_path)])
    assert "over the time limit | over the time limit" in (tmp_path / "paper_tables.md").read_text()


@pytest.mark.slow
def test_a_dense_network_trains_on_one_case_and_on_two(tmp_path):
    main(
        [
            *ARGUMENTS,
            "--models",
            "dense ch1",
            "--modes",
            "train",
            "--batches",
            "1",
            "2",
            "--output",
            str(tmp_path),
        ]
    )
    rows = list(csv.DictReader((tmp_path / "paper_tables.csv").open()))
    assert [row["status"] for row in rows] == ["ok", "ok"]


@pytest.mark.slow
def test_too_little_memory_is_told_as_such(tmp_path):
    limits = ["--memory-gb", "0.3", "--batches", "64"]
    main([*ARGUMENTS, "--models", "dense ch1", "--modes", "train", *limits, "--output", str(tmp_path)])
    assert "over the memory limit" in (tmp_path / "paper_tables.md").read_text()


def test_cases_share_the_skull_and_its_hole(tmp_path):
    cases = make_cases([16, 32], tmp_path, seed=90_000)
    assert [max(case["shape"][:2]) for case in cases.values()] == [16, 32]
    assert 0 < cases[16]["occupied"] < cases[32]["occupied"]
