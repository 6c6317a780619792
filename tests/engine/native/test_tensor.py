"""SparseTensor and TensorField: construction, arithmetic, dense views, and what goes wrong with which message."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

Coordinates = Callable[..., Tensor]
Compare = Callable[..., Any]

ROWS = torch.tensor([[0, 1, 1], [0, 0, 0], [0, 1, 1], [1, 2, -2], [0, 0, 0]]).int()
VALUES = torch.tensor([[1.0], [2.0], [3.0], [4.0], [6.0]])


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("RANDOM_SUBSAMPLE", [1, 2, 4]),
        ("UNWEIGHTED_AVERAGE", [2, 4, 4]),
        ("UNWEIGHTED_SUM", [4, 8, 4]),
        ("MAX_POOL", [3, 6, 4]),
    ],
)
def test_duplicates(native: ModuleType, mode: str, expected: list[float]) -> None:
    leaf = VALUES.clone().requires_grad_()
    x = native.SparseTensor(leaf, ROWS, quantization_mode=native.SparseTensorQuantizationMode[mode])
    assert x.C.tolist() == [[0, 1, 1], [0, 0, 0], [1, 2, -2]]
    assert x.F.flatten().tolist() == expected
    assert x.unique_index.tolist() == [0, 1, 3] and x.inverse_mapping.tolist() == [0, 1, 0, 2, 1]
    x.F.sum().backward()
    assert leaf.grad is not None and leaf.grad.sum() == {"UNWEIGHTED_SUM": 5}.get(mode, 3)


def test_duplicates_without_quantization_are_an_error(native: ModuleType) -> None:
    mode = native.SparseTensorQuantizationMode.NO_QUANTIZATION
    with pytest.raises(ValueError, match="2 of 5 coordinates are duplicates"):
        native.SparseTensor(VALUES, ROWS, quantization_mode=mode)
    assert len(native.SparseTensor(VALUES[:2], ROWS[:2], quantization_mode=mode)) == 2


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**20), dimension=st.integers(1, 4), far=st.booleans())
def test_duplicates_are_found_in_every_lookup(
    native: ModuleType, seed: int, dimension: int, far: bool
) -> None:
    """Far-apart coordinates take the sorted keys, near ones the grid; both keep the first of equal rows."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randint(-2, 3, (30, 1 + dimension), generator=generator)
    rows[:, 0] += 2
    if far:
        rows[:, 1] *= 10**8
    x = native.SparseTensor(torch.arange(30.0)[:, None], rows)
    seen: dict[tuple[int, ...], int] = {}
    for number, row in enumerate(rows.tolist()):
        seen.setdefault(tuple(row), number)
    assert list(map(tuple, x.C.tolist())) == list(seen)
    assert x.F[:, 0].tolist() == list(seen.values())


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**20), operator=st.sampled_from(["+", "-", "*"]), generated=st.booleans())
def test_arithmetic_over_different_coordinates(
    same_as_minkowski: Compare, coordinates_of: Coordinates, seed: int, operator: str, generated: bool
) -> None:
    """One operand pruned, or generated beyond the other; a missing feature is 0."""

    def combine(layers: Any, x: Any) -> Any:
        down, up, prune = layers
        y = up(down(x)) if generated else prune(x, x.C[:, 1] >= 0)
        return {"+": lambda: x + y, "-": lambda: x - y, "*": lambda: x * y}[operator]()

    def layers(engine: ModuleType) -> Any:
        down = engine.MinkowskiConvolution(3, 3, 2, stride=2, dimension=2).double()
        up = engine.MinkowskiGenerativeConvolutionTranspose(3, 3, 2, stride=2, dimension=2).double()
        for layer in (down, up):
            torch.nn.init.constant_(layer.kernel, 0.5)
        return down, up, engine.MinkowskiPruning()

    same_as_minkowski(layers, coordinates_of(seed, 2, 30), call=combine)


def test_a_second_union_is_its_own(native: ModuleType) -> None:
    """MinkowskiEngine 0.5.4 returns the coordinates of the first one."""
    manager = native.CoordinateManager(D=1)
    parts = [
        native.SparseTensor(
            torch.tensor([[float(i)]]), torch.tensor([[0, i]]).int(), coordinate_manager=manager
        )
        for i in (1, 2, 3)
    ]
    union = native.MinkowskiUnion()
    assert union(parts[0], parts[1]).C[:, 1].tolist() == [1, 2]
    assert union(parts[0], parts[2]).C[:, 1].tolist() == [1, 3]
    three = union(*parts, parts[0])
    assert three.C[:, 1].tolist() == [1, 2, 3] and three.F.flatten().tolist() == [2, 2, 3]
    assert (parts[0] - parts[2]).F.flatten().tolist() == [1, -3]


