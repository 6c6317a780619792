"""Random sparse tensors, and comparison with MinkowskiEngine and with dense PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from monai_sparse_refine.engine.native.compiled import build


def random_coordinates(
    seed: int, dimension: int, count: int, *, batches: int = 2, reach: int = 5, stride: int = 1
) -> Tensor:
    """Distinct shuffled int32 rows, negative ones among them; the item in the middle of three is empty."""
    generator = torch.Generator().manual_seed(seed)
    space = torch.randint(-reach, reach + 1, (count, dimension), generator=generator) * stride
    batch = torch.randint(0, batches, (count, 1), generator=generator)
    rows = torch.unique(torch.cat([batch, space], 1), dim=0)
    if batches == 3:
        rows = rows[rows[:, 0] != 1]
    return rows[torch.randperm(len(rows), generator=generator)].int()


def order_of(wanted: Tensor, have: Tensor) -> Tensor:
    """Permutation p with have[p] == wanted; fails unless both hold the same rows."""
    places = {tuple(row): place for place, row in enumerate(have.tolist())}
    assert len(places) == len(have) == len(wanted)
    return torch.tensor([places[tuple(row)] for row in wanted.tolist()], dtype=torch.long)


def run_both(
    minkowski: ModuleType,
    native: ModuleType,
    make: Callable[[ModuleType], Any],
    coordinates: Tensor,
    *,
    channels: int = 3,
    stride: int = 1,
    tolerance: float = 1e-9,
    call: Callable[[Any, Any], Any] | None = None,
) -> Any:
    """Run the same layer with the same weights on both engines; compare rows, outputs and every gradient."""
    features = torch.randn(len(coordinates), channels, dtype=torch.float64)
    call = call or (lambda layer, x: layer(x))
    results: list[tuple[Any, Tensor, Any]] = []
    for engine in (minkowski, native):
        layer = make(engine)
        if isinstance(layer, torch.nn.Module):
            layer = layer.double()
            if results:
                layer.load_state_dict(results[0][2].state_dict())
        leaf = features.clone().requires_grad_()
        x = engine.SparseTensor(leaf, coordinates, tensor_stride=stride)
        results.append((call(layer, x), leaf, layer))
    (theirs, their_leaf, their_layer), (ours, our_leaf, our_layer) = results
    assert list(ours.tensor_stride) == list(theirs.tensor_stride)
    order = order_of(ours.C, theirs.C)
    torch.testing.assert_close(ours.F, theirs.F[order], rtol=0, atol=tolerance)
    gradient = torch.randn_like(ours.F)
    permuted = torch.zeros_like(gradient)
    permuted[order] = gradient
    ours.F.backward(gradient)
    theirs.F.backward(permuted)
    torch.testing.assert_close(our_leaf.grad, their_leaf.grad, rtol=0, atol=10 * tolerance)
    if isinstance(our_layer, torch.nn.Module):
        for (name, mine), (other, yours) in zip(
            our_layer.named_parameters(), their_layer.named_parameters(), strict=True
        ):
            assert name == other
            torch.testing.assert_close(mine.grad, yours.grad, rtol=0, atol=100 * tolerance)
    return ours


def densify(x: Any, low: Sequence[int], shape: Sequence[int]) -> Tensor:
    """[B, C, *shape] of a native tensor from voxel ``low`` on, differentiable."""
    return x.dense(shape=(int(x.C[:, 0].max()) + 1, x.F.shape[1], *shape), min_coordinate=torch.tensor(low))[
        0
    ]


@pytest.fixture(scope="session")
def coordinates_of() -> Callable[..., Tensor]:
    return random_coordinates


@pytest.fixture(scope="session")
def same_as_minkowski(minkowski: ModuleType, native: ModuleType) -> Callable[..., Any]:
    def compare(make: Callable[[ModuleType], Any], coordinates: Tensor, **options: Any) -> Any:
        return run_both(minkowski, native, make, coordinates, **options)

    return compare


@pytest.fixture(scope="session")
def dense_of() -> Callable[..., Tensor]:
    return densify


@pytest.fixture(scope="session", autouse=True, params=["compiled", "plain"])
def kernels(request: pytest.FixtureRequest) -> Iterator[str]:
    """Every test of the native engine runs twice: with the compiled kernels, and with PyTorch alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(build.VARIABLE, "off" if request.param == "plain" else "auto")
        build.library.cache_clear()
        if request.param == "compiled" and build.library() is None:
            pytest.skip("there is no C++ compiler")
        yield request.param
    build.library.cache_clear()
