"""The engine as a whole: nothing to compute, same bits, precision, programs written for MinkowskiEngine."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

Coordinates = Callable[..., Tensor]


def completion(engine: ModuleType, dimension: int) -> nn.Module:
    """A generative network in the style of MinkowskiEngine's completion example."""

    class Completion(engine.MinkowskiNetwork):  # type: ignore[name-defined,misc]
        def __init__(self) -> None:
            super().__init__(dimension)
            options = {"dimension": dimension}
            self.down = nn.Sequential(
                engine.MinkowskiConvolution(1, 4, 3, **options),
                engine.MinkowskiBatchNorm(4),
                engine.MinkowskiELU(),
                engine.MinkowskiConvolution(4, 6, 2, stride=2, **options),
                engine.MinkowskiBatchNorm(6),
                engine.MinkowskiELU(),
            )
            self.up = engine.MinkowskiGenerativeConvolutionTranspose(6, 4, 4, stride=2, **options)
            self.skip = engine.MinkowskiConvolution(1, 4, 1, **options)
            self.head = engine.MinkowskiConvolution(4, 1, 1, bias=True, **options)
            self.prune = engine.MinkowskiPruning()

        def forward(self, x: Any) -> tuple[Any, Any]:
            y = self.up(self.down(x)) + self.skip(x)
            score = self.head(y)
            return score, self.prune(score, score.F.squeeze(1) > 0)

    return Completion().double()


def unet(engine: ModuleType, dimension: int) -> nn.Module:
    """A U-net with concatenation in the style of MinkowskiEngine's segmentation example."""

    class UNet(engine.MinkowskiNetwork):  # type: ignore[name-defined,misc]
        def __init__(self) -> None:
            super().__init__(dimension)
            options = {"dimension": dimension}
            self.stem = engine.MinkowskiConvolution(1, 4, 3, **options)
            self.down = engine.MinkowskiConvolution(4, 6, 3, stride=2, **options)
            self.up = engine.MinkowskiConvolutionTranspose(6, 4, 3, stride=2, **options)
            self.norm = engine.MinkowskiBatchNorm(4)
            self.relu = engine.MinkowskiReLU(inplace=True)
            self.out = engine.MinkowskiConvolution(8, 3, 1, bias=True, **options)

        def forward(self, x: Any) -> Any:
            x = self.relu(self.norm(self.stem(x)))
            return self.out(engine.cat(self.up(self.relu(self.down(x))), x))

    return UNet().double()


def classifier(engine: ModuleType, dimension: int) -> nn.Module:
    """Points to classes in the style of MinkowskiEngine's classification example."""
    return nn.Sequential(
        engine.MinkowskiConvolution(1, 8, 3, stride=2, dimension=dimension),
        engine.MinkowskiInstanceNorm(8),
        engine.MinkowskiLeakyReLU(0.1),
        engine.MinkowskiMaxPooling(3, stride=2, dimension=dimension),
        engine.MinkowskiGlobalAvgPooling(),
        engine.MinkowskiLinear(8, 5),
    ).double()


@pytest.mark.parametrize("make", [completion, unet, classifier])
@pytest.mark.parametrize("dimension", [1, 2, 3])
def test_programs_written_for_minkowski(
    minkowski: ModuleType, native: ModuleType, coordinates_of: Coordinates, make: Any, dimension: int
) -> None:
    rows = coordinates_of(1, dimension, 200)
    results: list[tuple[dict[Any, Tensor], Any]] = []
    for engine in (minkowski, native):
        network = make(engine, dimension)
        if results:
            network.load_state_dict(results[0][1].state_dict())
        out = network(engine.SparseTensor(torch.ones(len(rows), 1).double(), rows))
        out = out[0] if isinstance(out, tuple) else out
        (out.F**2).mean().backward()
        results.append(({tuple(c): f for c, f in zip(out.C.tolist(), out.F, strict=True)}, network))
    assert results[0][0].keys() == results[1][0].keys()
    for row, value in results[0][0].items():
        torch.testing.assert_close(results[1][0][row], value, rtol=0, atol=1e-9)
    for mine, theirs in zip(results[1][1].parameters(), results[0][1].parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=0, atol=1e-8)


@pytest.mark.parametrize("dimension", [1, 3, 4])
def test_nothing_to_compute(native: ModuleType, dimension: int) -> None:
    """MinkowskiEngine 0.5.4 ends the process here."""
    leaf = torch.zeros(0, 1, dtype=torch.float64, requires_grad=True)
    x = native.SparseTensor(leaf, torch.zeros(0, 1 + dimension).int())
    network = completion(native, dimension)
    score, pruned = network(x)
    assert score.shape == pruned.shape == (0, 1)
    score.F.sum().backward()
    assert leaf.grad is not None and all(p.grad is None or not p.grad.any() for p in network.parameters())
    assert unet(native, dimension)(x).shape == (0, 3)
    pool = native.MinkowskiMaxPooling(2, 2, dimension=dimension)
    assert native.MinkowskiPoolingTranspose(2, 2, dimension=dimension)(pool(x)).shape == (0, 1)
    assert native.MinkowskiInterpolation()(x, torch.zeros(2, 1 + dimension).double()).tolist() == [[0], [0]]


