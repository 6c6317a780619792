"""The accuracy benchmark on a coarse phantom: what it scores, what its baselines fill, what it writes."""

import csv
import json

import nibabel as nib
import numpy as np
import pytest
import torch

from benchmarks.skull_accuracy import FINE, main
from benchmarks.skull_baselines import identity, interpolation, mirror
from benchmarks.skull_cases import BUNDLE, OWN_HOLES, own_hole, skull_cases
from benchmarks.skull_scores import COLUMNS, score, summary
from monai_sparse_refine.data import phantom_cases, skull_phantom
from monai_sparse_refine.metrics import dice


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("phantoms")


@pytest.fixture(scope="module")
def case(folder):
    skulls = phantom_cases(folder, count=1, first_seed=90_001, spacing=4.0)
    return next(skull_cases("phantoms", skulls, kinds=["parietotemporal"]))


def test_holes_are_cut_natively_and_the_same_every_time(folder, case):
    skulls = phantom_cases(folder, count=1, first_seed=90_001, spacing=4.0)
    native, low = skull_cases("phantoms", skulls, kinds=["parietotemporal"], grids=[None, 32])
    assert torch.equal(native.defective.as_tensor(), case.defective.as_tensor())
    assert bool((native.defective <= native.complete).all()) and bool(native.true_implant.any())
    assert max(low.complete.shape[1:3]) == 32 and bool((low.defective <= low.complete).all())


def test_a_perfect_and_an_empty_implant_get_the_limits(case):
    perfect, empty = score(case, case.true_implant), score(case, identity(case.defective))
    assert perfect == {
        "implant_dice": 1.0,
        "border_dice": 1.0,
        "hd95_mm": 0.0,
        "re_percent": 0.0,
        "skull_dice": 1.0,
        "volume_error_percent": 0.0,
        "closed": 1.0,
        "outside_percent": 0.0,
    }
    assert empty["implant_dice"] == empty["closed"] == 0 and empty["volume_error_percent"] == 100
    assert empty["skull_dice"] > 0.9  # why the implant is what counts


def test_what_is_added_far_from_the_hole_counts_as_outside(case):
    everything = 1 - case.defective
    scores = score(case, everything)
    assert scores["outside_percent"] > 100 and scores["closed"] == 1


def test_nothing_is_cut_or_scored_at_a_hole_that_the_scan_had(folder, case, monkeypatch):
    skulls = phantom_cases(folder, count=1, first_seed=90_001, spacing=4.0)
    hole = np.argwhere(case.true_implant[0].numpy()).mean(axis=0)
    affine = case.complete.affine.numpy()
    middle = tuple(affine[:3, :3] @ hole + affine[:3, 3])
    monkeypatch.setitem(OWN_HOLES, skulls[0]["name"], (middle, 20.0))
    again = next(skull_cases("phantoms", skulls, kinds=["parietotemporal"]))
    near = own_hole(again.name, again.complete)
    assert again.unscored is not None and torch.equal(again.unscored, near)
    assert bool((case.true_implant.bool() & near).any()) and not bool(
        (again.true_implant.bool() & near).any()
    )
    volume = float(near.sum()) * 4.0**3
    assert volume == pytest.approx(4 / 3 * np.pi * 20.0**3, rel=0.1)
    filled = torch.as_tensor(again.true_implant) + (near & (again.defective == 0)).to(torch.uint8)
    assert score(again, filled) == score(again, again.true_implant)
    # Where no hole is clear of it, the kind is left out and named.
    monkeypatch.setitem(OWN_HOLES, skulls[0]["name"], (middle, 500.0))
    left_out: list[str] = []
    assert not list(skull_cases("set", skulls, kinds=["random"], skipped=left_out.append))
    assert left_out == [f"set: {skulls[0]['name']}, random"]


def test_baselines_fill_a_hole_on_one_side(case):
    for method, least in ((mirror, 0.4), (interpolation, 0.6)):
        implant = method(case.defective)
        assert not bool((implant.bool() & case.defective.bool()).any())
        assert dice(implant, case.true_implant) > least, method.__name__


def test_summary_is_median_mean_and_worst():
    scores = {column.name: column for column in COLUMNS}
    rows = [{"implant_dice": v, "hd95_mm": v, "closed": v} for v in (1.0, 0.0, 0.5, 1.0)]
    assert summary(rows, scores["implant_dice"]) == "0.750 / 0.625 / 0.000"
    assert summary(rows, scores["hd95_mm"]) == "0.75 / 0.62 / 1.00"
    assert summary(rows, scores["closed"]) == "62 %"


