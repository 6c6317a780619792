"""Layer by layer and from the same weights, both engines give the same voxels, features and gradients."""

from __future__ import annotations

import copy
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

# Left out: in one dimension, the library takes a kernel of 1 for a pointwise layer whatever its stride.
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}
# The engines are fixtures of the session, the same for every example.
examples = settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
dtypes = st.sampled_from([torch.float64, torch.float32])
seeds = st.integers(0, 2**16)


@st.composite
def coordinates(draw: st.DrawFn, dimension: int, *, stride: int = 1, reach: int = 5) -> Tensor:
    """1 to 40 distinct rows (N, 1 + D) of one or two volumes, multiples of the stride, negative ones too."""
    row = st.tuples(st.integers(0, 1), *[st.integers(-reach, reach) for _ in range(dimension)])
    rows = torch.tensor(draw(st.lists(row, min_size=1, max_size=40, unique=True)), dtype=torch.int32)
    rows[:, 1:] *= stride
    return rows


def features(rows: Tensor, channels: int, dtype: torch.dtype, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(len(rows), channels, dtype=dtype, generator=generator)


def in_order(rows: Tensor) -> Tensor:
    """The permutation that sorts rows; an engine may choose their order."""
    return torch.tensor(sorted(range(len(rows)), key=rows.tolist().__getitem__), dtype=torch.long)


def run(
    compute: Callable[[Tensor], Any], given_features: Tensor, layer: torch.nn.Module | None
) -> dict[str, Any]:
    """What comes out, and the gradients of a weighted sum of it."""
    start = given_features.clone().requires_grad_()
    out = compute(start)
    order = in_order(out.C)
    values = out.F[order]
    weights = torch.linspace(-1, 2, values.numel(), dtype=values.dtype).reshape(values.shape)
    (values * weights).sum().backward()
    parameters = {} if layer is None else {name: p.grad for name, p in layer.named_parameters()}
    return {
        "rows": out.C[order],
        "stride": list(out.tensor_stride),
        "tensors": {"features": values.detach(), "input": start.grad, **parameters},
    }


def assert_same(ours: dict[str, Any], theirs: dict[str, Any], dtype: torch.dtype) -> None:
    assert ours["stride"] == theirs["stride"]
    assert ours["rows"].tolist() == theirs["rows"].tolist()
    assert ours["tensors"].keys() == theirs["tensors"].keys()
    for name, value in theirs["tensors"].items():
        scale = max(1.0, float(value.abs().max())) if value.numel() else 1.0
        torch.testing.assert_close(
            ours["tensors"][name], value, atol=TOLERANCE[dtype] * scale, rtol=0, msg=name
        )


def both(
    engines: tuple[ModuleType, ModuleType],
    make: Callable[[ModuleType], torch.nn.Module],
    compute: Callable[[ModuleType, torch.nn.Module, Tensor], Any],
    start: Tensor,
) -> None:
    """Make the layer on both engines, give both the same weights, and compare what they compute."""
    results, state = [], None
    for engine in engines:
        layer = make(engine).to(start.dtype)
        state = copy.deepcopy(layer.state_dict()) if state is None else state
        layer.load_state_dict(state)  # strict: the names and shapes are the same
        results.append(run(lambda f, e=engine, m=layer: compute(e, m, f), start, layer))  # type: ignore[misc]
    assert_same(*results, dtype=start.dtype)


@pytest.fixture(scope="session")
def engines(native: ModuleType, minkowski: ModuleType) -> tuple[ModuleType, ModuleType]:
    return native, minkowski


@given(data=st.data(), dimension=st.integers(1, 4), dtype=dtypes, seed=seeds)
@examples
def test_convolution(engines, data: st.DataObject, dimension: int, dtype: torch.dtype, seed: int) -> None:
    stride = data.draw(st.sampled_from([1, 2]))
    rows = data.draw(coordinates(dimension, stride=stride))
    options = {
        "kernel_size": data.draw(st.integers(1, 5 if dimension < 4 else 3)),
        "stride": data.draw(st.integers(1, 3)),
        "dilation": data.draw(st.integers(1, 2)),
        "bias": data.draw(st.booleans()),
        "dimension": dimension,
    }
    assume(dimension > 1 or options["kernel_size"] > 1 or options["stride"] == 1)  # see above
    both(
        engines,
        lambda engine: engine.MinkowskiConvolution(2, 3, **options),
        lambda engine, layer, f: layer(engine.SparseTensor(f, rows, tensor_stride=stride)),
        features(rows, 2, dtype, seed),
    )


@given(data=st.data(), dimension=st.integers(1, 3), dtype=dtypes, seed=seeds)
@examples
def test_convolution_onto_given_coordinates(
    engines, data: st.DataObject, dimension: int, dtype: torch.dtype, seed: int
) -> None:
    rows, wanted = data.draw(coordinates(dimension)), data.draw(coordinates(dimension))

    def compute(engine: ModuleType, layer: torch.nn.Module, f: Tensor) -> Any:
        sparse = engine.SparseTensor(f, rows)
        there = engine.SparseTensor(
            torch.zeros(len(wanted), 1, dtype=dtype), wanted, coordinate_manager=sparse.coordinate_manager
        )
        return layer(sparse, there)

    both(
        engines,
        lambda engine: engine.MinkowskiConvolution(2, 3, kernel_size=3, bias=True, dimension=dimension),
        compute,
        features(rows, 2, dtype, seed),
    )


@given(data=st.data(), dimension=st.integers(1, 4), dtype=dtypes, seed=seeds)
@examples
def test_generative_transpose(
    engines, data: st.DataObject, dimension: int, dtype: torch.dtype, seed: int
) -> None:
    stride = data.draw(st.sampled_from([2, 3]))
    rows = data.draw(coordinates(dimension, stride=stride * 2))
    kernel = data.draw(st.integers(1 if dimension > 1 else 2, 4 if dimension < 4 else 3))  # see above
    both(
        engines,
        lambda engine: engine.MinkowskiGenerativeConvolutionTranspose(
            2, 3, kernel_size=kernel, stride=stride, bias=True, dimension=dimension
        ),
        lambda engine, layer, f: layer(engine.SparseTensor(f, rows, tensor_stride=stride * 2)),
        features(rows, 2, dtype, seed),
    )


@given(data=st.data(), dimension=st.integers(1, 3), dtype=dtypes, seed=seeds, kernel=st.integers(2, 4))
@examples
def test_down_and_up_again(
    engines, data: st.DataObject, dimension: int, dtype: torch.dtype, seed: int, kernel: int
) -> None:
    rows = data.draw(coordinates(dimension))

    def make(engine: ModuleType) -> torch.nn.Module:
        options = {"kernel_size": kernel, "stride": 2, "dimension": dimension}
        down = engine.MinkowskiConvolution(2, 4, **options)
        up = engine.MinkowskiConvolutionTranspose(4, 2, **options)
        return torch.nn.Sequential(down, engine.MinkowskiReLU(), up)

    both(
        engines,
        make,
        lambda engine, layer, f: layer(engine.SparseTensor(f, rows)),
        features(rows, 2, dtype, seed),
    )


@given(data=st.data(), dtype=dtypes, seed=seeds, training=st.booleans())
@examples
def test_batch_norm(engines, data: st.DataObject, dtype: torch.dtype, seed: int, training: bool) -> None:
    rows = data.draw(coordinates(3).filter(lambda rows: len(rows) > 1))
    statistics = []

    def compute(engine: ModuleType, layer: torch.nn.Module, f: Tensor) -> Any:
        out = layer.train(training)(engine.SparseTensor(f, rows))
        statistics.append(torch.cat([layer.bn.running_mean, layer.bn.running_var]))
        return out

    both(engines, lambda engine: engine.MinkowskiBatchNorm(3), compute, features(rows, 3, dtype, seed))
    torch.testing.assert_close(*statistics, atol=TOLERANCE[dtype], rtol=0)


@given(data=st.data(), dimension=st.integers(1, 4), dtype=dtypes, seed=seeds)
@examples
def test_pruning(engines, data: st.DataObject, dimension: int, dtype: torch.dtype, seed: int) -> None:
    rows = data.draw(coordinates(dimension))
    mask = torch.tensor(data.draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows))))

    def compute(engine: ModuleType, layer: torch.nn.Module, f: Tensor) -> Any:
        return layer(engine.SparseTensor(f, rows), mask)

    both(engines, lambda engine: engine.MinkowskiPruning(), compute, features(rows, 2, dtype, seed))


