"""Layers that act on every feature alone: torch.nn's own, applied to the features."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import nn

from monai_sparse_refine.engine.native.feature_tensor import FeatureTensor
from monai_sparse_refine.engine.native.modules_base import MinkowskiModuleBase, check_rows


class MinkowskiNonlinearityBase(MinkowskiModuleBase):
    """Applies ``MODULE`` (constructed with the same arguments) to the features."""

    MODULE: ClassVar[type[nn.Module]]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()
        self.module = self.MODULE(*args, **kwargs)

    def forward(self, input: FeatureTensor) -> FeatureTensor:
        """Apply to the features."""
        x = check_rows(input, self)
        return x.like(self.module(x.F))

    def extra_repr(self) -> str:
        """As PyTorch prints it."""
        return self.module.extra_repr()


class MinkowskiELU(MinkowskiNonlinearityBase):
    """torch.nn.ELU."""

    MODULE = nn.ELU


class MinkowskiHardshrink(MinkowskiNonlinearityBase):
    """torch.nn.Hardshrink."""

    MODULE = nn.Hardshrink


class MinkowskiHardsigmoid(MinkowskiNonlinearityBase):
    """torch.nn.Hardsigmoid."""

    MODULE = nn.Hardsigmoid


class MinkowskiHardtanh(MinkowskiNonlinearityBase):
    """torch.nn.Hardtanh."""

    MODULE = nn.Hardtanh


class MinkowskiHardswish(MinkowskiNonlinearityBase):
    """torch.nn.Hardswish."""

    MODULE = nn.Hardswish


class MinkowskiLeakyReLU(MinkowskiNonlinearityBase):
    """torch.nn.LeakyReLU."""

    MODULE = nn.LeakyReLU


class MinkowskiLogSigmoid(MinkowskiNonlinearityBase):
    """torch.nn.LogSigmoid."""

    MODULE = nn.LogSigmoid


class MinkowskiPReLU(MinkowskiNonlinearityBase):
    """torch.nn.PReLU."""

    MODULE = nn.PReLU


class MinkowskiReLU(MinkowskiNonlinearityBase):
    """torch.nn.ReLU."""

    MODULE = nn.ReLU


class MinkowskiReLU6(MinkowskiNonlinearityBase):
    """torch.nn.ReLU6."""

    MODULE = nn.ReLU6


class MinkowskiRReLU(MinkowskiNonlinearityBase):
    """torch.nn.RReLU."""

    MODULE = nn.RReLU


class MinkowskiSELU(MinkowskiNonlinearityBase):
    """torch.nn.SELU."""

    MODULE = nn.SELU


class MinkowskiCELU(MinkowskiNonlinearityBase):
    """torch.nn.CELU."""

    MODULE = nn.CELU


class MinkowskiGELU(MinkowskiNonlinearityBase):
    """torch.nn.GELU."""

    MODULE = nn.GELU


class MinkowskiSigmoid(MinkowskiNonlinearityBase):
    """torch.nn.Sigmoid."""

    MODULE = nn.Sigmoid


class MinkowskiSiLU(MinkowskiNonlinearityBase):
    """torch.nn.SiLU."""

    MODULE = nn.SiLU


class MinkowskiSoftplus(MinkowskiNonlinearityBase):
    """torch.nn.Softplus."""

    MODULE = nn.Softplus


class MinkowskiSoftshrink(MinkowskiNonlinearityBase):
    """torch.nn.Softshrink."""

    MODULE = nn.Softshrink


class MinkowskiSoftsign(MinkowskiNonlinearityBase):
    """torch.nn.Softsign."""

    MODULE = nn.Softsign


class MinkowskiTanh(MinkowskiNonlinearityBase):
    """torch.nn.Tanh."""

    MODULE = nn.Tanh


class MinkowskiTanhshrink(MinkowskiNonlinearityBase):
    """torch.nn.Tanhshrink."""

    MODULE = nn.Tanhshrink


class MinkowskiThreshold(MinkowskiNonlinearityBase):
    """torch.nn.Threshold."""

    MODULE = nn.Threshold


class MinkowskiSoftmin(MinkowskiNonlinearityBase):
    """torch.nn.Softmin."""

    MODULE = nn.Softmin


class MinkowskiSoftmax(MinkowskiNonlinearityBase):
    """torch.nn.Softmax."""

    MODULE = nn.Softmax


class MinkowskiLogSoftmax(MinkowskiNonlinearityBase):
    """torch.nn.LogSoftmax."""

    MODULE = nn.LogSoftmax


class MinkowskiDropout(MinkowskiNonlinearityBase):
    """torch.nn.Dropout."""

    MODULE = nn.Dropout


class MinkowskiAlphaDropout(MinkowskiNonlinearityBase):
    """torch.nn.AlphaDropout."""

    MODULE = nn.AlphaDropout


class MinkowskiSinusoidal(MinkowskiModuleBase):
    """coef * sin(x @ kernel + bias)."""

    def __init__(self, in_channel: int, out_channel: int) -> None:
        super().__init__()
        self.in_channel, self.out_channel = in_channel, out_channel
        self.kernel = nn.Parameter(torch.randn(in_channel, out_channel))
        self.bias = nn.Parameter(torch.randn(1, out_channel))
        self.coef = nn.Parameter(torch.randn(1, out_channel))

    def forward(self, input: FeatureTensor) -> FeatureTensor:
        """Apply to the features."""
        x = check_rows(input, self, self.in_channel)
        return x.like(torch.sin(x.F @ self.kernel + self.bias) * self.coef)
