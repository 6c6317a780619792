"""Sparse generative refinement for MONAI: complete, super-resolve and repair binary masks at full resolution.

The rooms, each loaded on first use so that ``import monai_sparse_refine`` stays light:

- :mod:`monai_sparse_refine.engine`: the sparse-tensor engine: MinkowskiEngine, or its API in PyTorch
- :mod:`monai_sparse_refine.networks`: the generative U-net, and a dense-in, dense-out refiner around it
- :mod:`monai_sparse_refine.losses`: the level-wise generative loss
- :mod:`monai_sparse_refine.transforms`: dense to sparse and back, synthetic defects, implants
- :mod:`monai_sparse_refine.inferers`: any MONAI inferer, then the refiner
- :mod:`monai_sparse_refine.training`: handlers that resume, keep the best weights and watch the levels
- :mod:`monai_sparse_refine.metrics`: overlap and distance, in millimetres
- :mod:`monai_sparse_refine.data`: procedural phantoms, data lists, checks of a user's files
- :mod:`monai_sparse_refine.report`: figures, meshes and tables
- :mod:`monai_sparse_refine.cli`: the command line, ``python -m monai_sparse_refine refine IN OUT``
"""

from __future__ import annotations

import importlib
from types import ModuleType

__all__ = ["__version__"]

__version__ = "0.1.0"

_ROOMS = (
    "cli",
    "data",
    "engine",
    "errors",
    "inferers",
    "losses",
    "metrics",
    "networks",
    "report",
    "training",
    "transforms",
)


def __getattr__(name: str) -> ModuleType:
    """Load a room on first use."""
    if name in _ROOMS:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
