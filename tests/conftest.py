"""Fixtures and markers that every test can use."""

from __future__ import annotations

import os
from pathlib import Path
from types import ModuleType

import pytest
import torch
from hypothesis import settings

from monai_sparse_refine.engine import EngineNotFoundError, get_engine

REPOSITORY = Path(__file__).resolve().parent.parent
DATA_VARIABLE = "MONAI_SPARSE_DATA"
EXPLORE_VARIABLE = "MONAI_SPARSE_EXPLORE"
REQUIRE_MINKOWSKI_VARIABLE = "MONAI_SPARSE_REQUIRE_MINKOWSKI"


# The same examples in every run, so that a suite that passed passes; set the variable to look for new ones.
# No deadline: a first example that loads or compiles something is slow on a busy machine, not wrong.
settings.register_profile("reproducible", derandomize=True, deadline=None)
settings.register_profile("explore", deadline=None)
settings.load_profile("reproducible" if os.environ.get(EXPLORE_VARIABLE, "") in ("", "0") else "explore")


def pytest_configure(config: pytest.Config) -> None:
    # One thread: with more, MinkowskiEngine's voxel counts can differ between runs.
    torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="needs a CUDA GPU"))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real volumes that are not part of the repository."""
    folder = Path(os.environ.get(DATA_VARIABLE) or REPOSITORY / ".." / "shared" / "data").resolve()
    if not folder.is_dir():
        pytest.skip(f"no real volumes in {folder}; set {DATA_VARIABLE} to the folder that has them")
    return folder


@pytest.fixture(scope="session")
def minkowski() -> ModuleType:
    """The real MinkowskiEngine behind our guards; `make test` turns its absence into a failure."""
    try:
        return get_engine("minkowski")
    except EngineNotFoundError as error:
        if os.environ.get(REQUIRE_MINKOWSKI_VARIABLE, "") not in ("", "0"):
            pytest.fail(f"{REQUIRE_MINKOWSKI_VARIABLE} is set, but: {error}")
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def native() -> ModuleType:
    """The engine in PyTorch alone."""
    return get_engine("native")


@pytest.fixture(scope="session", params=["native", "minkowski"])
def engine(request: pytest.FixtureRequest) -> ModuleType:
    """Each engine in turn."""
    return request.getfixturevalue(request.param)
