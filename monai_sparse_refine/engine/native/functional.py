"""torch.nn.functional on the features of a tensor (``MinkowskiFunctional`` of MinkowskiEngine)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from monai_sparse_refine.engine.native.feature_tensor import FeatureTensor


def _rows(function: Callable[..., Tensor], x: FeatureTensor, *args: Any, **kwargs: Any) -> FeatureTensor:
    return x.like(function(x.F, *args, **kwargs))


def _loss(function: Callable[..., Tensor], x: FeatureTensor, *args: Any, **kwargs: Any) -> Tensor:
    return function(x.F, *args, **kwargs)


def alpha_dropout(input: FeatureTensor, *args: Any, **kwargs: Any) -> FeatureTensor:
    """torch.nn.functional.alpha_dropout of the features."""
    return _rows(F.alpha_dropout, input, *args, **kwargs)


def batch_norm(input: FeatureTensor, *args: Any, **kwargs: Any) -> FeatureTensor:
    """torch.nn.functional.batch_norm of the features."""
    return _rows(F.batch_norm, input, *args, **kwargs)


def binary_cross_entropy(input: FeatureTensor, target: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """torch.nn.functional.binary_cross_entropy of the features and a dense target."""
    return _loss(F.binary_cross_entropy, input, target, *args, **kwargs)


def binary_cross_entropy_with_logits(
    input: FeatureTensor, target: Tensor, *args: Any, **kwargs: Any
) -> Tensor:
    """torch.nn.functional.binary_cross_entropy_with_logits of the features and a dense target."""
    return _loss(F.binary_cross_entropy_with_logits, input, target, *args, **kwargs)


def celu(input: FeatureTensor, *args: Any, **kwargs: Any) -> FeatureTensor:
    """torch.nn.functional.celu of the features."""
    return _rows(F.celu, input, *args, **kwargs)


def cross_entropy(input: FeatureTensor, target: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """torch.nn.functional.cross_entropy of the features and a dense target."""
    return _loss(F.cross_entropy, input, target, *args, **kwargs)


def dropout(input: FeatureTensor, *args: Any, **kwargs: Any) -> FeatureTensor:
    """torch.nn.functional.dropout of the features."""
    return _rows(F.dropout, input, *args, **kwargs)


def elu(input: FeatureTensor, *args: Any, **kwargs: Any) -> FeatureTensor:
    """torch.nn.functional.elu of the features."""
    return _rows(F.elu, input, *args, **kwargs)


def gelu(input: FeatureTensor, *args: Any, **kwargs: Any) -> FeatureTensor:
    """torch.nn.functional.gelu of the features."""
    return _rows(F.gelu, input, *args, **kwargs)


def glu(input: FeatureTensor, *args: Any, **kwargs: Any) -> FeatureTensor:
    """torch.nn.functional.glu of the features."""
    return _rows(F.glu, input, *args, **kwargs)


def gumbel_softmax(input: FeatureTensor, *args: Any, **kwargs: Any) -> FeatureTensor:
    """torch.nn.functional.gumbel_softmax of the features."""
    return _rows(F.gumbel_softmax, input, *args, **kwargs)


def hardshrink(input: FeatureTensor, *args: Any, **kwargs: Any) -> FeatureTensor:
    """torch.nn.functional.hardshrink of the features."""
    return _rows(F.hardshrink, input, *args, **kwargs)


def hardsigmoid(input: FeatureTensor, *args: Any, **kwargs: Any) -> FeatureTensor:
    """torch.nn.functional.hardsigmoid of the features."""
    return _rows(F.hardsigmoid, input, *args, **kwargs)


def hardswish(input: FeatureTensor, *args: Any, **kwargs: Any) -> FeatureTensor:
    """torch.nn.functional.hardswish of the features."""
    return _rows(F.hardswish, input, *args, **kwargs)


def hardtanh(input: FeatureTensor, *args: Any, **kwargs: Any) -> FeatureTensor:
    """torch.nn.functional.hardtanh of the features."""
    return _rows(F.hardtanh, input, *args, **kwargs)


def hinge_embedding_loss(input: FeatureTensor, target: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """torch.nn.functional.hinge_embedding_loss of the features and a dense target."""
    return _loss(F.hinge_embedding_loss, input, target, *args, **kwargs)


def kl_div(input: FeatureTensor, target: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """torch.nn.functional.kl_div of the features and a dense target."""
    return _loss(F.kl_div, input, target, *args, **kwargs)


def l1_loss(input: FeatureTensor, target: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """torch.nn.functional.l1_loss of the features and a dense target."""
    return _loss(F.l1_loss, input, target, *args, **kwargs)


def leaky_relu(input: FeatureTensor, *args: Any, **kwargs: Any) -> FeatureTensor:
    """torch.nn.functional.leaky_relu of the features."""
    return _rows(F.leaky_relu, input, *args, **kwargs)


def linear(input: FeatureTensor, *args: Any, **kwargs: Any) -> FeatureTensor:
    """torch.nn.functional.linear of the features."""
    return _rows(F.linear, input, *args, **kwargs)


def log_softmax(input: FeatureTensor, *args: Any, **kwargs: Any) -> FeatureTensor:
    """torch.nn.functional.log_softmax of the features."""
    return _rows(F.log_softmax, input, *args, **kwargs)


def logsigmoid(input: FeatureTensor, *args: Any, **kwargs: Any) -> FeatureTensor:
    """torch.nn.functional.logsigmoid of the features."""
    return _rows(F.logsigmoid, input, *args, **kwargs)


def mse_loss(input: FeatureTensor, target: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """torch.nn.functional.mse_loss of the features and a dense target."""
    return _loss(F.mse_loss, input, target, *args, **kwargs)


def multi_margin_loss(input: FeatureTensor, target: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """torch.nn.functional.multi_margin_loss of the features and a dense target."""
    return _loss(F.multi_margin_loss, input, target, *args, **kwargs)


def multilabel_margin_loss(input: FeatureTensor, target: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """torch.nn.functional.multilabel_margin_loss of the features and a dense target."""
    return _loss(F.multilabel_margin_loss, input, target, *args, **kwargs)


def multilabel_soft_margin_loss(input: FeatureTensor, target: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """torch.nn.functional.multilabel_soft_margin_loss of the features and a dense target."""
    return _loss(F.multilabel_soft_margin_loss, input, target, *args, **kwargs)


def nll_loss(input: FeatureTensor, target: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """torch.nn.functional.nll_loss of the features and a dense target."""
    return _loss(F.nll_loss, input, target, *args, **kwargs)


def normalize(input: FeatureTensor, *args: Any, **kwargs: Any) -> FeatureTensor:
    """torch.nn.functional.normalize of the features."""
    return _rows(F.normalize, input, *args, **kwargs)


def poisson_nll_loss(input: FeatureTensor, target: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """torch.nn.functional.poisson_nll_loss of the features and a dense target."""
    return _loss(F.poisson_nll_loss, input, target, *args, **kwargs)


def prelu(input: FeatureTensor, *args: Any, **kwargs: Any) -> FeatureTensor:
    """torch.nn.functional.prelu of the features."""
    return _rows(F.prelu, input, *args, **kwargs)


def relu(input: FeatureTensor, *args: Any, **kwargs: Any) -> FeatureTensor:
    """torch.nn.functional.relu of the features."""
    return _rows(F.relu, input, *args, **kwargs)


def relu6(input: FeatureTensor, *args: Any, **kwargs: Any) -> FeatureTensor:
    """torch.nn.functional.relu6 of the features."""
    return _rows(F.relu6, input, *args, **kwargs)


def rrelu(input: FeatureTensor, *args: Any, **kwargs: Any) -> FeatureTensor:
    """torch.nn.functional.rrelu of the features."""
    return _rows(F.rrelu, input, *args, **kwargs)


def selu(input: FeatureTensor, *args: Any, **kwargs: Any) -> FeatureTensor:
    """torch.nn.functional.selu of the features."""
    return _rows(F.selu, input, *args, **kwargs)


def sigmoid(input: FeatureTensor, *args: Any, **kwargs: Any) -> FeatureTensor:
    """torch.nn.functional.sigmoid of the features."""
    return _rows(F.sigmoid, input, *args, **kwargs)


def silu(input: FeatureTensor, *args: Any, **kwargs: Any) -> FeatureTensor:
    """torch.nn.functional.silu of the features."""
    return _rows(F.silu, input, *args, **kwargs)


def smooth_l1_loss(input: FeatureTensor, target: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """torch.nn.functional.smooth_l1_loss of the features and a dense target."""
    return _loss(F.smooth_l1_loss, input, target, *args, **kwargs)


def soft_margin_loss(input: FeatureTensor, target: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """torch.nn.functional.soft_margin_loss of the features and a dense target."""
    return _loss(F.soft_margin_loss, input, target, *args, **kwargs)


def softmax(input: FeatureTensor, *args: Any, **kwargs: Any) -> FeatureTensor:
    """torch.nn.functional.softmax of the features."""
    return _rows(F.softmax, input, *args, **kwargs)


def softmin(input: FeatureTensor, *args: Any, **kwargs: Any) -> FeatureTensor:
    """torch.nn.functional.softmin of the features."""
    return _rows(F.softmin, input, *args, **kwargs)


def softplus(input: FeatureTensor, *args: Any, **kwargs: Any) -> FeatureTensor:
    """torch.nn.functional.softplus of the features."""
    return _rows(F.softplus, input, *args, **kwargs)


def softshrink(input: FeatureTensor, *args: Any, **kwargs: Any) -> FeatureTensor:
    """torch.nn.functional.softshrink of the features."""
    return _rows(F.softshrink, input, *args, **kwargs)


def softsign(input: FeatureTensor, *args: Any, **kwargs: Any) -> FeatureTensor:
    """torch.nn.functional.softsign of the features."""
    return _rows(F.softsign, input, *args, **kwargs)


def tanh(input: FeatureTensor, *args: Any, **kwargs: Any) -> FeatureTensor:
    """torch.nn.functional.tanh of the features."""
    return _rows(F.tanh, input, *args, **kwargs)


def tanhshrink(input: FeatureTensor, *args: Any, **kwargs: Any) -> FeatureTensor:
    """torch.nn.functional.tanhshrink of the features."""
    return _rows(F.tanhshrink, input, *args, **kwargs)


def threshold(input: FeatureTensor, *args: Any, **kwargs: Any) -> FeatureTensor:
    """torch.nn.functional.threshold of the features."""
    return _rows(F.threshold, input, *args, **kwargs)
