"""Pooling, broadcast, normalisation, activations and interpolation against MinkowskiEngine."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

Coordinates = Callable[..., Tensor]
Compare = Callable[..., Any]

ACTIVATIONS = [
    "ELU",
    "Hardshrink",
    "Hardsigmoid",
    "Hardtanh",
    "Hardswish",
    "LeakyReLU",
    "LogSigmoid",
    "PReLU",
    "ReLU",
    "ReLU6",
    "SELU",
    "CELU",
    "GELU",
    "Sigmoid",
    "SiLU",
    "Softplus",
    "Softshrink",
    "Softsign",
    "Tanh",
    "Tanhshrink",
]


@settings(max_examples=40, deadline=None)
@given(
    name=st.sampled_from(["SumPooling", "AvgPooling", "MaxPooling"]),
    seed=st.integers(0, 2**20),
    dimension=st.integers(1, 3),
    kernel=st.integers(2, 3),
    stride=st.integers(1, 3),
)
def test_local_pooling(
    same_as_minkowski: Compare,
    coordinates_of: Coordinates,
    name: str,
    seed: int,
    dimension: int,
    kernel: int,
    stride: int,
) -> None:
    assume(kernel >= stride or name != "MaxPooling")  # MinkowskiEngine's maximum of nothing is -1.8e308
    same_as_minkowski(
        lambda engine: getattr(engine, "Minkowski" + name)(kernel, stride, dimension=dimension),
        coordinates_of(seed, dimension, 40),
    )


def test_maximum_of_nothing_is_zero(native: ModuleType) -> None:
    leaf = torch.tensor([[-1.0], [-2.0]], requires_grad=True)
    x = native.SparseTensor(leaf, torch.tensor([[0, 0], [0, 5]]).int())
    out = native.MinkowskiMaxPooling(2, 3, dimension=1)(x)
    assert out.C[:, 1].tolist() == [0, 3] and out.F.flatten().tolist() == [-1, 0]
    out.F.sum().backward()
    assert leaf.grad is not None and leaf.grad.flatten().tolist() == [1, 0]


@pytest.mark.parametrize("kernel", [2, 3])
def test_pooling_transpose(same_as_minkowski: Compare, coordinates_of: Coordinates, kernel: int) -> None:
    def down_and_up(engine: ModuleType) -> torch.nn.Module:
        return torch.nn.Sequential(
            engine.MinkowskiSumPooling(2, 2, dimension=2),
            engine.MinkowskiPoolingTranspose(kernel, 2, dimension=2),
        )

    same_as_minkowski(down_and_up, coordinates_of(4, 2, 40))


@pytest.mark.parametrize("name", ["Sum", "Avg", "Max"])
def test_global_pooling(same_as_minkowski: Compare, coordinates_of: Coordinates, name: str) -> None:
    same_as_minkowski(
        lambda engine: getattr(engine, f"MinkowskiGlobal{name}Pooling")(), coordinates_of(6, 2, 40)
    )


@pytest.mark.parametrize("name", ["Sum", "Avg", "Max"])
def test_global_pooling_with_an_empty_item(native: ModuleType, name: str) -> None:
    """MinkowskiEngine 0.5.4 fails here."""
    rows = torch.tensor([[2, 0], [0, 1], [2, 3]]).int()
    leaf = torch.tensor([[1.0, 5.0], [7.0, 8.0], [3.0, 2.0]], requires_grad=True)
    out = getattr(native, f"MinkowskiGlobal{name}Pooling")()(native.SparseTensor(leaf, rows))
    assert out.C.tolist() == [[0, 0], [2, 0]]
    assert out.F.tolist() == [[7, 8], {"Sum": [4, 7], "Avg": [2, 3.5], "Max": [3, 5]}[name]]
    out.F.backward(torch.tensor([[1.0, 2.0], [4.0, 8.0]]))
    upper = {"Sum": [4, 8], "Avg": [2, 4], "Max": [0, 8]}[name]
    lower = {"Sum": [4, 8], "Avg": [2, 4], "Max": [4, 0]}[name]
    assert leaf.grad is not None
    assert leaf.grad.tolist() == [upper, [1, 2], lower]


def test_gradient_of_the_maximum_of_one_item(native: ModuleType) -> None:
    """MinkowskiEngine 0.5.4 puts it into the wrong rows."""
    leaf = torch.tensor([[1.0, 9], [5, 2]], requires_grad=True)
    out = native.MinkowskiGlobalMaxPooling()(native.SparseTensor(leaf, torch.tensor([[0, 0], [0, 1]]).int()))
    out.F.backward(torch.tensor([[10.0, 20.0]]))
    assert leaf.grad is not None
    assert leaf.grad.tolist() == [[0, 20], [10, 0]]


@pytest.mark.parametrize("name", ["Addition", "Multiplication", "", "Concatenation"])
def test_broadcast(same_as_minkowski: Compare, coordinates_of: Coordinates, name: str) -> None:
    def spread(engines: Any, x: Any) -> Any:
        pool, broadcast = engines
        return broadcast(x, pool(x))

    same_as_minkowski(
        lambda engine: (engine.MinkowskiGlobalAvgPooling(), getattr(engine, "MinkowskiBroadcast" + name)()),
        coordinates_of(7, 3, 40),
        call=spread,
    )


@pytest.mark.parametrize("training", [True, False])
def test_batch_norm(same_as_minkowski: Compare, coordinates_of: Coordinates, training: bool) -> None:
    same_as_minkowski(
        lambda engine: engine.MinkowskiBatchNorm(3, momentum=0.2).train(training), coordinates_of(8, 3, 40)
    )


def test_batch_norm_without_rows_keeps_its_statistics(native: ModuleType) -> None:
    layer = native.MinkowskiBatchNorm(2)
    out = layer(native.SparseTensor(torch.zeros(0, 2), torch.zeros(0, 4).int()))
    out.F.sum().backward()
    assert out.shape == (0, 2)
    assert layer.bn.num_batches_tracked == 0 and torch.equal(layer.bn.running_var, torch.ones(2))
    # Several processes wait for the gradients of every parameter.
    assert layer.bn.weight.grad.tolist() == layer.bn.bias.grad.tolist() == [0, 0]


def test_sync_batch_norm_conversion_keeps_parameters(native: ModuleType) -> None:
    network = torch.nn.Sequential(native.MinkowskiReLU(), torch.nn.Sequential(native.MinkowskiBatchNorm(2)))
    network.double()
    with torch.no_grad():
        network[1][0].bn.running_mean.fill_(3)
    weight = network[1][0].bn.weight
    converted = native.MinkowskiSyncBatchNorm.convert_sync_batchnorm(network)
    layer = converted[1][0]
    assert isinstance(layer, native.MinkowskiSyncBatchNorm)
    assert layer.bn.weight is weight and layer.bn.running_mean.tolist() == [3, 3]
    assert layer.bn.running_var.dtype == torch.float64 and set(layer.state_dict()) == {
        f"bn.{name}" for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    }
    assert isinstance(
        native.MinkowskiSyncBatchNorm.convert_sync_batchnorm(native.MinkowskiBatchNorm(2)), type(layer)
    )


def test_instance_norm(same_as_minkowski: Compare, coordinates_of: Coordinates) -> None:
    rows = coordinates_of(9, 3, 40)
    ours = same_as_minkowski(lambda engine: engine.MinkowskiInstanceNorm(3), rows, tolerance=1e-7)
    for item in ours.decomposed_features:
        torch.testing.assert_close(item.mean(0), torch.zeros(3).double(), atol=1e-6, rtol=0)


@pytest.mark.parametrize("kernel", [2, 3])
@pytest.mark.parametrize("stride", [1, 2])
def test_channelwise_convolution(
    same_as_minkowski: Compare, coordinates_of: Coordinates, kernel: int, stride: int
) -> None:
    same_as_minkowski(
        lambda engine: engine.MinkowskiChannelwiseConvolution(
            3, kernel_size=kernel, stride=stride, bias=True, dimension=2
        ),
        coordinates_of(10, 2, 40),
    )


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation(same_as_minkowski: Compare, coordinates_of: Coordinates, name: str) -> None:
    same_as_minkowski(lambda engine: getattr(engine, "Minkowski" + name)(), coordinates_of(11, 1, 9))


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("Threshold", (0.1, 2.0)),
        ("Softmax", (1,)),
        ("Softmin", (1,)),
        ("LogSoftmax", (1,)),
        ("Linear", (3, 5)),
    ],
)
def test_layers_with_arguments(
    same_as_minkowski: Compare, coordinates_of: Coordinates, name: str, arguments: tuple[Any, ...]
) -> None:
    same_as_minkowski(
        lambda engine: getattr(engine, "Minkowski" + name)(*arguments), coordinates_of(12, 2, 9)
    )


def test_sinusoidal(same_as_minkowski: Compare, coordinates_of: Coordinates) -> None:
    same_as_minkowski(lambda engine: engine.MinkowskiSinusoidal(3, 4), coordinates_of(12, 2, 9))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**20), dimension=st.integers(1, 3), stride=st.sampled_from([1, 2]))
def test_interpolation(
    minkowski: ModuleType,
    native: ModuleType,
    coordinates_of: Coordinates,
    seed: int,
    dimension: int,
    stride: int,
) -> None:
    rows = coordinates_of(seed, dimension, 30, stride=stride)
    features = torch.randn(len(rows), 2, dtype=torch.float64)
    points = torch.cat(
        [rows[:7, :1].double(), rows[:7, 1:] + torch.rand(min(7, len(rows)), dimension) * 2 - 1], 1
    )
    results = []
    for engine in (minkowski, native):
        leaf = features.clone().requires_grad_()
        x = engine.SparseTensor(leaf, rows, tensor_stride=stride)
        out = engine.MinkowskiInterpolation()(x, points)
        out.backward(torch.ones_like(out) * torch.arange(1, 3))
        results.append((out, leaf.grad))
    torch.testing.assert_close(results[1][0], results[0][0], rtol=0, atol=1e-12)
    torch.testing.assert_close(results[1][1], results[0][1], rtol=0, atol=1e-12)


def test_stacks_and_joins(same_as_minkowski: Compare, coordinates_of: Coordinates) -> None:
    rows = coordinates_of(13, 2, 20)
    for name in ("MinkowskiStackCat", "MinkowskiStackSum", "MinkowskiStackMean", "MinkowskiStackVar"):
        same_as_minkowski(
            lambda engine, name=name: getattr(engine, name)(engine.MinkowskiTanh(), engine.MinkowskiReLU()),
            rows,
        )
    for name in ("cat", "sum", "mean", "var"):
        same_as_minkowski(
            lambda engine, name=name: (getattr(engine, name), engine.MinkowskiTanh()),
            rows,
            call=lambda pair, x: pair[0](x, pair[1](x)),
        )


def test_functional(native: ModuleType, coordinates_of: Coordinates) -> None:
    rows = coordinates_of(14, 2, 9)
    x = native.SparseTensor(torch.randn(len(rows), 3), rows)
    assert torch.equal(native.MinkowskiFunctional.relu(x).F, x.F.relu())
    loss = native.MinkowskiFunctional.binary_cross_entropy_with_logits(x, torch.ones_like(x.F))
    torch.testing.assert_close(loss, torch.nn.functional.softplus(-x.F).mean())


@pytest.mark.parametrize("name", ["BasicBlock", "Bottleneck"])
def test_residual_blocks(
    minkowski: ModuleType, same_as_minkowski: Compare, coordinates_of: Coordinates, name: str
) -> None:
    from MinkowskiEngine.modules import resnet_block as theirs

    from monai_sparse_refine.engine.native.modules import resnet_block as ours

    def block(engine: ModuleType) -> torch.nn.Module:
        module = theirs if engine is minkowski else ours
        planes = 4 if name == "BasicBlock" else 1
        return getattr(module, name)(4, planes, dimension=3)

    same_as_minkowski(block, coordinates_of(15, 3, 60), channels=4)


def test_what_is_absent_says_so(native: ModuleType) -> None:
    with pytest.raises(AttributeError, match="no spmm of MinkowskiEngine"):
        native.spmm  # noqa: B018
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        native.nonsense  # noqa: B018
    with pytest.raises(AttributeError, match=r"utils\.summary"):
        native.utils.summary  # noqa: B018


def test_every_name_of_minkowski_is_there_or_named_as_absent(
    minkowski: ModuleType, native: ModuleType
) -> None:
    import MinkowskiEngine

    modules = {"os", "sys", "torch", "warnings", "file_dir"}
    names = {name for name in dir(MinkowskiEngine) if not name.startswith("_")} - modules
    assert names - set(dir(native)) - set(native.ABSENT) == set()
