"""The accuracy tables end to end, on generated skulls: page, CSV and figures; what is done is not done again."""

import csv
import json

import nibabel as nib
import numpy as np
import pytest

from benchmarks import paper_accuracy
from benchmarks.paper_accuracy import SHIPPED, main
from benchmarks.skull_cases import BUNDLE
from monai_sparse_refine.data import phantom_cases


@pytest.fixture
def arguments(tmp_path, monkeypatch):
    monkeypatch.setattr(paper_accuracy, "SIZES", {"ct": (32, 48), "mri": (16, 24)})
    brains, patients = tmp_path / "brains", tmp_path / "patients"
    brains.mkdir()
    x, y, z = np.mgrid[:30, :36, :28] - np.array([15, 18, 14]).reshape(3, 1, 1, 1)
    for number in range(2):
        brain = (x / 13) ** 2 + (y / 16) ** 2 + (z / 12) ** 2 < 1 - number / 50
        image = nib.Nifti1Image(brain.astype(np.uint8), np.diag([4.0, 4.0, 4.0, 1.0]))
        nib.save(image, brains / f"p{number}_brain.nii.gz")
    names = [case["name"] for case in phantom_cases(patients, count=2, first_seed=2_100, spacing=4.0)]
    split = tmp_path / "split.json"
    split.write_text(json.dumps({"training": names[:1], "test": names[1:]}))
    return [
        *["--patients", str(patients), "--split", str(split), "--phantoms", "0", "--brains", str(brains)],
        "--test-brains",
        "1",
        *["--networks", "sparse ch1", "dense ch1", "--seconds", "0.1", "0.1", "--max-cases", "1"],
        *["--training-sizes", "1", "2", "--bundle", str(BUNDLE)],
        *["--work-dir", str(tmp_path / "work"), "--output", str(tmp_path / "out")],
    ]


@pytest.mark.slow
def test_everything_is_scored_and_a_second_run_does_nothing_again(tmp_path, arguments, monkeypatch):
    main(arguments)
    rows = list(csv.DictReader((tmp_path / "out" / "paper_accuracy.csv").open()))
    found = {(row["skulls"], row["size"], row["method"]) for row in rows}
    methods = ("input mask (identity)", "sparse ch1", "dense ch1")
    assert found == {
        (skulls, size, method)
        for skulls, sizes in (("CT skulls", ("32", "48")), ("MRI-like skulls", ("16", "24")))
        for size in sizes
        for method in (*methods, *([SHIPPED] if skulls == "CT skulls" else []))
    }
    shipped = [float(row["implant_dice"]) for row in rows if row["method"] == SHIPPED]
    assert min(shipped) > 0.3  # grids of 7 and 4.7 mm
    identity = [row for row in rows if row["method"] == methods[0]]
    assert all(float(row["implant_dice"]) == 0 and float(row["dice"]) < 1 for row in identity)
    fine = {
        row["method"]: row["weights_of"]
        for row in rows
        if (row["skulls"], row["size"]) == ("CT skulls", "48")
    }
    assert fine == {
        methods[0]: "",
        SHIPPED: "",
        "sparse ch1": "32",
        "dense ch1": "48",
    }  # see --training-sizes
    page = (tmp_path / "out" / "paper_accuracy.md").read_text()
    assert "Not trained at 48: sparse ch1" in page and "## MRI-like skulls" in page
    for name in ("boxes", "voxels"):
        assert (tmp_path / "out" / f"paper_accuracy_{name}.png").stat().st_size > 1000

    def fail(*_, **__):
        raise AssertionError("done again")

    monkeypatch.setattr(paper_accuracy, "predict", fail)
    main(arguments)
    assert (tmp_path / "out" / "paper_accuracy.md").read_text() == page

    again = tmp_path / "out" / "paper_accuracy.csv"
    monkeypatch.setattr(paper_accuracy, "train", fail)
    main([*arguments, "--earlier", str(again), "--work-dir", str(tmp_path / "other")])
    assert list(csv.DictReader(again.open())) == rows
    told = (tmp_path / "out" / "paper_accuracy.md").read_text()
    assert "of an earlier run" in told and "of an earlier run" not in page
    assert [line for line in told.splitlines() if line.startswith("| ")] == [
        line for line in page.splitlines() if line.startswith("| ")
    ]


def test_no_data_is_told():
    with pytest.raises(SystemExit, match="--patients"):
        main([])