@pytest.mark.parametrize("how", ["union", "add", "subtract"])
@given(data=st.data(), dimension=st.integers(1, 4), dtype=dtypes, seed=seeds)
@examples
def test_sum_over_different_coordinates(
    engines, how: str, data: st.DataObject, dimension: int, dtype: torch.dtype, seed: int
) -> None:
    """Twice in one coordinate manager, where the library itself would give the first coordinates again."""
    several = [data.draw(coordinates(dimension)) for _ in range(3)]
    sizes = [len(rows) for rows in several]

    def compute(engine: ModuleType, layer: torch.nn.Module, f: Tensor) -> Any:
        parts = f.split(sizes)
        first = engine.SparseTensor(parts[0], several[0])
        manager = first.coordinate_manager
        second, third = (
            engine.SparseTensor(part, rows, coordinate_manager=manager)
            for part, rows in zip(parts[1:], several[1:], strict=True)
        )
        if how == "union":
            return layer(layer(first, second), third)
        return first + second + third if how == "add" else first - (second - third)

    start = torch.cat([features(rows, 2, dtype, seed + i) for i, rows in enumerate(several)])
    both(engines, lambda engine: engine.MinkowskiUnion(), compute, start)


@given(data=st.data(), dimension=st.integers(1, 4), seed=seeds)
@examples
def test_repeated_coordinates_are_averaged_or_summed(
    engines, data: st.DataObject, dimension: int, seed: int
) -> None:
    """In float32, the precision in which the library computes the weights of a mean."""
    rows = data.draw(coordinates(dimension, reach=2))
    repeated = rows[torch.randint(len(rows), (2 * len(rows),), generator=torch.Generator().manual_seed(seed))]
    mode = data.draw(st.sampled_from(["UNWEIGHTED_AVERAGE", "UNWEIGHTED_SUM"]))

    def compute(engine: ModuleType, layer: torch.nn.Module, f: Tensor) -> Any:
        quantization = getattr(engine.SparseTensorQuantizationMode, mode)
        return layer(engine.SparseTensor(f, repeated, quantization_mode=quantization))

    both(engines, lambda engine: engine.MinkowskiReLU(), compute, features(repeated, 2, torch.float32, seed))


