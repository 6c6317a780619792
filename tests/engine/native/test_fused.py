"""Layers computed as one against the layers one by one, with all gradients and running statistics."""

from __future__ import annotations

import copy
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from monai_sparse_refine.engine.native import fused

Coordinates = Callable[..., Tensor]


def layers(native: ModuleType, name: str, size: int, stride: int) -> tuple[Any, Any]:
    torch.manual_seed(0)
    convolution = getattr(native, name)(3, 8, kernel_size=size, stride=stride, dimension=3).double()
    norm = native.MinkowskiBatchNorm(8).double()
    for values in (norm.bn.weight, norm.bn.bias, norm.bn.running_mean):
        torch.nn.init.normal_(values)
    torch.nn.init.uniform_(norm.bn.running_var, 0.5, 2)
    return convolution, norm


@pytest.mark.parametrize(
    ("name", "size", "stride"),
    [
        ("MinkowskiConvolution", 3, 1),
        ("MinkowskiConvolution", 1, 1),
        ("MinkowskiConvolution", 2, 2),
        ("MinkowskiConvolutionTranspose", 2, 2),
        ("MinkowskiGenerativeConvolutionTranspose", 2, 2),
        ("MinkowskiGenerativeConvolutionTranspose", 4, 2),
    ],
)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("graph", [True, False])
def test_same_as_the_layers_one_by_one(
    native: ModuleType,
    coordinates_of: Coordinates,
    name: str,
    size: int,
    stride: int,
    training: bool,
    graph: bool,
) -> None:
    rows = coordinates_of(0, 3, 400, stride=2)
    results: list[list[Tensor]] = []
    for together in (True, False):
        convolution, norm = layers(native, name, size, stride)
        norm.train(training)
        leaf = torch.randn(len(rows), 3, generator=torch.Generator().manual_seed(1)).double().requires_grad_()
        x = native.SparseTensor(leaf, rows, tensor_stride=2)
        with torch.set_grad_enabled(graph):
            if together:
                y = fused.convolve_norm_relu(convolution, norm, x)
            else:
                y = native.MinkowskiReLU()(norm(convolution(x)))
        found = [y.F.detach(), norm.bn.running_mean, norm.bn.running_var, norm.bn.num_batches_tracked]
        if graph:
            (y.F * torch.linspace(-1, 1, y.F.numel()).double().view_as(y.F)).sum().backward()
            found += [leaf.grad, convolution.kernel.grad, norm.bn.weight.grad, norm.bn.bias.grad]
        results.append(copy.deepcopy(found))
    for mine, other in zip(*results, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-10, atol=1e-10)


def test_nothing_to_compute(native: ModuleType) -> None:
    convolution, norm = layers(native, "MinkowskiConvolution", 3, 1)
    x = native.SparseTensor(torch.zeros(0, 3).double(), torch.zeros(0, 4).int())
    for training in (True, False):
        norm.train(training)
        assert fused.convolve_norm_relu(convolution, norm, x).shape == (0, 8)
        with torch.no_grad():
            assert fused.convolve_norm_relu(convolution, norm, x).shape == (0, 8)


def test_layers_that_do_not_fit_say_so(native: ModuleType) -> None:
    convolution, _ = layers(native, "MinkowskiConvolution", 3, 1)
    x = native.SparseTensor(torch.zeros(1, 3).double(), torch.zeros(1, 4).int())
    with pytest.raises(ValueError, match="made for 5 channels, but the convolution gives 8"):
        fused.convolve_norm_relu(convolution, native.MinkowskiBatchNorm(5), x)
