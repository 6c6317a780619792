"""train.json on the folders of the public data sets, with overrides alone (docs/train_on_your_data.md has them)."""

import re
from pathlib import Path

import nrrd
import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from monai_sparse_refine.data import skull_phantom
from monai_sparse_refine.transforms import RandCranialDefect

DOCS = Path(__file__).parents[2] / "docs" / "train_on_your_data.md"


def _save(path: Path, mask: MetaTensor) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    spacing = mask.affine.diagonal()[:3].numpy()
    # NRRD files of these sets count to the left and to the back.
    header = {
        "space": "left-posterior-superior",
        "space directions": np.diag(spacing * (-1, -1, 1)),
        "space origin": mask.affine[:3, 3].numpy() * (-1, -1, 1),
    }
    nrrd.write(str(path), mask[0].numpy().astype(np.uint8), header)


@pytest.fixture(scope="module")
def data_sets(tmp_path_factory) -> Path:
    """SkullBreak with one kind of hole, and MUG500+, two skulls each."""
    root = tmp_path_factory.mktemp("data")
    for seed in range(2):
        skull = skull_phantom(seed, spacing=6.0)
        _save(root / "SkullBreak" / "complete_skull" / f"{seed:03d}.nrrd", skull)
        cut = RandCranialDefect(("random",)).set_random_state(seed)
        _save(root / "SkullBreak" / "defective_skull" / "random_1" / f"{seed:03d}.nrrd", cut(skull))
        _save(root / "MUG500" / f"A{seed + 1:04d}" / f"A{seed + 1:04d}.nrrd", skull)
    return root


def _given_holes() -> dict[str, str]:
    """The overrides that the documentation gives for holes that a data set has, instead of cutting them."""
    found = re.search(r'GIVEN_HOLES="(.*?)"', DOCS.read_text(encoding="utf-8"), re.DOTALL)
    assert found, DOCS
    return dict(line.strip().removeprefix("--").split(maxsplit=1) for line in found[1].splitlines())


def _train(start_training, work: Path, **overrides: object) -> Path:
    process = start_training("train.json", work_dir=work, max_epochs=1, validation_phantoms=1, **overrides)
    text = process.communicate(timeout=300)[0]
    assert process.returncode == 0, text
    state = torch.load(work / "checkpoints" / "checkpoint_epoch=1.pt", weights_only=True)
    # Two skulls and batches of two: one step.
    assert {int(entry["step"]) for entry in state["optimizer"]["state"].values()} == {1}
    return work


@pytest.mark.slow
def test_complete_skulls_of_mug500(start_training, data_sets, tmp_path):
    _train(
        start_training,
        tmp_path,
        dataset_dir=data_sets / "MUG500",
        real_training="$monai_sparse_refine.data.mug500_skulls(@dataset_dir)",
    )


@pytest.mark.slow
def test_complete_skulls_of_skullbreak(start_training, data_sets, tmp_path):
    _train(start_training, tmp_path, dataset_dir=data_sets / "SkullBreak" / "complete_skull")


@pytest.mark.slow
def test_given_holes_of_skullbreak(start_training, data_sets, tmp_path):
    cases = "$monai_sparse_refine.data.skullbreak_cases(@dataset_dir, kinds=['random_1'])"
    _train(
        start_training,
        tmp_path,
        dataset_dir=data_sets / "SkullBreak",
        real_training=cases,
        real_validation=cases,
        **{"phantoms": 1, **_given_holes()},
    )