def test_everything_pruned_then_convolved(native: ModuleType) -> None:
    x = native.SparseTensor(torch.ones(3, 2), torch.tensor([[0, i, i] for i in range(3)]).int())
    empty = native.MinkowskiPruning()(x, torch.zeros(3).bool())
    y = native.MinkowskiConvolution(2, 4, 3, stride=2, dimension=2)(empty)
    assert y.shape == (0, 4) and y.tensor_stride == [2, 2]
    assert torch.equal((x + empty).F, x.F)


@pytest.mark.parametrize("make", [completion, unet])
def test_same_bits_whatever_the_threads(native: ModuleType, coordinates_of: Coordinates, make: Any) -> None:
    rows = coordinates_of(2, 3, 6000, reach=12)
    network = make(native, 3).float()
    found: list[dict[str, Tensor]] = []
    for threads in (1, 2, 1):
        torch.set_num_threads(threads)
        try:
            network.zero_grad()
            out = network(native.SparseTensor(torch.ones(len(rows), 1), rows))
            out = out[0] if isinstance(out, tuple) else out
            out.F.square().mean().backward()
        finally:
            torch.set_num_threads(1)
        gradients = {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}
        found.append({"output": out.F.detach(), **gradients})
    assert [name for name in found[0] if not torch.equal(found[0][name], found[2][name])] == [], "two runs"
    assert [name for name in found[0] if not torch.equal(found[0][name], found[1][name])] == [], "threads"


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 5e-2), (torch.float16, 1e-2)]
)
def test_precision(
    native: ModuleType, coordinates_of: Coordinates, dtype: torch.dtype, tolerance: float
) -> None:
    rows = coordinates_of(3, 3, 300)
    features = torch.randn(len(rows), 8, dtype=torch.float64)
    layer = native.MinkowskiConvolution(8, 8, 3, dimension=3).double()
    exact = layer(native.SparseTensor(features, rows)).F
    leaf = features.to(dtype).requires_grad_()
    out = layer.to(dtype)(native.SparseTensor(leaf, rows)).F
    out.sum().backward()
    assert out.dtype == leaf.grad.dtype == layer.kernel.grad.dtype == dtype  # type: ignore[union-attr]
    torch.testing.assert_close(out.double(), exact, rtol=tolerance, atol=tolerance)


def test_autocast(native: ModuleType, coordinates_of: Coordinates) -> None:
    rows = coordinates_of(4, 3, 100)
    x = native.SparseTensor(torch.randn(len(rows), 4), rows)
    layers = [
        native.MinkowskiConvolution(4, 4, 3, dimension=3),
        native.MinkowskiConvolution(4, 4, 1, dimension=3),
        native.MinkowskiLinear(4, 4),
    ]
    for layer in layers:
        with torch.autocast("cpu", torch.bfloat16):
            out = layer(x)
        assert out.dtype == torch.bfloat16
        out.F.float().sum().backward()
        assert next(layer.parameters()).grad.dtype == torch.float32


def test_inference_keeps_nothing(native: ModuleType, coordinates_of: Coordinates) -> None:
    rows = coordinates_of(5, 3, 100)
    x = native.SparseTensor(torch.randn(len(rows), 4), rows)
    layer = native.MinkowskiConvolution(4, 4, 3, dimension=3)
    trained = layer(x)
    with torch.no_grad():
        quick = layer(x)
    assert not quick.requires_grad and torch.equal(quick.F, trained.F.detach())
    assert len(x.coordinate_manager._kernel_maps) == 1  # the one that backward of `trained` needs
    del trained
    assert len(x.coordinate_manager._kernel_maps) == 0


@pytest.mark.gpu
@pytest.mark.parametrize("make", [completion, unet, classifier])
def test_cuda_equals_cpu(native: ModuleType, coordinates_of: Coordinates, make: Any) -> None:
    rows = coordinates_of(6, 3, 2000, reach=9)
    network = make(native, 3)
    outputs = []
    for device in ("cpu", "cuda"):
        network.to(device)
        out = network(native.SparseTensor(torch.ones(len(rows), 1).double(), rows, device=device))
        out = out[0] if isinstance(out, tuple) else out
        outputs.append(out)
    assert torch.equal(outputs[0].C, outputs[1].C.cpu())
    torch.testing.assert_close(outputs[0].F, outputs[1].F.cpu(), rtol=0, atol=1e-9)
