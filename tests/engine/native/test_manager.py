"""Coordinate maps, their keys and lookups, and what relates them."""

from __future__ import annotations

import gc
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from monai_sparse_refine.engine.native import lookup as lookup_module
from monai_sparse_refine.engine.native.coordinate_map import CoordinateMap
from monai_sparse_refine.engine.native.kernel_map import KernelMap
from monai_sparse_refine.engine.native.lookup import CoordinateLookup

Coordinates = Callable[..., Tensor]


def pairs_by_coordinates(manager: Any, in_key: Any, out_key: Any, pairs: dict[int, Tensor]) -> set[Any]:
    """Kernel offset, input coordinates, output coordinates: what does not depend on the order of rows."""
    ins, outs = manager.get_coordinates(in_key).tolist(), manager.get_coordinates(out_key).tolist()
    return {
        (k, tuple(ins[i]), tuple(outs[o]))
        for k, (a, b) in pairs.items()
        for i, o in zip(a.tolist(), b.tolist(), strict=True)
    }


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**20),
    dimension=st.integers(1, 3),
    kernel=st.integers(1, 4),
    stride=st.integers(1, 3),
    pool=st.booleans(),
)
def test_kernel_map(
    minkowski: ModuleType,
    native: ModuleType,
    coordinates_of: Coordinates,
    seed: int,
    dimension: int,
    kernel: int,
    stride: int,
    pool: bool,
) -> None:
    rows = coordinates_of(seed, dimension, 30)
    found = []
    for engine in (minkowski, native):
        x = engine.SparseTensor(torch.zeros(len(rows), 1), rows)
        manager, key = x.coordinate_manager, x.coordinate_map_key
        out = manager.stride(key, stride)
        pairs = manager.kernel_map(key, out, stride=stride, kernel_size=kernel, is_pool=pool)
        if pool and kernel == stride:  # MinkowskiEngine may give all pairs under one offset here
            pairs = {0: torch.cat(list(pairs.values()), dim=1)}
        found.append(pairs_by_coordinates(manager, key, out, pairs))
    assert found[0] == found[1]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**20), dimension=st.integers(1, 4), stride=st.integers(1, 3), far=st.booleans())
def test_lookup_finds_rows_and_nothing_else(
    coordinates_of: Coordinates, seed: int, dimension: int, stride: int, far: bool
) -> None:
    rows = coordinates_of(seed, dimension, 30, stride=stride)
    if far:
        rows[:, 1] *= 10**7
    queries = torch.cat([coordinates_of(seed + 1, dimension, 30, batches=3, reach=8), rows[::2], -rows])
    expected = {tuple(row): number + 1 for number, row in enumerate(rows.tolist())}
    found = CoordinateLookup(rows, (stride,) * dimension, margin=(1,) * dimension).find(queries)
    assert found.tolist() == [expected.get(tuple(row), 0) for row in queries.tolist()]


