"""The engines' benchmark: one measurement, the table, and which bars are met."""

from __future__ import annotations

import argparse
from pathlib import Path

import nibabel
import numpy as np
import pytest

from benchmarks import engine_speed
from benchmarks.engine_steps import load, measure, shape_of


@pytest.mark.parametrize("task", ["layer", "ch1"])
@pytest.mark.parametrize("mode", ["inference", "training"])
def test_a_measurement(task: str, mode: str) -> None:
    result = measure(volume="16,16,16", task=task, mode=mode, side="native", repeats=1)
    assert set(result) == {"seconds", "gigabytes", "voxels"}
    assert 0 < result["seconds"] < 60 and 0 <= result["gigabytes"] < 1
    assert result["voxels"] == len(load("16,16,16")[0])


def test_what_is_tried(tmp_path: Path) -> None:
    mask = str(tmp_path / "mask.nii.gz")
    nibabel.save(nibabel.Nifti1Image(np.ones((3, 4, 5), np.uint8), np.eye(4)), mask)
    assert shape_of(mask) == (3, 4, 5) and len(load(mask)[1]) == 60
    assert engine_speed.applies("dense", "ch1", mask, 60) and not engine_speed.applies(
        "dense", "ch1", mask, 59
    )
    assert engine_speed.applies("spconv", "layer", mask, 0) and not engine_speed.applies(
        "spconv", "ch1", mask, 1e9
    )
    assert engine_speed.applies("native", "ch2", "256,256,256", 0)
    assert not engine_speed.applies("native", "ch2", "512,512,256", 0)


def result(seconds: float, gigabytes: float) -> dict[str, float]:
    return {"seconds": seconds, "gigabytes": gigabytes, "voxels": 1000}


def test_the_best_seconds_and_the_median_memory_of_all_rounds() -> None:
    entries = [result(3, 1), result(2, 5), result(4, 2)]
    assert engine_speed.summary(entries) == {"seconds": 2, "gigabytes": 2, "voxels": 1000}
    assert engine_speed.summary([result(3, 1), {"missing": "not installed"}]) == {"missing": "not installed"}


def test_the_table_and_the_bars() -> None:
    volume = "256,256,256"
    results = {
        (volume, "ch1", "inference", "native"): result(0.5, 0.1),
        (volume, "ch1", "inference", "minkowski"): result(4, 0.15),
        (volume, "ch1", "inference", "dense"): result(4, 2),
        (volume, "ch1", "inference", "spconv"): {"missing": "not installed"},
    }
    lines = engine_speed.table(results, argparse.Namespace(threads=2, rounds=1))
    assert "| 256x256x256 | ch1 | inference | minkowski | 1000 | 4.000 | 0.15 | 8.0 | 1.5 |" in lines
    assert "| 256x256x256 | ch1 | inference | spconv | not installed | | | | |" in lines
    bars = engine_speed.bars(results)
    assert "| 256x256x256 ch1 inference against minkowski, seconds | 8.0 times | >= 6 | met |" in bars
    assert (
        "| 256x256x256 ch1 inference against minkowski, gigabytes | 1.5 times | >= 2 | **missed** |" in bars
    )
    assert "| 256x256x256 ch1 inference against dense, gigabytes | 20.0 times | >= 10 | met |" in bars
    assert engine_speed.bars({}) == []


def test_seconds_per_voxel_are_held_to_their_growth() -> None:
    results = {
        ("128,128,128", "ch1", "inference", "native"): {"seconds": 1, "gigabytes": 1, "voxels": 100},
        ("512,512,256", "ch1", "inference", "native"): {"seconds": 14, "gigabytes": 1, "voxels": 1000},
    }
    (line,) = [bar for bar in engine_speed.bars(results) if "per voxel" in bar]
    assert line.endswith("| 1.40 times | <= 1.3 | **missed** |")


def test_a_volume_that_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        engine_speed.main(["--volumes", "no-such-file.nii.gz"])
    assert (
        "'no-such-file.nii.gz' is neither a shape such as 128,128,128 nor a file" in capsys.readouterr().err
    )
