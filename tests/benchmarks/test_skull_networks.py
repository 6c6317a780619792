"""Networks as completion methods: the bundle's own configuration, with tiny networks and a coarse working grid."""

import shutil
from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor

from benchmarks.skull_networks import (
    BundleMethod,
    as_it_is,
    dense_twin,
    paper_recipe,
    paper_recipe_pruned_less,
)
from monai_sparse_refine.data import skull_phantom
from monai_sparse_refine.transforms import MirrorImage, RandCranialDefect

BUNDLE = Path(__file__).resolve().parents[2] / "bundles" / "skull_completion"
CHANNELS = [4, 4, 6]
COARSE = {"working_spacing": 12.0, "network_def#channels": CHANNELS}


@pytest.fixture(scope="module")
def skull() -> MetaTensor:
    return skull_phantom(3, spacing=6.0)


def _weights(folder: Path, network) -> Path:
    """State dict of an untrained network whose every voxel is bone, so that there is something to extract."""
    parser = ConfigParser()
    parser.read_config(str(BUNDLE / "configs" / "inference.json"))
    parser["engine"] = "native"
    parser["network_def#channels"] = CHANNELS
    parser["network_def"] = network(parser["network_def"])
    module = parser.get_parsed_content("network_def")
    for name, value in module.state_dict().items():
        if "heads" in name and name.endswith("bias"):
            value.fill_(5.0)
    torch.save(module.state_dict(), folder / "weights.pt")
    return folder / "weights.pt"


@pytest.mark.parametrize("network", [as_it_is, dense_twin])
def test_the_implant_lies_on_the_skulls_own_grid_and_outside_its_bone(skull, tmp_path, network):
    method = BundleMethod(
        BUNDLE, weights=_weights(tmp_path, network), network=network, overrides=COARSE, engine="native"
    )
    implant = method(skull)
    assert implant.shape == skull.shape and bool(implant.any())
    torch.testing.assert_close(implant.affine, skull.affine)
    assert not bool((implant.bool() & skull.bool()).any())


def test_the_mirror_image_is_made_once(skull, tmp_path, monkeypatch):
    made = []
    make = MirrorImage.__call__
    monkeypatch.setattr(
        MirrorImage, "__call__", lambda self, mask: made.append(mask.shape) or make(self, mask)
    )
    weights = _weights(tmp_path, as_it_is)
    holed = RandCranialDefect("parietotemporal").set_random_state(1)(skull)
    assert bool(BundleMethod(BUNDLE, weights=weights, overrides=COARSE, engine="native")(holed).any())
    assert len(made) == 1


def test_the_paper_recipe_sees_no_mirror_image(skull, tmp_path):
    method = BundleMethod(
        BUNDLE,
        weights=_weights(tmp_path, paper_recipe),
        network=paper_recipe,
        overrides=COARSE,
        engine="native",
    )
    assert method.before({"image": skull.clone()})["image"].shape[0] == 1
    assert sum(p.numel() for p in method.network.parameters()) == 434_686
    assert method(skull).shape == skull.shape


def test_the_paper_recipe_may_prune_as_little_as_the_bundle(skull, tmp_path):
    method = BundleMethod(
        BUNDLE,
        weights=_weights(tmp_path, paper_recipe),
        network=paper_recipe_pruned_less,
        overrides={**COARSE, "keep_threshold": -1.25},
        engine="native",
    )
    assert method.network.network.keep_threshold == -1.25
    assert method.before({"image": skull.clone()})["image"].shape[0] == 1


def test_a_bundles_own_weights_are_found(tmp_path):
    bundle = tmp_path / "bundle"
    shutil.copytree(BUNDLE / "configs", bundle / "configs")
    (bundle / "models").mkdir()
    shutil.move(_weights(tmp_path, as_it_is), bundle / "models" / "model.pt")
    assert isinstance(BundleMethod(bundle, overrides=COARSE, engine="native"), BundleMethod)


@pytest.mark.parametrize(("file", "network"), [("skull_dense_twin", dense_twin), ("skull_ch1", paper_recipe)])
def test_a_baseline_is_trained_as_it_is_scored(file, network):
    training = ConfigParser()
    configs = Path(__file__).resolve().parents[2] / "benchmarks" / "configs"
    training.read_config([str(BUNDLE / "configs" / "train.json"), str(configs / f"{file}.json")])
    inference = ConfigParser()
    inference.read_config(str(BUNDLE / "configs" / "inference.json"))
    inference["network_def"] = network(inference["network_def"])
    trained, scored = (parser.get_parsed_content("network_def") for parser in (training, inference))
    assert type(trained) is type(scored)
    scored.load_state_dict(trained.state_dict())
    trained_steps = [step["_target_"] for step in _enabled(training["train#random_transforms"])]
    assert any(step.endswith("MirrorImaged") for step in trained_steps) == (trained.in_channels == 3)
    checked_steps = [step["_target_"] for step in _enabled(training["validate#cut"])]
    assert any(step.endswith("MirrorImaged") for step in checked_steps) == (trained.in_channels == 3)


def _enabled(steps: list) -> list:
    return [step for step in steps if not step.get("_disabled_", False)]