def test_grid_and_sorted_keys_agree(coordinates_of: Coordinates, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, queries = coordinates_of(1, 3, 200), coordinates_of(2, 3, 400)
    grid = CoordinateLookup(rows, (1, 1, 1), margin=(1, 1, 1))
    monkeypatch.setattr(lookup_module, "LARGEST_GRID", 0)
    ordered = CoordinateLookup(rows, (1, 1, 1), margin=(1, 1, 1))
    assert torch.equal(grid.find(queries), ordered.find(queries))
    assert not ordered.has_duplicates()


def test_strides_are_made_once_and_floor(native: ModuleType) -> None:
    x = native.SparseTensor(torch.zeros(4, 1), torch.tensor([[0, -3], [0, -1], [0, 0], [1, 5]]).int())
    manager = x.coordinate_manager
    key = manager.stride(x.coordinate_map_key, 4)
    assert manager.get_coordinates(key).tolist() == [[0, -4], [0, 0], [1, 4]]
    assert manager.get_coordinates(4) is manager.get_coordinates(manager.stride(x.coordinate_map_key, [4]))
    rows, coarse = manager.stride_map(x.coordinate_map_key, key)
    assert rows.tolist() == [0, 1, 2, 3] and coarse.tolist() == [0, 0, 1, 2]


def test_origin_counts_items_that_a_tensor_has_lost(native: ModuleType) -> None:
    x = native.SparseTensor(torch.ones(3, 1), torch.tensor([[2, 7], [0, 1], [2, 3]]).int())
    manager = x.coordinate_manager
    assert manager.get_coordinates(manager.origin()).tolist() == [[0, 0], [2, 0]]
    assert manager.number_of_unique_batch_indices() == 2
    batches, rows = manager.origin_map(x.coordinate_map_key)
    assert batches.tolist() == [0, 2] and [r.tolist() for r in rows] == [[1], [0, 2]]
    pruned = native.MinkowskiPruning()(x, torch.tensor([True, False, True]))
    pooled = native.MinkowskiGlobalSumPooling()(pruned)
    assert pooled.F.flatten().tolist() == [0, 2] and pooled.tensor_stride == [0]


def test_fields_and_their_sparse_maps(minkowski: ModuleType, native: ModuleType) -> None:
    points = torch.tensor([[0, 0.1, 0.2], [0, 0.3, 0.4], [1, 1.5, 2.0], [1, 1.6, 2.0]])
    answers = []
    for engine in (minkowski, native):
        field = engine.TensorField(torch.ones(4, 1), points)
        manager, key = field.coordinate_manager, field.coordinate_field_map_key
        before = len(manager.field_to_sparse_keys(key))
        sparse = field.sparse()
        items, rows = manager.origin_field_map(key)
        answers.append(
            (
                before,
                [found.get_key() for found in manager.field_to_sparse_keys(key)],
                manager.exists_field_to_sparse(key, sparse.coordinate_map_key),
                sorted(manager.get_coordinates(manager.origin_field()).tolist()),
                items.tolist(),
                [r.tolist() for r in rows],
            )
        )
    assert answers[0] == answers[1]


def test_union_map(native: ModuleType) -> None:
    manager = native.CoordinateManager(D=1)
    a, _ = manager.insert_and_map(torch.tensor([[0, 1], [0, 2]]).int(), [1], "a")
    b, maps = manager.insert_and_map(torch.tensor([[0, 5], [0, 2], [0, 5]]).int(), [1], "b")
    assert [m.tolist() for m in maps] == [[0, 1], [0, 1, 0]]
    out = native.CoordinateMapKey(2)
    assert not out.is_key_set()
    pairs = manager.union_map([a, b], out)
    assert manager.get_coordinates(out)[:, 1].tolist() == [1, 2, 5]
    assert pairs[1].tolist() == [[0, 1], [2, 1]]


def test_more_pairs_than_32_bits_number(native: ModuleType) -> None:
    coarse, fine = (
        CoordinateMap(torch.nn.functional.pad(torch.arange(n)[:, None], (1, 0)).int(), (1,))
        for n in (2048, 1)
    )
    table = KernelMap(coarse, fine, torch.arange(2**20)[:, None], regular=True, on_use=print)
    with pytest.raises(
        ValueError, match="kernel of 1048576 cells on 2048 rows makes more than 2147483647 pairs"
    ):
        table.positions()


def test_taken_names_get_another(native: ModuleType) -> None:
    manager = native.CoordinateManager(D=1)
    rows = torch.tensor([[0, 1]]).int()
    first, second = (manager.insert_and_map(rows, [1], "x")[0] for _ in range(2))
    assert first.get_key() == ([1], "x") and second != first
    assert manager.get_unique_coordinate_map_key(1) not in (first, second)


def test_anonymous_maps_go_with_the_last_tensor_that_uses_them(native: ModuleType) -> None:
    x = native.SparseTensor(torch.ones(4, 1), torch.tensor([[0, i] for i in range(4)]).int())
    pruned = native.MinkowskiPruning()(x, torch.tensor([True, False, True, False]))
    assert "2 rows" in repr(x.coordinate_manager)
    del pruned
    gc.collect()
    assert "2 rows" not in repr(x.coordinate_manager) and "4 rows" in repr(x.coordinate_manager)


@pytest.mark.parametrize("dimension", [0, "3", None])
def test_bad_dimension(native: ModuleType, dimension: Any) -> None:
    with pytest.raises(ValueError, match="number of spatial dimensions"):
        native.CoordinateManager(D=dimension)


def test_kernel_generator_says_what_is_wrong(native: ModuleType) -> None:
    with pytest.raises(ValueError, match="must be odd for a cross"):
        native.KernelGenerator(2, region_type=native.RegionType.HYPER_CROSS, dimension=2)
    with pytest.raises(ValueError, match="region_offsets must be"):
        native.KernelGenerator(region_type=native.RegionType.CUSTOM, dimension=2)
    offsets = torch.tensor([[0, 0], [2, -1]])
    custom = native.KernelGenerator(region_type=native.RegionType.CUSTOM, region_offsets=offsets, dimension=2)
    layer = native.MinkowskiConvolution(1, 1, kernel_generator=custom, dimension=2)
    with torch.no_grad():
        layer.kernel.copy_(torch.tensor([1.0, 10.0]).view(2, 1, 1))
    x = native.SparseTensor(torch.tensor([[1.0], [2.0]]), torch.tensor([[0, 0, 0], [0, 2, -1]]).int())
    assert layer(x).F.flatten().tolist() == [21, 2]
