"""The guards around MinkowskiEngine's bugs: what crashed or was silently wrong is right here."""

from __future__ import annotations

import collections
import os
from types import ModuleType

import pytest
import torch

from monai_sparse_refine.engine.library import import_library

ROWS = [[0, 0, 0, 0], [0, 0, 0, 2], [0, 2, 0, 0], [1, 4, 4, 4]]


def tensor(
    engine: ModuleType, rows: list[list[int]], *, channels: int = 2, stride: int = 1, like=None, seed=0
):
    generator = torch.Generator().manual_seed(seed)
    features = torch.rand(len(rows), channels, dtype=torch.float64, generator=generator, requires_grad=True)
    coordinates = torch.tensor(rows, dtype=torch.int32).reshape(-1, 4)
    manager = None if like is None else like.coordinate_manager
    return engine.SparseTensor(
        features, coordinates, tensor_stride=stride, coordinate_manager=manager
    ), features


def as_dict(sparse) -> dict[tuple[int, ...], list[float]]:
    return {tuple(row): values for row, values in zip(sparse.C.tolist(), sparse.F.tolist(), strict=True)}


def summed(*tensors) -> dict[tuple[int, ...], list[float]]:
    total: dict[tuple[int, ...], list[float]] = {}
    for one in tensors:
        for row, values in as_dict(one).items():
            total[row] = [a + b for a, b in zip(total.get(row, [0.0] * len(values)), values, strict=True)]
    return total


def test_importing_leaves_no_trace(minkowski: ModuleType) -> None:
    assert not hasattr(collections, "Sequence")
    before = os.environ.get("OPENBLAS_NUM_THREADS")
    assert import_library() is minkowski.library
    assert os.environ.get("OPENBLAS_NUM_THREADS") == before


def test_namespace_has_the_library_names(minkowski: ModuleType) -> None:
    assert minkowski.SparseTensor is minkowski.library.SparseTensor
    assert minkowski.MinkowskiReLU is minkowski.library.MinkowskiReLU
    assert minkowski.utils.batched_coordinates is minkowski.library.utils.batched_coordinates
    with pytest.raises(AttributeError, match="NoSuchLayer"):
        _ = minkowski.NoSuchLayer


def test_weights_are_named_as_in_the_library(minkowski: ModuleType) -> None:
    for name in ("MinkowskiConvolution", "MinkowskiGenerativeConvolutionTranspose"):
        arguments = {"kernel_size": 2, "stride": 2, "bias": True, "dimension": 3}
        ours = getattr(minkowski, name)(2, 3, **arguments)
        theirs = getattr(minkowski.library, name)(2, 3, **arguments)
        assert isinstance(ours, type(theirs))
        assert {key: value.shape for key, value in ours.state_dict().items()} == {
            key: value.shape for key, value in theirs.state_dict().items()
        }


@pytest.mark.parametrize("add", ["union", "operator"])
def test_second_union_has_its_own_coordinates(minkowski: ModuleType, add: str) -> None:
    union = minkowski.MinkowskiUnion()
    one, _ = tensor(minkowski, ROWS[:2])
    two, _ = tensor(minkowski, ROWS[1:3], like=one, seed=1)
    three, _ = tensor(minkowski, [*ROWS[2:], [1, 6, 6, 6]], like=one, seed=2)
    for left, right in ((one, two), (two, three), (one, three), (one, one)):
        both = union(left, right) if add == "union" else left + right
        assert as_dict(both) == summed(left, right)
        assert both.tensor_stride == [1, 1, 1]
    if add == "union":
        assert as_dict(union(one, two, three)) == summed(one, two, three)


def test_operator_after_a_layer_and_with_a_torch_tensor(minkowski: ModuleType) -> None:
    one, _ = tensor(minkowski, ROWS[:2])
    two, _ = tensor(minkowski, ROWS[1:3], like=one, seed=1)
    relu = minkowski.MinkowskiReLU()
    assert as_dict(relu(one) + relu(two)) == summed(one, two)
    difference = as_dict(one - two)
    assert difference[tuple(ROWS[2])] == [-value for value in as_dict(two)[tuple(ROWS[2])]]
    assert torch.equal((one + torch.ones(2, 2)).F, one.F + 1)


