"""What a model zoo asks of every bundle: files, metadata, properties, sizes, plain weights, no absolute paths."""

import json
import re
from pathlib import Path

import jsonschema
import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow, verify_metadata, verify_net_in_out

import monai_sparse_refine

BUNDLES = Path(__file__).resolve().parents[2] / "bundles"
NAMES = sorted(path.name for path in BUNDLES.iterdir() if (path / "configs").is_dir())
REQUIRED = (
    "LICENSE",
    "configs/metadata.json",
    "configs/inference.json",
    "configs/train.json",
    "configs/evaluate.json",
    "configs/multi_gpu_train.json",
    "configs/logging.conf",
    "docs/README.md",
    "models/model.pt",
)
SCHEMA = Path(__file__).with_name("metadata_schema.json")


@pytest.fixture(params=NAMES)
def bundle(request) -> Path:
    return BUNDLES / request.param


@pytest.fixture
def metadata(bundle) -> dict:
    return json.loads((bundle / "configs" / "metadata.json").read_text())


def test_there_are_bundles():
    assert "skull_completion" in NAMES


@pytest.mark.parametrize("name", REQUIRED)
def test_required_files(bundle, name):
    path = bundle / name
    assert path.is_file() and path.stat().st_size > 0


def test_no_python_and_no_large_file(bundle):
    assert not list(bundle.rglob("*.py"))
    assert max(path.stat().st_size for path in bundle.rglob("*") if path.is_file()) <= 25 * 1024**2


def test_metadata_fits_the_schema(bundle, metadata):
    jsonschema.validate(metadata, json.loads(SCHEMA.read_text()))
    # MONAI's own check, with the schema at hand instead of a download.
    verify_metadata(meta_file=str(bundle / "configs" / "metadata.json"), filepath=str(SCHEMA))


def test_changelog_holds_the_version(metadata):
    assert metadata["version"] in metadata["changelog"]
    assert metadata["required_packages_version"]["monai-sparse-refine"] == monai_sparse_refine.__version__


def test_pins_are_those_of_the_constraints(metadata):
    lines = (BUNDLES.parent / "constraints.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if "==" in line and not line.startswith("#"))
    pins = {name.strip().lower(): version.split(";")[0].strip() for name, version in pins.items()}
    wanted = {name.lower(): version for name, version in metadata["required_packages_version"].items()}
    wanted.pop("monai-sparse-refine")
    wanted |= {
        "monai": metadata["monai_version"],
        "torch": metadata["pytorch_version"],
        "numpy": metadata["numpy_version"],
    }
    assert wanted == {name: pins.get(name) for name in wanted}


def test_weights_are_a_plain_state_dict_that_fits(bundle):
    config = ConfigWorkflow(
        config_file=str(bundle / "configs" / "inference.json"), workflow_type="infer", bundle_root=str(bundle)
    )
    config.parser.parse()
    network = config.parser.get_parsed_content("network_def")
    state = torch.load(bundle / "models" / "model.pt", weights_only=True)
    assert all(isinstance(value, torch.Tensor) for value in state.values())
    network.load_state_dict(state)


@pytest.mark.parametrize("engine", ["native", "minkowski"])
def test_network_takes_and_returns_what_the_metadata_says(bundle, engine, request):
    request.getfixturevalue(engine)
    verify_net_in_out(
        net_id="network_def",
        meta_file=str(bundle / "configs" / "metadata.json"),
        config_file=str(bundle / "configs" / "inference.json"),
        device="cpu",
        engine=engine,
    )


def test_no_absolute_paths(bundle):
    for path in [*(bundle / "configs").iterdir(), *(bundle / "docs").iterdir()]:
        if path.suffix in (".json", ".md", ".conf"):
            found = re.findall(r"[\"'( ](/(?:home|root|work|tmp|usr|mnt|data)/[^\"')\s]*)", path.read_text())
            assert not found, f"{path}: {found}"


def test_the_home_directory_may_be_given_by_a_tilde(bundle, monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    for config in sorted((bundle / "configs").glob("train*.json")):
        parser = ConfigParser()
        parser.read_config(config)
        parser["work_dir"] = "~/work"
        for name in ("ckpt_dir", "output_dir"):
            assert parser.get_parsed_content(name).startswith("/home/someone/work/"), (config.name, name)
