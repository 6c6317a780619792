"""Convolutions against MinkowskiEngine and against dense PyTorch, with all gradients."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

Coordinates = Callable[..., Tensor]
Compare = Callable[..., Any]


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**20),
    dimension=st.integers(1, 4),
    count=st.sampled_from([1, 2, 17, 60]),
    batches=st.integers(1, 3),
    kernel=st.integers(1, 5),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 2),
    bias=st.booleans(),
)
def test_convolution(
    same_as_minkowski: Compare,
    coordinates_of: Coordinates,
    seed: int,
    dimension: int,
    count: int,
    batches: int,
    kernel: int,
    stride: int,
    dilation: int,
    bias: bool,
) -> None:
    assume(kernel**dimension <= 130)
    # MinkowskiEngine 0.5.4 ignores the stride of a single-cell kernel in one dimension.
    assume(not (dimension == 1 and kernel == 1 and stride > 1))
    rows = coordinates_of(seed, dimension, count, batches=batches)
    assume(len(rows) > 0)
    same_as_minkowski(
        lambda engine: engine.MinkowskiConvolution(
            3, 4, kernel, stride=stride, dilation=dilation, bias=bias, dimension=dimension
        ),
        rows,
    )


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(["MinkowskiConvolutionTranspose", "MinkowskiGenerativeConvolutionTranspose"]),
    seed=st.integers(0, 2**20),
    dimension=st.integers(1, 4),
    count=st.sampled_from([1, 2, 17, 60]),
    kernel=st.integers(1, 5),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 2),
)
def test_transposed_convolution(
    same_as_minkowski: Compare,
    coordinates_of: Coordinates,
    name: str,
    seed: int,
    dimension: int,
    count: int,
    kernel: int,
    stride: int,
    dilation: int,
) -> None:
    assume(kernel**dimension <= 130)
    assume(not (dimension == 1 and kernel == 1 and stride > 1))
    rows = coordinates_of(seed, dimension, count, stride=2 * stride)
    same_as_minkowski(
        lambda engine: getattr(engine, name)(
            3, 4, kernel, stride=stride, dilation=dilation, bias=True, dimension=dimension
        ),
        rows,
        stride=2 * stride,
    )


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**20), kernel=st.integers(2, 4), stride=st.integers(1, 2))
def test_transpose_returns_to_the_coordinates_it_came_from(
    same_as_minkowski: Compare, coordinates_of: Coordinates, seed: int, kernel: int, stride: int
) -> None:
    def down_and_up(engine: ModuleType) -> torch.nn.Module:
        return torch.nn.Sequential(
            engine.MinkowskiConvolution(3, 4, kernel, stride=stride, dimension=2),
            engine.MinkowskiConvolutionTranspose(4, 2, kernel, stride=stride, dimension=2),
        )

    rows = coordinates_of(seed, 2, 40)
    out = same_as_minkowski(down_and_up, rows)
    assert torch.equal(out.C, rows)


def test_axes_with_their_own_size_stride_and_dilation(
    same_as_minkowski: Compare, coordinates_of: Coordinates
) -> None:
    same_as_minkowski(
        lambda engine: engine.MinkowskiConvolution(
            3, 4, [3, 2, 1], stride=[1, 2, 1], dilation=[2, 1, 1], dimension=3
        ),
        coordinates_of(1, 3, 60),
    )


@pytest.mark.parametrize("kernel", [2, 3])
@pytest.mark.parametrize("stride", [1, 2])
def test_expand_coordinates(
    same_as_minkowski: Compare, coordinates_of: Coordinates, kernel: int, stride: int
) -> None:
    rows = coordinates_of(3, 2, 12)
    same_as_minkowski(
        lambda engine: engine.MinkowskiConvolution(
            3, 2, kernel, stride=stride, dimension=2, expand_coordinates=True
        ),
        rows,
    )


def test_onto_given_coordinates(native: ModuleType, same_as_minkowski: Compare) -> None:
    rows = torch.tensor([[0, 0, 0], [0, 1, 0], [0, -3, 3], [1, 2, 1]]).int()
    wanted = torch.tensor([[0, 0, 1], [1, 9, 9], [0, -2, 2], [5, 0, 0]]).int()

    def onto(layer: Any, x: Any) -> Any:
        key, _ = x.coordinate_manager.insert_and_map(wanted, [1, 1], "wanted")
        return layer(x, key)

    out = same_as_minkowski(lambda engine: engine.MinkowskiConvolution(3, 2, 3, dimension=2), rows, call=onto)
    assert torch.equal(out.C, wanted)
    layer = native.MinkowskiConvolution(3, 2, 3, dimension=2).double()
    x = native.SparseTensor(torch.randn(4, 3).double(), rows)
    by_rows, by_key = layer(x, wanted), layer(x, out.coordinate_map_key)
    by_tensor = layer(x, by_rows)
    assert torch.equal(by_rows.F, by_tensor.F) and torch.equal(by_rows.F, by_key.F)
    assert by_tensor.coordinate_map_key == by_rows.coordinate_map_key


@pytest.mark.parametrize("dimension", [1, 2, 3])
@pytest.mark.parametrize(
    ("kernel", "stride", "dilation"), [(3, 1, 1), (5, 1, 1), (3, 1, 2), (3, 2, 1), (2, 2, 1)]
)
def test_dense_torch(
    native: ModuleType,
    coordinates_of: Coordinates,
    dense_of: Callable[..., Tensor],
    dimension: int,
    kernel: int,
    stride: int,
    dilation: int,
) -> None:
    rows = coordinates_of(5, dimension, 50, batches=2, reach=3)
    leaf = torch.randn(len(rows), 2, dtype=torch.float64, requires_grad=True)
    layer = native.MinkowskiConvolution(
        2, 3, kernel, stride=stride, dilation=dilation, dimension=dimension
    ).double()
    out = layer(native.SparseTensor(leaf, rows))

    # The dense kernel [Cout, Cin, x, y, ...]: our offsets run over the first axis fastest.
    weight = layer.kernel.detach().clone().requires_grad_()
    axes = [kernel] * dimension
    dense_weight = weight.reshape(*axes, 2, 3).permute(dimension + 1, dimension, *reversed(range(dimension)))
    low, size = -12, 24  # multiples of every stride; wide enough that no border matters
    dense_leaf = leaf.detach().clone().requires_grad_()
    dense = dense_of(native.SparseTensor(dense_leaf, rows), [low] * dimension, [size] * dimension)
    convolve = [F.conv1d, F.conv2d, F.conv3d][dimension - 1]
    pad = dilation * (kernel // 2) if kernel % 2 else 0
    expected = convolve(dense, dense_weight, stride=stride, padding=pad, dilation=dilation)
    cells = (out.C.long() - torch.tensor([0] + [low] * dimension)) // torch.tensor([1] + [stride] * dimension)
    picked = expected.movedim(1, -1)[tuple(cells.unbind(1))]
    torch.testing.assert_close(out.F, picked, rtol=0, atol=1e-12)
    gradient = torch.randn_like(picked)
    out.F.backward(gradient)
    picked.backward(gradient)
    torch.testing.assert_close(leaf.grad, dense_leaf.grad, rtol=0, atol=1e-12)
    torch.testing.assert_close(layer.kernel.grad, weight.grad, rtol=0, atol=1e-11)


def test_cross_region(native: ModuleType, coordinates_of: Coordinates) -> None:
    """A cross is the cube with its other cells zero (MinkowskiEngine 0.5.4 on a CPU visits a corner instead)."""
    generator = native.KernelGenerator(3, region_type=native.RegionType.HYPER_CROSS, dimension=2)
    assert generator.offsets.tolist() == [[0, 0], [-1, 0], [1, 0], [0, -1], [0, 1]]
    cross = native.MinkowskiConvolution(2, 2, kernel_generator=generator, dimension=2).double()
    cube = native.MinkowskiConvolution(2, 2, 3, dimension=2).double()
    with torch.no_grad():
        cube.kernel.zero_()
        cube.kernel[[4, 3, 5, 1, 7]] = cross.kernel
    x = native.SparseTensor(torch.randn(20, 2).double(), coordinates_of(2, 2, 400, batches=1, reach=9)[:20])
    torch.testing.assert_close(cross(x).F, cube(x).F)


def test_stride_of_a_single_cell_kernel_in_one_dimension(native: ModuleType) -> None:
    """MinkowskiEngine 0.5.4 gets this wrong: it returns the input's coordinates."""
    x = native.SparseTensor(torch.tensor([[1.0], [2.0], [3.0]]), torch.tensor([[0, 0], [0, 2], [0, 3]]).int())
    layer = native.MinkowskiConvolution(1, 1, 1, stride=2, dimension=1)
    with torch.no_grad():
        layer.kernel.fill_(1)
    out = layer(x)
    assert out.tensor_stride == [2]
    assert dict(zip(out.C[:, 1].tolist(), out.F[:, 0].tolist(), strict=True)) == {0: 1.0, 2: 2.0}