@pytest.mark.parametrize("add", ["union", "operator"])
def test_union_is_differentiable(minkowski: ModuleType, add: str) -> None:
    one, left = tensor(minkowski, ROWS[:3])
    two, right = tensor(minkowski, ROWS[1:], like=one, seed=1)
    both = minkowski.MinkowskiUnion()(one, two) if add == "union" else one + two
    (both.F**2).sum().backward()
    total = summed(one, two)
    expected = torch.tensor([total[tuple(row)] for row in ROWS], dtype=torch.float64) * 2
    assert torch.allclose(left.grad, expected[:3])
    assert torch.allclose(right.grad, expected[1:])


def test_union_refuses_what_does_not_fit(minkowski: ModuleType) -> None:
    one, _ = tensor(minkowski, ROWS)
    wide, _ = tensor(minkowski, ROWS[:2], channels=3, like=one)
    stranger, _ = tensor(minkowski, ROWS[:2])
    union = minkowski.MinkowskiUnion()
    with pytest.raises(ValueError, match="2 or more"):
        union(one)
    with pytest.raises(ValueError, match=r"\[2, 3\] channels"):
        union(one, wide)
    with pytest.raises(ValueError, match="different coordinate managers"):
        union(one, stranger)
    with pytest.raises(ValueError, match="different coordinate managers"):
        _ = one + stranger
    with pytest.raises(TypeError, match="expected a SparseTensor"):
        _ = one + "two"


def test_pruning_keeps_rows_and_gradients(minkowski: ModuleType) -> None:
    one, features = tensor(minkowski, ROWS)
    mask = torch.tensor([True, False, True, True])
    kept = minkowski.MinkowskiPruning()(one, mask)
    assert kept.C.tolist() == [ROWS[0], *ROWS[2:]]
    assert torch.equal(kept.F, features[mask])
    kept.F.sum().backward()
    assert torch.equal(features.grad, mask[:, None].expand(-1, 2).double())
    with pytest.raises(ValueError, match=r"expected torch\.bool \(4,\)"):
        minkowski.MinkowskiPruning()(one, mask[:3])


def test_strided_map_of_a_pruned_tensor_is_its_own(minkowski: ModuleType) -> None:
    prune = minkowski.MinkowskiPruning()
    down = minkowski.MinkowskiConvolution(2, 2, kernel_size=2, stride=2, dimension=3).double()
    one, _ = tensor(minkowski, ROWS)
    coarse = down(one)
    prune(coarse, coarse.C[:, 0] == 1)  # a pruned map at stride 2 ...
    strided = down(prune(one, one.C[:, 0] == 0))  # ... must not be taken for this one
    assert sorted(strided.C.tolist()) == sorted(ROWS[:3])


LAYERS = {
    "convolution": ("MinkowskiConvolution", (2, 3), {"kernel_size": 3}, [2, 2, 2], 3),
    "strided": ("MinkowskiConvolution", (2, 3), {"kernel_size": 2, "stride": 2, "bias": True}, [4, 4, 4], 3),
    "pointwise": ("MinkowskiConvolution", (2, 3), {"kernel_size": 1, "bias": True}, [2, 2, 2], 3),
    "transpose": ("MinkowskiConvolutionTranspose", (2, 3), {"kernel_size": 2, "stride": 2}, [1, 1, 1], 3),
    "generative": (
        "MinkowskiGenerativeConvolutionTranspose",
        (2, 3),
        {"kernel_size": 4, "stride": 2},
        [1, 1, 1],
        3,
    ),
    "channelwise": ("MinkowskiChannelwiseConvolution", (2,), {"kernel_size": 3, "bias": True}, [2, 2, 2], 2),
    "sum": ("MinkowskiSumPooling", (), {"kernel_size": 2, "stride": 2}, [4, 4, 4], 2),
    "mean": ("MinkowskiAvgPooling", (), {"kernel_size": 2, "stride": 2}, [4, 4, 4], 2),
    "maximum": ("MinkowskiMaxPooling", (), {"kernel_size": 2, "stride": 2}, [4, 4, 4], 2),
    "unpooling": ("MinkowskiPoolingTranspose", (), {"kernel_size": 2, "stride": 2}, [1, 1, 1], 2),
}


