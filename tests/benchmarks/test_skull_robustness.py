"""Changes of a head on a coarse phantom: what each leaves as it was, and that every method is scored after each."""

import csv

import numpy as np
import pytest

from benchmarks.skull_cases import skull_cases
from benchmarks.skull_robustness import AS_IT_IS, CHANGES, Head, changed_case, main, tilted, turned
from monai_sparse_refine.data import phantom_cases
from monai_sparse_refine.volume import as_mask, spacing_of


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    skulls = phantom_cases(tmp_path_factory.mktemp("skulls"), count=1, first_seed=4, spacing=3.0)
    return next(iter(skull_cases("phantoms", skulls, kinds=["parietotemporal"])))


def _volume(case, mask):
    return np.count_nonzero(as_mask(mask)) * float(np.prod(spacing_of(case.complete)))


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_head_keeps_its_hole(case, name):
    after = changed_case(case, CHANGES[name])
    assert not (as_mask(after.defective) & ~as_mask(after.complete)).any()
    share = _volume(after, after.true_implant) / _volume(case, case.true_implant)
    # Of coarse voxels that lost a part of their bone, turning leaves some without.
    assert 0.97 < share < 1.3
    changed = after.complete.shape != case.complete.shape or (after.complete != case.complete).any()
    assert changed == (name != AS_IT_IS)


def test_turning_turns_the_way_it_says():
    complete = np.zeros((21, 31, 13), dtype=bool)
    complete[7:14, 19:28, 4:9] = True  # in front of the middle
    head = Head(complete, complete & False, complete & False, np.array([1.0, 1.0, 2.0]))
    top = turned(head, degrees=(90.0, 0.0, 0.0))  # about the axis to the right: what was in front is on top
    middle = (np.array(top.complete.shape) - 1) / 2
    right, front, up = (np.argwhere(top.complete).mean(axis=0) - middle) * head.spacing
    assert (right, front) == pytest.approx((0, 0), abs=0.5) and up == pytest.approx(8, abs=0.5)
    size = np.count_nonzero(top.complete) * 2.0
    assert size == pytest.approx(np.count_nonzero(complete) * 2.0, rel=0.25)
    same = turned(head, degrees=(0.0, 0.0, 0.0))
    assert np.array_equal(same.complete, complete)


def test_a_tilted_gantry_moves_slices_and_nothing_else():
    complete = np.zeros((3, 5, 9), dtype=bool)
    complete[1, 2] = True  # a rod that stands upright
    head = tilted(Head(complete, complete, complete & False, np.array([1.0, 1.0, 2.0])), degrees=45.0)
    right, front, up = np.argwhere(head.complete).T
    assert set(right) == {1} and list(up) == list(range(9)) and set(np.diff(front)) == {2}  # 2 mm a slice
    assert front[4] - (head.complete.shape[1] - 1) / 2 == 0  # the middle stays


def test_faults_stay_out_of_the_hole(case):
    hole = as_mask(case.true_implant)
    for name in ("porous and speckled", "a head holder in the mask"):
        after = changed_case(case, CHANGES[name])
        more = after.complete.shape[2] - hole.shape[1]
        kept = as_mask(after.true_implant)[:, more:]
        assert np.array_equal(kept, hole)
        assert (as_mask(after.complete)[:, more:] & ~as_mask(case.complete)).any() or more > 0


def test_no_case_is_told():
    with pytest.raises(SystemExit, match="no case"):
        main([])


def test_command_scores_every_change_by_every_method(tmp_path):
    changes = [AS_IT_IS, "turned by 20 degrees"]
    arguments = ["--phantoms", "1", "--phantom-spacing", "4", "--phantom-dir", str(tmp_path / "phantoms")]
    arguments += ["--output", str(tmp_path), "--engine", "native"]
    table = tmp_path / "skull_robustness.csv"
    main([*arguments, "--kinds", "random", "--changes", *changes])
    rows = list(csv.DictReader(table.open()))
    assert [row["change"] for row in rows[::4]] == changes and len({row["method"] for row in rows}) == 4
    dice = {(row["change"], row["method"]): float(row["implant_dice"]) for row in rows}
    assert all(
        dice[change, "ours"] > 0.6 and dice[change, "identity (hole left open)"] == 0 for change in changes
    )
    page = (tmp_path / "skull_robustness.md").read_text()
    assert (
        "## procedural phantoms: 1 holes in 1 heads" in page
        and "| turned by 20 degrees | 0.000 / 0 |" in page
    )
    assert "earlier table" not in page
    more = ["--earlier", str(table), "--changes", "rolled by 12 degrees"]
    with pytest.raises(SystemExit, match="other holes"):
        main([*arguments, "--kinds", "cube", *more])
    main([*arguments, "--kinds", "random", *more])
    merged = list(csv.DictReader(table.open()))
    assert [row["change"] for row in merged[::4]] == [
        AS_IT_IS,
        "rolled by 12 degrees",
        "turned by 20 degrees",
    ]
    assert [row for row in merged if row["change"] in changes] == rows
    assert "All other changes are of an earlier table" in (tmp_path / "skull_robustness.md").read_text()
