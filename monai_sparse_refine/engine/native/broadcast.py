"""Layers in which a global feature meets every row of its batch item."""

from __future__ import annotations

import torch
from torch import Tensor

from monai_sparse_refine.engine.native.feature_tensor import FeatureTensor, check_same_manager
from monai_sparse_refine.engine.native.modules_base import MinkowskiModuleBase, check_input, check_rows
from monai_sparse_refine.engine.native.reduce import group_spread, row_groups
from monai_sparse_refine.engine.native.tensor import SparseTensor


class MinkowskiBroadcastBase(MinkowskiModuleBase):
    """Finds the global row of every row."""

    def forward(self, input: FeatureTensor, input_glob: SparseTensor) -> FeatureTensor:
        """Combine.

        Args:
            input: N rows.
            input_glob: one row per batch item, such as global pooling gives.

        Raises:
            ValueError: if a batch item has no global row.
        """
        x, top = check_rows(input, self), check_input(input_glob, self)
        check_same_manager(x, top)
        return x.like(self.combine(x.F, self._spread(x, top)))

    def combine(self, rows: Tensor, spread: Tensor) -> Tensor:
        """(N, C') from the rows (N, C) and the global features of each (N, Cg)."""
        raise NotImplementedError

    def _spread(self, x: FeatureTensor, top: SparseTensor) -> Tensor:
        items, order = torch.sort(top.C[:, 0])
        batch = x.C[:, 0].to(items.dtype).contiguous()
        place = torch.searchsorted(items.contiguous(), batch).clamp_(max=max(0, len(items) - 1))
        if len(batch) and (len(items) == 0 or not torch.equal(items[place], batch)):
            raise ValueError(f"input_glob has no row for some batch items (it has {items.tolist()[:8]} ...).")
        return group_spread(top.F, row_groups(order[place], len(items)))


class MinkowskiBroadcastAddition(MinkowskiBroadcastBase):
    """x + global."""

    def combine(self, rows: Tensor, spread: Tensor) -> Tensor:
        """Elementwise sum."""
        return rows + spread


class MinkowskiBroadcastMultiplication(MinkowskiBroadcastBase):
    """x * global."""

    def combine(self, rows: Tensor, spread: Tensor) -> Tensor:
        """Elementwise product."""
        return rows * spread


class MinkowskiBroadcast(MinkowskiBroadcastBase):
    """The global feature at every row."""

    def combine(self, rows: Tensor, spread: Tensor) -> Tensor:
        """The second alone."""
        return spread


class MinkowskiBroadcastConcatenation(MinkowskiBroadcastBase):
    """The row's features, then the global ones."""

    def combine(self, rows: Tensor, spread: Tensor) -> Tensor:
        """Side by side."""
        return torch.cat([rows, spread], dim=1)