def test_union_gradients_reach_every_part(native: ModuleType) -> None:
    manager = native.CoordinateManager(D=1)
    leaves = [torch.ones(2, 1, requires_grad=True) for _ in range(2)]
    a = native.SparseTensor(leaves[0], torch.tensor([[0, 0], [0, 1]]).int(), coordinate_manager=manager)
    b = native.SparseTensor(leaves[1], torch.tensor([[0, 2], [0, 1]]).int(), coordinate_manager=manager)
    out = native.MinkowskiUnion()(a, b)
    assert out.C[:, 1].tolist() == [0, 1, 2] and out.F.flatten().tolist() == [1, 2, 1]
    out.F.backward(torch.tensor([[1.0], [2.0], [3.0]]))
    assert [leaf.grad.flatten().tolist() for leaf in leaves if leaf.grad is not None] == [[1, 2], [3, 2]]


def test_pruning(same_as_minkowski: Compare, coordinates_of: Coordinates) -> None:
    rows = coordinates_of(3, 3, 40)
    out = same_as_minkowski(
        lambda engine: engine.MinkowskiPruning(), rows, call=lambda layer, x: layer(x, x.C[:, 1] > 0)
    )
    assert torch.equal(out.C, rows[rows[:, 1] > 0])


def test_numbers_and_dense_operands(native: ModuleType) -> None:
    x = native.SparseTensor(torch.tensor([[1.0, 2.0]]), torch.zeros(1, 3).int())
    assert (2 * x - 1).F.tolist() == [[1, 3]] and (1 / x).F.tolist() == [[1, 0.5]]
    assert (x * torch.tensor([3.0, 4.0])).F.tolist() == [[3, 8]] and (-x).F.tolist() == [[-1, -2]]
    x /= 2
    assert x.F.tolist() == [[0.5, 1]]


def test_batch_items(native: ModuleType) -> None:
    rows = torch.tensor([[2, 5], [0, 1], [2, 3]]).int()
    x = native.SparseTensor(torch.tensor([[1.0], [2.0], [3.0]]), rows)
    assert [c.tolist() for c in x.decomposed_coordinates] == [[[1]], [[5], [3]]]
    assert [f.tolist() for f in x.decomposed_features] == [[[2]], [[1], [3]]]
    assert x.coordinates_at(2).tolist() == [[5], [3]] and x.features_at(0).tolist() == [[2]]
    assert len(x.features_at(1)) == 0


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**20), dimension=st.integers(1, 4), stride=st.integers(1, 3))
def test_dense_and_back(
    native: ModuleType, coordinates_of: Coordinates, seed: int, dimension: int, stride: int
) -> None:
    rows = coordinates_of(seed, dimension, 20, batches=2, reach=3, stride=stride)
    leaf = torch.randn(len(rows), 2, dtype=torch.float64, requires_grad=True)
    x = native.SparseTensor(leaf, rows, tensor_stride=stride)
    low = torch.full((dimension,), -3 * stride)
    dense, start, step = x.dense(shape=[2, 2] + [7] * dimension, min_coordinate=low)
    assert start.tolist() == [low.tolist()] and step.tolist() == [stride] * dimension
    assert int((dense != 0).any(1).sum()) == len(rows)
    back = native.to_sparse(dense)
    cells = torch.cat([back.C[:, :1], (back.C[:, 1:] - 3) * stride], dim=1)
    order = {tuple(row): place for place, row in enumerate(rows.tolist())}
    places = [order[tuple(row)] for row in cells.tolist()]
    assert torch.equal(back.F, leaf[places])
    dense.sum().backward()
    assert leaf.grad is not None and torch.equal(leaf.grad, torch.ones_like(leaf))


def test_dense_says_what_does_not_fit(native: ModuleType) -> None:
    x = native.SparseTensor(torch.ones(2, 1), torch.tensor([[0, -2], [0, 4]]).int(), tensor_stride=2)
    with pytest.raises(ValueError, match="pass min_coordinate"):
        x.dense()
    with pytest.raises(ValueError, match="do not fit"):
        x.dense(shape=[1, 1, 3], min_coordinate=torch.tensor([-2]))
    with pytest.raises(ValueError, match="multiple of the tensor stride"):
        x.dense(min_coordinate=torch.tensor([-3]))
    with pytest.raises(ValueError, match="shape must be"):
        x.dense(shape=[1, 2, 9], min_coordinate=torch.tensor([-2]))
    assert x.dense(min_coordinate=torch.tensor([-2]))[0].tolist() == [[[1, 0, 0, 1]]]
    assert x.dense(min_coordinate=torch.tensor([-2]), contract_stride=False)[0].shape == (1, 1, 7)
    assert x.sparse()[0].to_dense().flatten().tolist() == [1, 0, 0, 1]


