from __future__ import annotations

import numpy as np
import pytest

from monai_sparse_refine.errors import InputError
from monai_sparse_refine.transforms.gate import RefineGate, as_gate


def line(first, last):
    return np.array([first <= i < last for i in range(20)])


def test_within_bounds_is_accepted():
    assert RefineGate().compare(line(0, 10), line(0, 12)) == ""
    assert RefineGate(None, None, None).compare(line(0, 10), line(15, 16)) == ""


@pytest.mark.parametrize(
    ("gate", "after", "reason"),
    [
        (RefineGate(), line(0, 16), "volume changed by \\+60.0 %, allowed are 50 %"),
        (RefineGate(), line(0, 4), "volume changed by -60.0 %"),
        (RefineGate(), line(4, 14), "Dice with the input is 0.600, at least 0.7"),
        (RefineGate(None, None, 0.9), line(0, 8), "80.0 % of its voxels were kept, at least 90 %"),
        (RefineGate(None, None, None), line(0, 0), "nothing of it was left"),
    ],
)
def test_outside_the_bounds_is_refused_with_the_reason(gate, after, reason):
    import re

    assert re.search(reason, gate.compare(line(0, 10), after))


def test_the_bounds_themselves_are_allowed():
    gate = RefineGate(max_volume_change=0.2, min_dice=10 / 11, min_kept=1.0)
    assert gate.compare(line(0, 10), line(0, 12)) == ""


def test_what_others_may_take_has_a_bound_of_its_own():
    assert RefineGate().reason_to_give_back(1.0) == ""
    gate = RefineGate(max_taken=0.25)
    assert gate.reason_to_give_back(0.25) == ""
    assert "lost 30.0 % of what it keeps, at most 25 %" in gate.reason_to_give_back(0.3)


def test_a_label_may_have_a_bound_of_its_own():
    gate = as_gate({"max_volume_change": None, "min_dice": {"aorta": 0.9, "heart": None}})
    before, after = np.zeros(10, bool), np.zeros(10, bool)
    before[:4], after[:3] = True, True  # Dice 6 / 7
    assert "0.857" in gate.compare(before, after, "aorta")
    assert not gate.compare(before, after, "heart") and not gate.compare(before, after, "trachea")


@pytest.mark.parametrize("bound", [{"aorta": 1.5}, {"aorta": "much"}])
def test_an_impossible_bound_of_a_label_is_told(bound):
    with pytest.raises(InputError, match="min_dice"):
        as_gate({"min_dice": bound})


def test_an_empty_label_may_stay_empty():
    assert RefineGate().compare(line(0, 0), line(0, 0)) == ""


def test_from_a_configuration():
    assert as_gate(None) is None
    assert as_gate({"min_dice": 0.9, "max_volume_change": None}) == RefineGate(None, 0.9, None)
    for bad in (
        {"dice": 0.9},
        {"min_dice": 2},
        {"max_volume_change": -1},
        {"min_kept": float("nan")},
        {"max_taken": 1.5},
        0.5,
    ):
        with pytest.raises(InputError, match="gate"):
            as_gate(bad)
