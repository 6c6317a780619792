"""Layers that act on every feature alone: torch.nn's own, applied to the features."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import nn

from monai_sparse_refine.engine.native.modules_base import MinkowskiModuleBase, check_input
from monai_sparse_refine.engine.native.tensor import SparseTensor


class MinkowskiNonlinearityBase(MinkowskiModuleBase):
    """Applies ``MODULE`` (constructed with the same arguments) to the features."""

    MODULE: ClassVar[type[nn.Module]]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()
        self.module = self.MODULE(*args, **kwargs)

    def forward(self, input: SparseTensor) -> SparseTensor:
        """Apply to the features."""
        x = check_input(input, self)
        return x.like(self.module(x.F))


class MinkowskiReLU(MinkowskiNonlinearityBase):
    """torch.nn.ReLU."""

    MODULE = nn.ReLU