def test_command_writes_page_table_and_pictures(folder, tmp_path, capsys):
    arguments = ["--phantoms", "1", "--phantom-spacing", "5", "--phantom-dir", str(folder), "--pictures", "1"]
    main(
        [
            *arguments,
            "--kinds",
            "random",
            "cube",
            "--bundle",
            str(tmp_path / "none"),
            "--output",
            str(tmp_path),
        ]
    )
    page = (tmp_path / "skull_accuracy.md").read_text()
    assert "mirror image" in page and 'The row "ours" is left out' in page
    assert str(tmp_path) not in page  # a path of one machine means nothing to a reader
    rows = list(csv.DictReader((tmp_path / "skull_accuracy.csv").open()))
    assert len(rows) == 2 * 4
    assert {row["method"] for row in rows} == {
        "identity (hole left open)",
        "mirror image",
        "mirror image, registered",
        "surface interpolation",
    }
    assert (tmp_path / "pictures" / "skull_worst_1.png").stat().st_size > 1000
    assert "unseen kinds" in capsys.readouterr().out


def test_processes_that_share_the_skulls_find_the_same(folder, tmp_path):
    tables = []
    for jobs in ("1", "2"):
        output = tmp_path / jobs
        main(
            f"--phantoms 3 --phantom-spacing 6 --phantom-dir {folder} --kinds random --bundle {tmp_path / 'none'} "
            f"--pictures 0 --jobs {jobs} --output {output}".split()
        )
        rows = csv.DictReader((output / "skull_accuracy.csv").open())
        tables.append([{name: value for name, value in row.items() if name != "seconds"} for row in rows])
    assert tables[0] == tables[1]
    assert len({row["case"] for row in tables[0]}) == 3


def test_rows_of_given_weights_replace_those_of_an_earlier_table(folder, tmp_path):
    arguments = f"--phantoms 1 --phantom-spacing 6 --phantom-dir {folder} --kinds random --pictures 0"
    main(f"{arguments} --bundle {tmp_path / 'none'} --output {tmp_path}".split())
    table = tmp_path / "skull_accuracy.csv"
    earlier = list(csv.DictReader(table.open()))
    weights = BUNDLE / "models" / "model.pt"
    main(
        f"{arguments} --earlier {table} --short-weights {weights} --engine native --output {tmp_path}".split()
    )
    rows = {row["method"]: row for row in csv.DictReader(table.open())}
    assert list(rows) == [*(row["method"] for row in earlier), "ours, short", "ours"]
    assert [rows[row["method"]] for row in earlier[1:]] == earlier[1:], "only the open hole is scored again"
    assert float(rows["ours"]["implant_dice"]) > 0.5
    page = (tmp_path / "skull_accuracy.md").read_text()
    assert 'Scored anew: "ours, short", "ours"; all other rows are of an earlier table' in page


def test_of_fine_skulls_only_those_of_the_part_are_scored(tmp_path):
    skull = skull_phantom(90_000, spacing=5.0)
    (tmp_path / "fine").mkdir()
    for name in ("a_fine0", "b_fine0", "c_fine0"):
        mask = nib.Nifti1Image(skull[0].numpy().astype(np.uint8), skull.affine.numpy())
        nib.save(mask, tmp_path / "fine" / f"{name}.nii.gz")
    split = tmp_path / "split.json"
    split.write_text(json.dumps({"training": ["a"], "validation": [], "test": ["b", "c"]}))
    arguments = (
        f"--fine {tmp_path / 'fine'} --split {split} --kinds random --bundle {tmp_path / 'none'} --pictures 0"
    )
    for more, expected in (("", {"b_fine0", "c_fine0"}), ("--fine-cases 1", {"b_fine0"})):
        main(f"{arguments} {more} --output {tmp_path / 'out'}".split())
        rows = list(csv.DictReader((tmp_path / "out" / "skull_accuracy.csv").open()))
        assert {row["case"] for row in rows} == expected
        assert {row["test_set"] for row in rows} == {FINE}


def test_nothing_to_score_is_told(tmp_path):
    with pytest.raises(SystemExit, match="no test case"):
        main(["--output", str(tmp_path), "--bundle", str(tmp_path)])
