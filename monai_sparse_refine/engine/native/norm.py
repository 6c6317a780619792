"""Normalisation layers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from monai_sparse_refine.engine.native.feature_tensor import FeatureTensor
from monai_sparse_refine.engine.native.fixed_order import batch_statistics, normalize_rows, scale_rows
from monai_sparse_refine.engine.native.modules_base import MinkowskiModuleBase, check_rows
from monai_sparse_refine.engine.native.reduce import group_mean, group_spread


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
        self.bn: nn.BatchNorm1d | nn.SyncBatchNorm = nn.BatchNorm1d(
            num_features, eps=eps, momentum=momentum, affine=affine, track_running_stats=track_running_stats
        )

    def forward(self, input: FeatureTensor) -> FeatureTensor:
        """Normalise the features; without rows there is nothing to do, and statistics stay."""
        x = check_rows(input, self, self.bn.num_features)
        return x.like(normalized(self.bn, x.F))

    def extra_repr(self) -> str:
        """As PyTorch prints it."""
        return self.bn.extra_repr()


def normalized(bn: Any, rows: Tensor, *, rectified: bool = False) -> Tensor:
    """(N, C) rows after a ``torch.nn.BatchNorm1d``, then ReLU if ``rectified``; without rows statistics stay."""
    if len(rows) == 0:
        return rows if bn.weight is None else rows * bn.weight + bn.bias
    if rows.device.type == "cpu" and rows.dtype.itemsize >= 4:
        if bn.training or bn.running_mean is None:
            if len(rows) > 1:
                return _by_batch(bn, rows, rectified)
        elif not torch.is_grad_enabled():
            return scale_rows(rows, *folded(bn), rectified=rectified)
    result: Tensor = bn(rows)
    return result.relu() if rectified else result


def folded(bn: Any) -> tuple[Tensor, Tensor]:
    """(C,) scale and shift, in double precision, that a batch norm applies at inference."""
    scale = (bn.running_var.double() + bn.eps).rsqrt()
    if bn.weight is not None:
        scale = scale * bn.weight.double()
    shift = -bn.running_mean.double() * scale
    return scale, shift if bn.bias is None else shift + bn.bias.double()


def _by_batch(bn: Any, rows: Tensor, rectified: bool) -> Tensor:
    """What ``torch.nn.BatchNorm1d`` does with a batch, in an order that threads do not change."""
    mean, variance = batch_statistics(rows.detach())
    if bn.training and bn.track_running_stats:
        bn.num_batches_tracked += 1
        share = 1 / float(bn.num_batches_tracked) if bn.momentum is None else bn.momentum
        unbiased = variance * (len(rows) / (len(rows) - 1))
        for running, value in ((bn.running_mean, mean), (bn.running_var, unbiased)):
            running.lerp_(value.to(running.dtype), share)
    if bn.affine:
        weight, bias = bn.weight.to(rows.dtype), bn.bias.to(rows.dtype)
    else:
        weight, bias = rows.new_ones(rows.shape[1]), rows.new_zeros(rows.shape[1])
    return normalize_rows(rows, weight, bias, mean, variance, bn.eps, rectified=rectified)


class MinkowskiSyncBatchNorm(MinkowskiBatchNorm):
    """Batch normalisation over the rows of all processes."""

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        process_group: Any = None,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats)
        self.bn = nn.SyncBatchNorm(
            num_features,
            eps=eps,
            momentum=momentum,
            affine=affine,
            track_running_stats=track_running_stats,
            process_group=process_group,
        )

    def forward(self, input: FeatureTensor) -> FeatureTensor:
        """Normalise the features; every process takes part, with or without rows."""
        x = check_rows(input, self, self.bn.num_features)
        return x.like(self.bn(x.F))

    @classmethod
    def convert_sync_batchnorm(cls, module: nn.Module, process_group: Any = None) -> nn.Module:
        """Replace every MinkowskiBatchNorm in a module, which keeps its parameters and statistics."""
        if isinstance(module, MinkowskiBatchNorm) and not isinstance(module, cls):
            old = module.bn
            new = cls(
                old.num_features, old.eps, old.momentum, old.affine, old.track_running_stats, process_group
            )
            for name, value in (*old.named_parameters(), *old.named_buffers()):
                setattr(new.bn, name, value)  # as they are, on their device
            new.train(module.training)
            return new
        for name, child in module.named_children():
            replaced = cls.convert_sync_batchnorm(child, process_group)
            if replaced is not child:
                setattr(module, name, replaced)
        return module


class MinkowskiInstanceNorm(MinkowskiModuleBase):
    """Normalisation of every batch item by its own mean and variance; ``weight`` and ``bias`` are [1, C]."""

    eps = 1e-8

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features
        self.weight = nn.Parameter(torch.ones(1, num_features))
        self.bias = nn.Parameter(torch.zeros(1, num_features))

    def forward(self, input: FeatureTensor) -> FeatureTensor:
        """Normalise the features."""
        x = check_rows(input, self, self.num_features)
        _, groups = x.coordinate_manager.batch_groups(x.C[:, 0])
        centred = x.F - group_spread(group_mean(x.F, groups), groups)
        variance = group_mean(centred * centred, groups)
        scale: Tensor = group_spread((variance + self.eps).rsqrt(), groups)
        return x.like(centred * scale * self.weight + self.bias)

    def extra_repr(self) -> str:
        """Number of features."""
        return f"nchannels={self.num_features}"