@pytest.mark.parametrize("how", ["pruned", "fresh"])
@pytest.mark.parametrize("layer", LAYERS)
def test_nothing_in_nothing_out(minkowski: ModuleType, layer: str, how: str) -> None:
    name, positional, options, stride, channels = LAYERS[layer]
    module = getattr(minkowski, name)(*positional, **options, dimension=3).double()
    full, features = tensor(minkowski, ROWS if how == "pruned" else [], stride=2)
    empty = minkowski.MinkowskiPruning()(full, torch.zeros(len(full), dtype=torch.bool))
    out = module(empty)
    assert out.F.shape == (0, channels)
    assert out.F.dtype == torch.float64
    assert out.C.shape == (0, 4)
    assert out.tensor_stride == stride
    out.F.sum().backward()
    assert features.grad is not None and not features.grad.any()
    for parameter in module.parameters():
        assert parameter.grad is not None and not parameter.grad.any()


def test_given_coordinates_decide_where_the_output_is(minkowski: ModuleType) -> None:
    full, _ = tensor(minkowski, ROWS)
    empty = minkowski.MinkowskiPruning()(full, torch.zeros(4, dtype=torch.bool))
    module = minkowski.MinkowskiConvolution(2, 3, kernel_size=3, bias=True, dimension=3).double()
    out = module(empty, full)
    assert out.C.tolist() == ROWS
    assert torch.equal(out.F, module.bias.expand(4, 3))
    assert module(full, empty).F.shape == (0, 3)
    somewhere = torch.tensor([[0, 0, 0, 1], [1, 9, 9, 9]], dtype=torch.int32)
    there = module(full, somewhere)
    assert there.C.tolist() == somewhere.tolist()
    assert torch.equal(there.F[1], module.bias[0])
    assert not torch.equal(there.F[0], module.bias[0])


def test_transpose_of_nothing_goes_to_the_voxels_that_are_there(minkowski: ModuleType) -> None:
    full, _ = tensor(minkowski, ROWS)
    down = minkowski.MinkowskiConvolution(2, 2, kernel_size=2, stride=2, dimension=3).double()(full)
    empty = minkowski.MinkowskiPruning()(down, torch.zeros(len(down), dtype=torch.bool))
    up = minkowski.MinkowskiConvolutionTranspose(2, 2, kernel_size=2, stride=2, dimension=3).double()
    assert up(empty).C.tolist() == up(down).C.tolist() == ROWS
    assert not up(empty).F.any()


def test_union_with_an_empty_tensor(minkowski: ModuleType) -> None:
    full, _ = tensor(minkowski, ROWS)
    empty = minkowski.MinkowskiPruning()(full, torch.zeros(4, dtype=torch.bool))
    for both in (minkowski.MinkowskiUnion()(full, empty), full + empty, empty + full):
        assert as_dict(both) == as_dict(full)
    assert len(empty + minkowski.MinkowskiPruning()(full, torch.zeros(4, dtype=torch.bool))) == 0


def test_autocast_keeps_the_kernels_in_float32(minkowski: ModuleType) -> None:
    coordinates = torch.tensor(ROWS, dtype=torch.int32)
    network = torch.nn.Sequential(
        minkowski.MinkowskiConvolution(2, 4, kernel_size=1, bias=True, dimension=3),
        minkowski.MinkowskiLinear(4, 4),  # a torch layer inside: autocast makes bfloat16 of it
        minkowski.MinkowskiConvolution(4, 4, kernel_size=2, stride=2, dimension=3),
        minkowski.MinkowskiBatchNorm(4),
        minkowski.MinkowskiGenerativeConvolutionTranspose(4, 1, kernel_size=2, stride=2, dimension=3),
    )
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = network(minkowski.SparseTensor(torch.rand(4, 2), coordinates))
        pruned = minkowski.MinkowskiPruning()(out, out.F[:, 0] > 0)
    assert out.F.dtype == torch.float32
    pruned.F.sum().backward()
    assert all(parameter.grad is not None for parameter in network[0].parameters())


def test_precisions_that_do_not_fit_are_refused(minkowski: ModuleType) -> None:
    one, _ = tensor(minkowski, ROWS)
    module = minkowski.MinkowskiConvolution(2, 3, kernel_size=3, dimension=3)
    with pytest.raises(TypeError, match=r"features are torch\.float64 and the weights torch\.float32"):
        module(one)
    with pytest.raises(TypeError, match="needs float32 or float64"):
        module.half()(one)
