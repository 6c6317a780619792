"""Removing and uniting rows."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from monai_sparse_refine.engine.native.feature_tensor import check_same_manager
from monai_sparse_refine.engine.native.gather_gemm import take_rows
from monai_sparse_refine.engine.native.modules_base import MinkowskiModuleBase, check_input, result_on
from monai_sparse_refine.engine.native.tensor import SparseTensor
from monai_sparse_refine.engine.native.union import union_maps, union_rows


class MinkowskiPruning(MinkowskiModuleBase):
    """Keep the rows that a boolean mask marks, in their order."""

    def forward(self, input: SparseTensor, mask: Tensor) -> SparseTensor:
        """Prune.

        Args:
            input: N rows.
            mask: (N,) bool, True for the rows that stay.

        Raises:
            ValueError: for another shape, dtype or device.
        """
        x = check_input(input, self)
        if not isinstance(mask, Tensor) or mask.dtype != torch.bool or mask.shape != (len(x),):
            got = f"{mask.dtype} {tuple(mask.shape)}" if isinstance(mask, Tensor) else type(mask).__name__
            raise ValueError(
                f"mask must be a bool tensor of shape ({len(x)},), one value per row, got {got}."
            )
        if mask.device != x.device:
            raise ValueError(f"mask is on {mask.device}, the input on {x.device}.")
        kept = mask.nonzero().squeeze(1)
        manager = x.coordinate_manager
        coordinates = x.C.index_select(0, kept)
        key = manager.register(coordinates, tuple(x.tensor_stride), None)
        return result_on(_SelectRows.apply(x.F, kept), key, x)


class MinkowskiUnion(MinkowskiModuleBase):
    """Sum of tensors over the union of their coordinates; a missing feature is 0."""

    def forward(self, *inputs: SparseTensor) -> SparseTensor:
        """Unite two or more tensors of one coordinate manager and one tensor stride."""
        if len(inputs) < 2:
            raise ValueError(f"MinkowskiUnion needs two or more tensors, got {len(inputs)}.")
        for x in inputs:
            check_input(x, self)
        check_same_manager(*inputs)
        union = union_maps(inputs[0].coordinate_manager, [x.coordinate_map_key for x in inputs])
        return result_on(union_rows([x.F for x in inputs], union, range(len(inputs))), union.key, inputs[0])


class _SelectRows(torch.autograd.Function):
    """Rows at distinct indices; backward gathers instead of scattering."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, kept: Tensor) -> Tensor:
        ctx.save_for_backward(kept)
        ctx.length = len(rows)
        return rows.index_select(0, kept)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (kept,) = ctx.saved_tensors
        source = torch.zeros(ctx.length, dtype=torch.int32, device=kept.device)
        source[kept] = torch.arange(1, len(kept) + 1, dtype=torch.int32, device=kept.device)
        return take_rows(gradient, source), None