def test_dense_layers(native: ModuleType) -> None:
    dense = torch.zeros(2, 1, 3, 3)
    dense[1, 0, 2, 1] = 5
    x = native.MinkowskiToSparseTensor()(dense)
    assert x.C.tolist() == [[1, 2, 1]] and torch.equal(native.MinkowskiToDenseTensor(dense.shape)(x), dense)
    every = native.MinkowskiToSparseTensor(remove_zeros=False)(dense)
    assert len(every) == 18 and torch.equal(native.MinkowskiToDenseTensor()(every), dense)
    assert torch.equal(native.MinkowskiToFeature()(x), x.F)
    assert native.to_sparse(dense.movedim(1, -1), format="BXXC").C.tolist() == [[1, 2, 1]]
    with pytest.raises(ValueError, match="format must be one of"):
        native.to_sparse(dense, format="XXBC")


@pytest.mark.parametrize("mode", ["RANDOM_SUBSAMPLE", "UNWEIGHTED_AVERAGE", "UNWEIGHTED_SUM", "MAX_POOL"])
@pytest.mark.parametrize("stride", [1, 2])
def test_field_to_sparse(minkowski: ModuleType, native: ModuleType, mode: str, stride: int) -> None:
    points = torch.cat([torch.randint(0, 2, (40, 1)), torch.rand(40, 2) * 6 - 3], 1)
    features = torch.rand(40, 3)  # positive: MinkowskiEngine's MAX_POOL starts from 0
    results = []
    for engine in (minkowski, native):
        field = engine.TensorField(
            features, points, quantization_mode=engine.SparseTensorQuantizationMode[mode]
        )
        x = field.sparse(tensor_stride=stride)
        results.append({tuple(c): f for c, f in zip(x.C.tolist(), x.F, strict=True)})
    assert results[0].keys() == results[1].keys()
    for key, value in results[0].items():
        torch.testing.assert_close(results[1][key], value)


def test_field_splat(minkowski: ModuleType, native: ModuleType) -> None:
    points = torch.cat([torch.randint(0, 2, (20, 1)), torch.rand(20, 2) * 6 - 3], 1)
    features = torch.randn(20, 3)
    results = []
    for engine in (minkowski, native):
        x = engine.TensorField(features, points).splat()
        results.append({tuple(c): f for c, f in zip(x.C.tolist(), x.F, strict=True)})
    assert results[0].keys() == results[1].keys()
    for key, value in results[0].items():
        torch.testing.assert_close(results[1][key], value)


def test_field_and_its_voxels(native: ModuleType) -> None:
    points = torch.tensor([[0, 0.2], [0, 0.8], [0, -0.1], [1, 3.5]])
    leaf = torch.tensor([[1.0], [3.0], [5.0], [7.0]], requires_grad=True)
    field = native.TensorField(leaf, points)
    x = field.sparse()
    assert x.C.tolist() == [[0, 0], [0, -1], [1, 3]] and x.F.flatten().tolist() == [2, 5, 7]
    assert x.coordinate_map_key == field.sparse().coordinate_map_key
    assert field.inverse_mapping(x.coordinate_map_key).tolist() == [0, 0, 1, 2]
    back = x.slice(field)
    assert isinstance(back, native.TensorField) and back.F.flatten().tolist() == [2, 2, 5, 7]
    assert x.cat_slice(field).F.tolist() == [[2, 1], [2, 3], [5, 5], [7, 7]]
    coarse = native.MinkowskiSumPooling(2, 2, dimension=1)(x)
    assert coarse.slice(field).F.flatten().tolist() == [2, 2, 5, 7]
    torch.testing.assert_close(x.interpolate(field).F.flatten()[2], torch.tensor(0.1 * 5 + 0.9 * 2))
    assert native.MinkowskiGlobalMaxPooling()(field).F.flatten().tolist() == [5, 7]
    native.MinkowskiLinear(1, 2)(native.MinkowskiReLU()(field)).F.sum().backward()
    assert leaf.grad is not None and leaf.grad.shape == (4, 1)


def test_to_moves_and_converts(native: ModuleType) -> None:
    x = native.SparseTensor(torch.ones(2, 1), torch.tensor([[0, 2], [0, 4]]).int(), tensor_stride=2)
    assert x.to(torch.float64).dtype == torch.float64 and x.to(torch.float64).tensor_stride == [2]
    assert x.cpu().coordinate_map_key == x.coordinate_map_key and x.get_device() == -1


