"""Which sparse-tensor engine computes: MinkowskiEngine, or the same API in PyTorch alone.

Networks ask :func:`get_engine` for a namespace and use MinkowskiEngine's names from it, so that they are
written once and their weights load on either engine.
"""

from __future__ import annotations

import importlib
import os
from types import ModuleType

import torch

__all__ = ["ENGINE_VARIABLE", "EngineNotFoundError", "available_engines", "get_engine"]

ENGINE_VARIABLE = "MONAI_SPARSE_ENGINE"
_MODULES = {
    "minkowski": "monai_sparse_refine.engine.minkowski",
    "native": "monai_sparse_refine.engine.native",
}


class EngineNotFoundError(ImportError):
    """The engine that was asked for is not installed, or cannot use the device that was asked for."""


def available_engines(*, device: torch.device | str | None = None) -> tuple[str, ...]:
    """Names of the engines that can be used, the one that "auto" would prefer first.

    Args:
        device: where the tensors will live; None means the CPU.
    """
    names = []
    for name in _MODULES:
        try:
            _load(name, device)
        except EngineNotFoundError:
            continue
        names.append(name)
    return tuple(names)


def get_engine(name: str = "auto", *, device: torch.device | str | None = None) -> ModuleType:
    """Return a namespace with MinkowskiEngine's names (``SparseTensor``, ``MinkowskiConvolution``, ...).

    Args:
        name: "minkowski" for the real library, "native" for the same API in PyTorch alone, "auto" for
            MinkowskiEngine where it is installed and can use the device, else native. The environment
            variable ``MONAI_SPARSE_ENGINE`` takes the place of "auto", never of a name that was asked for.
        device: where the tensors will live. None means the CPU; for "auto" a GPU where there is one, since
            networks are made before they are moved.

    Raises:
        ValueError: the name is none of the above.
        EngineNotFoundError: the named engine is not installed or cannot use the device.
    """
    asked_by = "name"
    if name == "auto" and (chosen := os.environ.get(ENGINE_VARIABLE, "").strip().lower()):
        name, asked_by = chosen, f"the environment variable {ENGINE_VARIABLE}"
    if name == "auto":
        if device is None and torch.cuda.is_available():
            device = "cuda"
        try:
            return _load("minkowski", device)
        except EngineNotFoundError:
            return _load("native", device)
    if name not in _MODULES:
        choices = ", ".join(repr(choice) for choice in ("auto", *_MODULES))
        raise ValueError(f"{asked_by} is {name!r}, expected one of {choices}")
    return _load(name, device)


def _load(name: str, device: torch.device | str | None) -> ModuleType:
    module = importlib.import_module(_MODULES[name])
    kind = torch.device("cpu" if device is None else device).type
    if name == "minkowski" and not module.supports_device(kind):
        raise EngineNotFoundError(
            f"device is {kind!r}, which the installed MinkowskiEngine was not built for. Use the native "
            'engine (name "native" or "auto"), or build it anew: '
            "python -m monai_sparse_refine.engine.install --force"
        )
    return module
