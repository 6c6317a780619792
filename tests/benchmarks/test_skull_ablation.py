"""The ablation on a coarse phantom with the bundle's network: every row is scored with its own option."""

import csv

import pytest

from benchmarks.skull_ablation import VARIANTS, main
from benchmarks.skull_cases import BUNDLE
from benchmarks.skull_networks import BundleMethod
from monai_sparse_refine.data import load_weights, skull_phantom
from monai_sparse_refine.networks import MaskRefiner

NETWORK = {"in_channels": 3, "channels": [8, 16, 32, 48, 64, 96, 128], "fuse": True, "active_threshold": 0.25}


@pytest.fixture(scope="module")
def weights():
    """The bundle's own: an untrained network fills the whole head, which takes minutes on its finer grids."""
    return BUNDLE / "models" / "model.pt"


def test_command_scores_every_variant(weights, tmp_path):
    chosen = ["the bundle", "mirror image silenced", "without test-time mirroring"]
    arguments = [
        "--phantoms",
        "1",
        "--phantom-spacing",
        "5",
        "--phantom-dir",
        str(tmp_path),
        "--kinds",
        "cube",
    ]
    (tmp_path / "finer").mkdir()
    (tmp_path / "finer" / "skull_ablation.md").touch()
    main([*arguments, "--weights", str(weights), "--output", str(tmp_path), "--variants", *chosen])
    rows = list(csv.DictReader((tmp_path / "skull_ablation.csv").open()))
    assert [row["method"] for row in rows][-3:] == chosen and len(rows) == 7
    page = (tmp_path / "skull_ablation.md").read_text()
    assert "unseen kinds: 1 holes" in page and all(name in page for name in chosen)
    assert "[finer](finer/skull_ablation.md)" in page


def test_options_reach_the_network(weights):
    skull = skull_phantom(3, spacing=6.0)
    coarse = {"working_spacing": 12.0}
    assert load_weights(MaskRefiner(**NETWORK, engine="native"), weights)
    plain = BundleMethod(BUNDLE, weights=weights, overrides=coarse, engine="native")
    assert plain.before({"image": skull.clone()})["image"].shape[0] == 3
    binary = VARIANTS["binary working masks"]["overrides"]
    method = BundleMethod(BUNDLE, weights=weights, overrides={**coarse, **binary}, engine="native")
    given = method.before({"image": skull.clone()})["image"]
    assert set(given.unique().tolist()) <= {0.0, 1.0}


def test_nothing_to_score_is_told(tmp_path, weights):
    with pytest.raises(SystemExit, match="no case"):
        main(["--weights", str(weights), "--output", str(tmp_path), "--variants", "the bundle"])
