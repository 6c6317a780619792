"""Collation, quantization and initial values against MinkowskiEngine."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

COORDINATES = torch.tensor([[0.2, 0.7], [1.1, 0.0], [1.4, 0.5], [2.2, -1.3]])
FEATURES = torch.arange(8.0).view(4, 2)
LABELS = torch.tensor([0, 1, 2, 3]).int()


def equal(a: Any, b: Any) -> bool:
    if isinstance(a, tuple):
        return isinstance(b, tuple) and len(a) == len(b) and all(map(equal, a, b))
    return type(a) is type(b) and a.dtype == b.dtype and a.tolist() == b.tolist()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"features": FEATURES},
        {"features": FEATURES, "labels": LABELS, "quantization_size": 2.0},
        {"features": FEATURES, "labels": LABELS, "quantization_size": [1.0, 2.0]},
        {"return_index": True},
        {"return_index": True, "return_inverse": True},
        {"return_maps_only": True},
        {"return_maps_only": True, "return_inverse": True},
    ],
)
def test_sparse_quantize(minkowski: ModuleType, native: ModuleType, options: dict[str, Any]) -> None:
    options = {k: torch.tensor(v) if isinstance(v, list) else v for k, v in options.items()}
    if "return_inverse" in options and "return_maps_only" in options:
        index, inverse = native.utils.sparse_quantize(COORDINATES, **options)
        assert index.tolist() == [0, 1, 3] and inverse.tolist() == [0, 1, 1, 2]
        return
    assert equal(
        native.utils.sparse_quantize(COORDINATES, **options),
        minkowski.utils.sparse_quantize(COORDINATES, **options),
    )


def test_sparse_quantize_arrays(minkowski: ModuleType, native: ModuleType) -> None:
    arrays = (COORDINATES.numpy(), FEATURES.numpy(), LABELS.numpy())
    ours, theirs = (
        engine.utils.sparse_quantize(*arrays, return_index=True) for engine in (native, minkowski)
    )
    assert equal(ours, theirs) and isinstance(ours[1], np.ndarray)


def test_collation(minkowski: ModuleType, native: ModuleType) -> None:
    items = [(COORDINATES, FEATURES, LABELS), (-COORDINATES[:2], FEATURES[:2], LABELS[:2])]
    columns = [list(column) for column in zip(*items, strict=True)]
    for call in (
        lambda u: u.batched_coordinates(columns[0]),
        lambda u: u.batched_coordinates(columns[0], dtype=torch.float32),
        lambda u: u.sparse_collate(columns[0], columns[1]),
        lambda u: u.sparse_collate(*columns),
        lambda u: u.batch_sparse_collate(items),
        lambda u: u.SparseCollation()(items),
        lambda u: u.SparseCollation(limit_numpoints=5)(items),
    ):
        assert equal(call(native.utils), call(minkowski.utils))


def test_collation_keeps_the_index_of_an_empty_item(native: ModuleType) -> None:
    rows = native.utils.batched_coordinates([COORDINATES[:1], COORDINATES[:0], COORDINATES[1:2]])
    assert rows.tolist() == [[0, 0, 0], [2, 1, 0]]


def test_kaiming(native: ModuleType) -> None:
    kernel = torch.empty(27, 40, 80)
    torch.manual_seed(0)
    for mode, fan in (("fan_in", 27 * 40), ("fan_out", 27 * 80)):
        native.utils.kaiming_normal_(kernel, mode=mode, nonlinearity="relu")
        assert kernel.std().item() == pytest.approx((2 / fan) ** 0.5, rel=0.02)


def test_bad_input(native: ModuleType) -> None:
    utils = native.utils
    with pytest.raises(ValueError, match="non-empty sequence"):
        utils.batched_coordinates([])
    with pytest.raises(ValueError, match=r"coords\[1\] must have shape \(N, 2\)"):
        utils.batched_coordinates([COORDINATES, COORDINATES[:, :1]])
    with pytest.raises(ValueError, match="item 0 has different numbers of rows"):
        utils.sparse_collate([COORDINATES], [FEATURES[:2]])
    with pytest.raises(ValueError, match="leaves no item"):
        utils.SparseCollation(limit_numpoints=2)([(COORDINATES, FEATURES)])
    with pytest.raises(ValueError, match="features has 1 rows"):
        utils.sparse_quantize(COORDINATES, FEATURES[:1])
    with pytest.raises(ValueError, match="fan_in"):
        utils.kaiming_normal_(torch.empty(2, 2), mode="fan_both")
