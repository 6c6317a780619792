"""Sum and maximum over the cells under a kernel, as functions with gradients."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from monai_sparse_refine.engine.native.fixed_order import accumulator
from monai_sparse_refine.engine.native.gather_gemm import Gather, chunk_rows, reading
from monai_sparse_refine.engine.native.kernel_map import KernelMap


def pool_sum(features: Tensor, table: KernelMap, *, transposed: bool = False) -> Tensor:
    """(M, C) sums of the rows (N, C) that each output cell meets."""
    return _PoolSum.apply(features, table, transposed)


def pool_max(features: Tensor, table: KernelMap) -> Tensor:
    """(M, C) maxima; a cell without input is 0. Of several equal inputs the first gets the gradient."""
    return _PoolMax.apply(features, table)


def pool_count(table: KernelMap, like: Tensor) -> Tensor:
    """(M, 1) number of inputs of every output cell."""
    count = like.new_empty(table.n_coarse, 1)
    for start, stop in table.chunks():
        count[start:stop] = (table.fine_rows(start, stop) > 0).sum(1, keepdim=True).to(like.dtype)
    return count


def channelwise_product(features: Tensor, kernel: Tensor, table: KernelMap) -> Tensor:
    """(M, C) sums over k of features[table[:, k]] * kernel[k], for a kernel (K, C)."""
    return _Channelwise.apply(features, kernel, table)


def _blocks(source: Tensor, table: KernelMap, rows: int, *, coarse: bool) -> Any:
    """Yield (start, stop, gathered (n, K, C)) and whether offsets run in reverse."""
    lookup, mirrored = reading(table, coarse)
    gather = Gather(source)
    width = source.shape[1]
    for start, stop in table.chunks(rows, chunk_rows(table.volume * width, source)):
        yield start, stop, gather(lookup(start, stop)).view(stop - start, table.volume, width), mirrored
    table.release()


class _PoolSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, table: KernelMap, transposed: bool) -> Tensor:
        ctx.table, ctx.transposed, ctx.rows = table, transposed, len(features)
        return _sums(features, table, table.n_fine if transposed else table.n_coarse, coarse=transposed)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return _sums(gradient.contiguous(), ctx.table, ctx.rows, coarse=not ctx.transposed), None, None


def _sums(source: Tensor, table: KernelMap, rows: int, *, coarse: bool) -> Tensor:
    result = source.new_empty(rows, source.shape[1])
    for start, stop, block, _ in _blocks(source, table, rows, coarse=coarse):
        torch.sum(block, 1, out=result[start:stop])
    return result


class _PoolMax(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, table: KernelMap) -> Tensor:
        result = features.new_empty(table.n_coarse, features.shape[1])
        winner = torch.empty(table.n_coarse, features.shape[1], dtype=torch.int32, device=features.device)
        gather = Gather(features)
        for start, stop in table.chunks(size=chunk_rows(table.volume * features.shape[1], features)):
            rows = table.fine_rows(start, stop)
            block = gather(rows).view(stop - start, table.volume, -1)
            block.masked_fill_((rows == 0)[:, :, None], -torch.inf)
            best, index = block.max(1)
            empty = (rows == 0).all(1, keepdim=True)
            result[start:stop] = best.masked_fill(empty, 0)
            winner[start:stop] = index.masked_fill(empty, -1)
        table.release()
        ctx.table, ctx.rows = table, len(features)
        ctx.save_for_backward(winner)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (winner,) = ctx.saved_tensors
        table, width = ctx.table, gradient.shape[1]
        result = gradient.new_empty(ctx.rows, width)
        lookup, mirrored = reading(table, True)
        gather, gather_winner = Gather(gradient.contiguous()), Gather(winner)
        lane = torch.arange(table.volume, device=gradient.device)[None, :, None]
        lane = lane.flip(1) if mirrored else lane
        for start, stop in table.chunks(ctx.rows, chunk_rows(table.volume * width, gradient)):
            rows = lookup(start, stop)
            shape = (stop - start, table.volume, width)
            mine = (gather_winner(rows).view(shape) == lane) & (rows > 0)[:, :, None]
            result[start:stop] = (gather(rows).view(shape) * mine).sum(1)
        table.release()
        return result, None


class _Channelwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, kernel: Tensor, table: KernelMap) -> Tensor:
        ctx.table = table
        ctx.save_for_backward(features, kernel)
        result = features.new_empty(table.n_coarse, features.shape[1])
        for start, stop, block, _ in _blocks(features, table, table.n_coarse, coarse=False):
            result[start:stop] = (block * kernel).sum(1)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        features, kernel = ctx.saved_tensors
        grad_features = torch.empty_like(features)
        grad_kernel = torch.zeros_like(kernel, dtype=accumulator(kernel))
        for start, stop, block, mirrored in _blocks(
            gradient.contiguous(), ctx.table, len(features), coarse=True
        ):
            grad_features[start:stop] = (block * (kernel.flip(0) if mirrored else kernel)).sum(1)
            part = (block * features[start:stop, None]).sum(0)
            grad_kernel += part.flip(0) if mirrored else part
        return grad_features, grad_kernel.to(kernel.dtype), None
