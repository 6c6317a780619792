"""What the scoring commands share: their options, and results that are written whole."""

import argparse
import csv

from benchmarks.score_commands import add_bundle_options, drawn_phantoms, write_results
from benchmarks.skull_cases import BUNDLE


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


def test_results_are_a_table_and_a_page(tmp_path, capsys):
    write_results(tmp_path / "new", "scores", [{"case": "a", "dice": 0.5}], "# Scores\n")
    assert sorted(file.name for file in (tmp_path / "new").iterdir()) == ["scores.csv", "scores.md"]
    assert list(csv.DictReader((tmp_path / "new/scores.csv").open())) == [{"case": "a", "dice": "0.5"}]
    assert (tmp_path / "new/scores.md").read_text() == "# Scores\n"
    assert "scores.md and .csv" in capsys.readouterr().out