def test_shared_coordinate_manager(native: ModuleType) -> None:
    modes = native.SparseTensorOperationMode
    native.set_sparse_tensor_operation_mode(modes.SHARE_COORDINATE_MANAGER)
    try:
        a, b = (native.SparseTensor(torch.ones(1, 1), torch.tensor([[0, i]]).int()) for i in (0, 1))
        assert a.coordinate_manager is native.global_coordinate_manager()
        assert (a + b).C[:, 1].tolist() == [0, 1]
    finally:
        native.clear_global_coordinate_manager()
        native.set_sparse_tensor_operation_mode(modes.SEPARATE_COORDINATE_MANAGER)
    assert native.sparse_tensor_operation_mode() == modes.SEPARATE_COORDINATE_MANAGER


def test_far_coordinates_work(native: ModuleType) -> None:
    """A box too large for a grid; the extremes of 32 bits."""
    top = 2**31 - 1
    rows = torch.tensor([[0, top, -9], [0, top - 1, -9], [3, -top, 9]])
    x = native.SparseTensor(torch.tensor([[1.0], [2.0], [4.0]]), rows)
    layer = native.MinkowskiConvolution(1, 1, 3, dimension=2)
    torch.nn.init.ones_(layer.kernel)
    with torch.no_grad():
        assert layer(x).F.flatten().tolist() == [3, 3, 4]


@pytest.mark.parametrize(
    ("features", "coordinates", "error", "message"),
    [
        (torch.ones(2), torch.zeros(2, 3).int(), ValueError, r"features must have shape \(N, C\)"),
        (torch.ones(2, 1).int(), torch.zeros(2, 3).int(), TypeError, "floating point"),
        ([[1.0]], torch.zeros(1, 3).int(), TypeError, "features must be a torch.Tensor"),
        (torch.ones(2, 1), torch.zeros(3, 3).int(), ValueError, "same number of rows, got 2 and 3"),
        (torch.ones(2, 1), torch.zeros(2).int(), ValueError, r"coordinates must have shape \(N, 1 \+ D\)"),
        (torch.ones(1, 1), [[0, 0]], TypeError, "coordinates must be a torch.Tensor"),
        (torch.ones(1, 1), torch.tensor([[0, 2**31]]), ValueError, "32-bit"),
        (torch.ones(1, 1), torch.tensor([[0.0, torch.nan]]), ValueError, "32-bit"),
        (torch.ones(1, 1), torch.zeros(1, 2).bool(), ValueError, "must hold integers"),
        (torch.ones(1, 1), None, ValueError, "needs coordinates, or both"),
        (
            torch.ones(2, 1),
            torch.tensor([[0] + [-(2**31) + 1] * 3, [0] + [2**31 - 1] * 3]),
            ValueError,
            r"2\^62",
        ),
    ],
)
def test_bad_construction(
    native: ModuleType, features: Any, coordinates: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        native.SparseTensor(features, coordinates)


def test_bad_combinations(native: ModuleType) -> None:
    rows = torch.tensor([[0, 0], [0, 2]]).int()
    x, stranger = (native.SparseTensor(torch.ones(2, 1), rows) for _ in range(2))
    with pytest.raises(ValueError, match="different coordinate managers"):
        x + stranger
    with pytest.raises(ValueError, match="different coordinate managers"):
        native.cat(x, stranger)
    with pytest.raises(ValueError, match="bool tensor of shape"):
        native.MinkowskiPruning()(x, torch.ones(3).bool())
    with pytest.raises(ValueError, match="bool tensor of shape"):
        native.MinkowskiPruning()(x, torch.ones(2))
    with pytest.raises(ValueError, match="multiples of the tensor stride"):
        native.SparseTensor(torch.ones(2, 1), rows + 1, tensor_stride=2)
    with pytest.raises(ValueError, match="3 columns"):
        native.SparseTensor(torch.ones(2, 1), rows, coordinate_manager=native.CoordinateManager(D=2))
    with pytest.raises(ValueError, match="one tensor stride"):
        native.MinkowskiUnion()(x, native.MinkowskiSumPooling(2, 2, dimension=1)(x))
    key = stranger.coordinate_manager.stride(stranger.coordinate_map_key, 4)
    with pytest.raises(KeyError, match="no coordinate map"):
        x.coordinate_manager.get_coordinates(native.CoordinateMapKey(key.get_tensor_stride()))
    with pytest.raises(ValueError, match="features has 3 rows"):
        native.SparseTensor(
            torch.ones(3, 1), coordinate_map_key=x.coordinate_map_key, coordinate_manager=x.coordinate_manager
        )
