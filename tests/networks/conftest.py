from types import ModuleType

import pytest
import torch


@pytest.fixture
def engine_name(engine: ModuleType) -> str:
    """Name of each engine in turn."""
    return engine.__name__.rsplit(".", 1)[-1]


@pytest.fixture
def shell() -> torch.Tensor:
    """A hollow ball [1, 1, 24, 26, 22] of thickness 2 voxels."""
    axes = [torch.arange(n) - (n - 1) / 2 for n in (24, 26, 22)]
    x, y, z = torch.meshgrid(*axes, indexing="ij")
    radius = (x**2 + y**2 + z**2).sqrt()
    return ((radius < 9) & (radius > 7)).float()[None, None]


@pytest.fixture
def holed(shell: torch.Tensor) -> torch.Tensor:
    """The shell with its cap cut off."""
    cut = shell.clone()
    cut[..., 15:] = 0
    return cut
