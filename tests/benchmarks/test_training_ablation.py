"""The training ablation at toy size: two variants on coarse phantoms, trained, scored and resumed."""

import csv
import json

import pytest
import torch
from monai.bundle import ConfigParser

from benchmarks.distilled_loss import DistilledLoss
from benchmarks.skull_cases import BUNDLE
from benchmarks.training_ablation import RECIPE, VARIANTS, main

FOLDERS = ("input_corrupted", "input_corrupted_seed_3")


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_changes_what_it_says(name):
    parser = ConfigParser()
    parser.read_config(str(BUNDLE / "configs" / "train.json"))
    for key, value in RECIPE.items():
        parser[key] = value
    for key, value in VARIANTS[name].train.items():
        before = parser[key] if key.split("#")[-1] not in ("level_weights", "teacher") else None
        assert before != value
        parser[key] = value
    if "taught" in name:
        assert isinstance(parser.get_parsed_content("loss"), DistilledLoss)
    if "level" in name:
        loss = parser.get_parsed_content("loss")
        assert loss.level_weights is None or len(loss.level_weights) == len(parser["channels"]) - 1


def test_a_silenced_channel_is_zero_in_training():
    parser = ConfigParser()
    parser.read_config(str(BUNDLE / "configs" / "train.json"))
    for key, value in VARIANTS["without the mirror image"].train.items():
        parser[key] = value
    step = parser.get_parsed_content("train#cheap_transforms#2")
    image = step({"image": torch.ones(3, 2, 2, 2), "label": torch.ones(1, 2, 2, 2), "other": 1})
    assert image["image"].amax((1, 2, 3)).tolist() == [1, 0, 1] and "other" not in image


def test_the_corruption_follows_the_recipes_own_hole():
    train, overlay = (
        json.loads((BUNDLE / "configs" / f"{name}.json").read_text()) for name in ("train", "corrupted_input")
    )
    (entry,) = overlay.items()
    place = int(entry[0].rsplit("#", 1)[1])
    cut, corruption = entry[1]["transforms"]
    assert (
        entry[0] == f"train#random_transforms#{place}" and cut == train["train"]["random_transforms"][place]
    )
    assert corruption["keys"] == "image" and 0 < corruption["prob"] < 1


def test_wrong_options_are_told_before_any_training(tmp_path):
    with pytest.raises(SystemExit, match="multiple of 10"):
        main(["--steps", "15", "--validation-phantoms", "1"])
    with pytest.raises(SystemExit, match="nothing to score on"):
        main(["--work-dir", str(tmp_path)])


def test_variants_are_trained_scored_and_not_done_twice(tmp_path, capsys):
    arguments = ["--phantoms", "2", "--validation-phantoms", "1", "--phantom-spacing", "6", "--steps", "10"]
    arguments += ["--kinds", "cube", "--work-dir", str(tmp_path / "work"), "--output", str(tmp_path)]
    arguments += ["--set", "working_spacing=6.0", "batch_size=1", "validation_phantoms=1"]
    for seeds in (["0"], ["0", "3"]):
        main([*arguments, "--variants", "input corrupted", "--seeds", *seeds])
    out = capsys.readouterr().out
    assert "input corrupted: done before" in out and "input corrupted, seed 3: trained" in out
    rows = list(csv.DictReader((tmp_path / "training_ablation.csv").open()))
    trained = ["input corrupted", "input corrupted, seed 3"]
    assert [row["method"] for row in rows] == ["identity (hole left open)", *trained]
    assert [row["steps"] for row in rows] == ["0", "10", "10"] and float(rows[0]["implant_dice"]) == 0
    assert len({row["case"] + row["kind"] for row in rows}) == 1
    page = (tmp_path / "training_ablation.md").read_text()
    assert (
        "## procedural phantoms, unseen kinds: 1 holes" in page and "| input corrupted, seed 3 | 10 |" in page
    )
    one, other = (torch.load(tmp_path / "work" / name / "weights.pt") for name in FOLDERS)
    assert any(not torch.equal(one[key], other[key]) for key in one)
