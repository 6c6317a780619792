"""Normalisation layers."""

from __future__ import annotations

from typing import Any

from torch import nn

from monai_sparse_refine.engine.native.modules_base import MinkowskiModuleBase, check_input
from monai_sparse_refine.engine.native.tensor import SparseTensor


class MinkowskiBatchNorm(MinkowskiModuleBase):
    """Batch normalisation over all rows; parameters and statistics are in ``bn``, as in MinkowskiEngine."""

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
    ) -> None:
        super().__init__()
        self.bn = nn.BatchNorm1d(
            num_features, eps=eps, momentum=momentum, affine=affine, track_running_stats=track_running_stats
        )

    def forward(self, input: SparseTensor) -> SparseTensor:
        """Normalise the features; without rows there is nothing to do, and statistics stay."""
        x: Any = check_input(input, self, self.bn.num_features)
        if len(x) == 0:
            return x.like(x.F * (self.bn.weight if self.bn.affine else 1))
        return x.like(self.bn(x.F))
