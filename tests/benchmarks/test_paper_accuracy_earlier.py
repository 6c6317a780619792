"""Rows of an earlier table: as they were written, for the same cases only."""

import pytest
import torch
from monai.data import MetaTensor

from benchmarks.paper_accuracy_earlier import read_table, steps_text
from benchmarks.skull_cases import SkullCase
from monai_sparse_refine.errors import InputError
from monai_sparse_refine.report import write_case_table

STEPS = {64: 200, 128: 30}
ROW = {
    "skulls": "CT skulls",
    "size": 64,
    "case": "a",
    "kind": "random",
    "method": "sparse ch1",
    "weights_of": 64,
    "steps": steps_text(STEPS, 64),
    "dice": 0.5,
    "re_percent": 1.5,
    "implant_dice": 0.0,
    "own_dice": None,
    "occupied": 3,
    "volume": 8,
}
IDENTITY = {**ROW, "method": "input mask (identity)", "weights_of": None, "steps": steps_text({}, None)}


@pytest.fixture
def table(tmp_path):
    finer = {**ROW, "size": 128, "weights_of": 128, "steps": steps_text(STEPS, 128), "own_dice": 0.25}
    return write_case_table([IDENTITY, ROW, finer], tmp_path / "paper_accuracy.csv")


def _case(name, grid=64):
    mask = MetaTensor(torch.zeros(1, 2, 2, 2))
    return SkullCase("CT skulls", name, "random", 20.0, grid, mask, mask)


def test_rows_and_steps_come_back_as_they_were_written(table):
    found = read_table(table)
    assert found.networks == ["sparse ch1"]
    assert found.scores("sparse ch1", [_case("a")]) == [ROW]
    assert found.steps == {("CT skulls", "sparse ch1"): STEPS}
    assert found.scores("sparse ch1", [_case("a", 128)])[0]["own_dice"] == 0.25


def test_a_network_that_was_not_run_has_no_rows(table):
    assert read_table(table).scores("sparse ch1", [_case("a", 256)]) == []


def test_rows_of_other_skulls_are_refused(table):
    with pytest.raises(InputError, match="other skulls at size 64"):
        read_table(table).scores("sparse ch1", [_case("b")])


def test_what_is_no_such_table_is_told(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_table(tmp_path / "absent.csv")
    other = write_case_table([{"case": "a", "dice": 1.0}], tmp_path / "other.csv")
    with pytest.raises(InputError, match=r"columns .*steps"):
        read_table(other)
