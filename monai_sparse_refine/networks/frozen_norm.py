"""Batch norms that keep their running statistics while the rest of a network trains."""

from __future__ import annotations

from torch import nn

from monai_sparse_refine.engine import get_engine

__all__ = ["freeze_norms"]


def freeze_norms(network: nn.Module, engine: str) -> None:
    """Put the batch norms of a network into evaluation mode; its `train` calls this last.

    Args:
        network: with norms of the engine's.
        engine: "auto", "minkowski" or "native".
    """
    kind = get_engine(engine).MinkowskiBatchNorm
    for module in network.modules():
        if isinstance(module, kind):
            module.eval()