def test_generated_children_are_parent_times_kernel(native: ModuleType) -> None:
    x = native.SparseTensor(
        torch.tensor([[2.0], [3.0]]), torch.tensor([[0, 0, 0], [0, 4, -4]]).int(), tensor_stride=4
    )
    layer = native.MinkowskiGenerativeConvolutionTranspose(1, 1, 2, stride=2, dimension=2)
    with torch.no_grad():
        layer.kernel.copy_(torch.tensor([1.0, 2, 3, 4]).view(4, 1, 1))
    out = layer(x)
    assert out.C[:4].tolist() == [[0, 0, 0], [0, 2, 0], [0, 0, 2], [0, 2, 2]]
    assert out.F.flatten().tolist() == [2, 4, 6, 8, 3, 6, 9, 12]


@pytest.mark.parametrize("name", ["MinkowskiConvolution", "MinkowskiConvolutionTranspose"])
def test_initial_values(native: ModuleType, name: str) -> None:
    layer = getattr(native, name)(4, 9, 3, bias=True, dimension=3)
    bound = 1 / (27 * (9 if "Transpose" in name else 4)) ** 0.5
    for parameter in (layer.kernel, layer.bias):
        assert parameter.abs().max() <= bound
    assert layer.kernel.abs().max() > 0.98 * bound
    assert layer.kernel.shape == (27, 4, 9) and layer.bias.shape == (1, 9)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"in_channels": 0}, "in_channels"),
        ({"kernel_size": 0}, "kernel_size"),
        ({"kernel_size": [3, 3]}, "kernel_size"),
        ({"stride": -1}, "stride"),
        ({"dimension": None}, "dimension"),
    ],
)
def test_bad_arguments(native: ModuleType, arguments: dict[str, Any], message: str) -> None:
    good: dict[str, Any] = {"in_channels": 2, "out_channels": 2, "kernel_size": 3, "dimension": 3}
    with pytest.raises(ValueError, match=message):
        native.MinkowskiConvolution(**{**good, **arguments})


def test_bad_input(native: ModuleType) -> None:
    layer = native.MinkowskiConvolution(2, 2, 3, dimension=3)
    rows = torch.zeros(1, 4).int()
    with pytest.raises(ValueError, match="2 input channels"):
        layer(native.SparseTensor(torch.zeros(1, 3), rows))
    with pytest.raises(ValueError, match="dimension 3"):
        layer(native.SparseTensor(torch.zeros(1, 2), rows[:, :3]))
    with pytest.raises(TypeError, match="SparseTensor"):
        layer(torch.zeros(1, 2))
    transpose = native.MinkowskiGenerativeConvolutionTranspose(2, 2, 2, stride=2, dimension=3)
    with pytest.raises(ValueError, match="below stride 1"):
        transpose(native.SparseTensor(torch.zeros(1, 2), rows))
    other = native.SparseTensor(torch.zeros(1, 2), rows)
    with pytest.raises(ValueError, match="another coordinate manager"):
        layer(native.SparseTensor(torch.zeros(1, 2), rows), other)
