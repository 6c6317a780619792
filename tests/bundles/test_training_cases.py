"""What the stream of train.json gives: the grid of its cases, and cases that come again."""

from pathlib import Path
from typing import Any

import pytest
from monai.bundle import ConfigParser
from monai.utils import set_determinism

from monai_sparse_refine.training import EchoDataset
from monai_sparse_refine.volume import spacing_of

BUNDLE = Path(__file__).resolve().parents[2] / "bundles" / "skull_completion"


def _stream(skulls: Path, work: Path, **overrides: Any) -> EchoDataset:
    parser = ConfigParser()
    parser.read_config(str(BUNDLE / "configs" / "train.json"))
    given = {"bundle_root": str(BUNDLE), "dataset_dir": str(skulls), "work_dir": str(work), "phantoms": 0}
    for name, value in {**given, **overrides}.items():
        parser[name] = value
    set_determinism(seed=0)
    dataset = parser.get_parsed_content("train#dataset")
    set_determinism(seed=None)
    assert isinstance(dataset, EchoDataset)
    return dataset


@pytest.mark.parametrize(("asked", "spacing"), [(None, 6.0), ("$None", 6.0), (8.0, 8.0)])
def test_without_a_working_spacing_cases_keep_their_own_grid(tiny_skulls, tmp_path, asked, spacing):
    case = _stream(tiny_skulls, tmp_path, working_spacing=asked)[0]
    # Coarse skulls are scaled by up to 12 % by their spacing alone.
    assert spacing_of(case["label"]) == pytest.approx([spacing] * 3, rel=0.13)
    assert case.keys() == {"image", "label"} and case["image"].shape == (3, *case["label"].shape[1:])


def test_cases_come_again_flipped_and_cropped_anew(tiny_skulls, tmp_path):
    dataset = _stream(tiny_skulls, tmp_path, working_spacing=6.0, **{"train#dataset#warm_up": 1})
    assert dataset.times == 4
    dataset.times = 1000  # the first case, for ever
    given = [dataset[0]["label"] for _ in range(12)]
    assert len({tuple(label.shape) for label in given}) > 1
    assert len({float(label.sum()) for label in given}) > 1
