"""What the scoring commands share: their options, and results that are written whole."""

import argparse
import csv

import nibabel as nib

from benchmarks.score_commands import (
    SCANS,
    TEST_SEED,
    add_bundle_options,
    add_whole_head_options,
    drawn_phantoms,
    whole_heads,
    write_results,
)
from benchmarks.skull_cases import BUNDLE
from monai_sparse_refine.data import skull_phantom


def test_options_say_which_bundle_and_where_to():
    parser = argparse.ArgumentParser()
    add_bundle_options(parser)
    options = parser.parse_args(["--weights", "mine.pt"])
    assert (options.bundle, options.weights, options.engine) == (str(BUNDLE), "mine.pt", "auto")
    assert options.output == "docs/results"


def test_phantoms_are_those_that_were_asked_for(tmp_path):
    options = argparse.Namespace(phantoms=2, phantom_dir=str(tmp_path), phantom_spacing=6.0)
    assert [skull["name"] for skull in drawn_phantoms(options, first_seed=40)] == [
        "phantom_00040_6mm",
        "phantom_00041_6mm",
    ]


def test_whole_heads_are_those_that_were_asked_for(tmp_path):
    skull = skull_phantom(0, spacing=6.0)
    nib.save(nib.Nifti1Image(skull[0].numpy(), skull.affine.numpy()), tmp_path / "mine.nii.gz")
    parser = argparse.ArgumentParser()
    add_whole_head_options(parser)
    assert parser.parse_args([]).scan_names == list(SCANS) and not whole_heads(parser.parse_args([]))
    scans = ["--scans", str(tmp_path), "--scan-names", "mine"]
    phantoms = ["--phantoms", "1", "--phantom-spacing", "6", "--phantom-dir", str(tmp_path / "phantoms")]
    found = whole_heads(parser.parse_args(scans + phantoms))
    assert {name: [skull["name"] for skull in skulls] for name, skulls in found.items()} == {
        "whole-head scans": ["mine"],
        "procedural phantoms": [f"phantom_{TEST_SEED}_6mm"],
    }


def test_results_are_a_table_and_a_page(tmp_path, capsys):
    write_results(tmp_path / "new", "scores", [{"case": "a", "dice": 0.5}], "# Scores\n")
    assert sorted(file.name for file in (tmp_path / "new").iterdir()) == ["scores.csv", "scores.md"]
    assert list(csv.DictReader((tmp_path / "new/scores.csv").open())) == [{"case": "a", "dice": "0.5"}]
    assert (tmp_path / "new/scores.md").read_text() == "# Scores\n"
    assert "scores.md and .csv" in capsys.readouterr().out