@given(data=st.data(), dimension=st.integers(1, 4), seed=seeds)
@examples
def test_dense(engines, data: st.DataObject, dimension: int, seed: int) -> None:
    rows = data.draw(coordinates(dimension))
    rows[:, 1:] += 5
    shape = torch.Size([2, 2, *[11] * dimension])
    dense = []
    for engine in engines:
        sparse = engine.SparseTensor(features(rows, 2, torch.float64, seed), rows)
        volume, low, stride = sparse.dense(
            shape=shape, min_coordinate=torch.zeros(dimension, dtype=torch.int32)
        )
        dense.append((volume, low.flatten().tolist(), list(stride)))
    assert torch.equal(dense[0][0], dense[1][0])
    assert dense[0][1:] == dense[1][1:]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("MinkowskiConvolution", {"kernel_size": 3}),
        ("MinkowskiConvolution", {"kernel_size": 2, "stride": 2}),
        ("MinkowskiConvolution", {"kernel_size": 1}),
        ("MinkowskiConvolutionTranspose", {"kernel_size": 2, "stride": 2}),
        ("MinkowskiGenerativeConvolutionTranspose", {"kernel_size": 4, "stride": 2}),
    ],
)
def test_empty_tensors(engines, name: str, options: dict[str, int]) -> None:
    rows = torch.zeros(0, 4, dtype=torch.int32)
    both(
        engines,
        lambda engine: getattr(engine, name)(2, 3, **options, bias=True, dimension=3),
        lambda engine, layer, f: layer(engine.SparseTensor(f, rows, tensor_stride=2)),
        torch.zeros(0, 2, dtype=torch.float64),
    )


def test_guards_do_not_change_what_the_library_computes(minkowski: ModuleType) -> None:
    """The oracle itself, guarded and not."""
    rows = torch.tensor([[0, 0, 0, 0], [0, 0, 1, 0], [0, 3, 2, 1], [1, 2, 2, 2]], dtype=torch.int32)

    def make(engine: Any) -> torch.nn.Module:
        return torch.nn.Sequential(
            engine.MinkowskiConvolution(2, 3, kernel_size=2, stride=2, dimension=3),
            engine.MinkowskiGenerativeConvolutionTranspose(3, 2, kernel_size=4, stride=2, dimension=3),
        )

    def compute(engine: Any, layer: torch.nn.Module, f: Tensor) -> Any:
        sparse = engine.SparseTensor(f, rows)
        return engine.MinkowskiUnion()(
            sparse, engine.MinkowskiPruning()(layer(sparse), layer(sparse).F[:, 0] > 0)
        )

    torch.manual_seed(0)
    both((minkowski, minkowski.library), make, compute, features(rows, 2, torch.float64, 0))
