"""train.json on the folders of the public data sets, with overrides alone (docs/train_on_your_data.md has them)."""

from pathlib import Path

import nrrd
import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from monai_sparse_refine.data import skull_phantom
from monai_sparse_refine.transforms import RandCranialDefect

# Complete skulls and given holes, instead of holes cut while training.
GIVEN_HOLES = {
    **{f"train#deterministic_transforms#{step}#keys": "['image','label']" for step in range(4)},
    "train#random_transforms#0#keys": "['image','label']",
    "train#random_transforms#1#keys": "['image','label']",
    "train#random_transforms#2#_disabled_": True,
    "train#random_transforms#3#_disabled_": True,
    "validate#cut#0#_disabled_": True,
}


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
        **{"validate#dataset_data": "@real_validation"},
        **GIVEN_HOLES,
    )
