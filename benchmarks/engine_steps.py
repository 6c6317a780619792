"""One side of the engines' benchmark, in a process of its own: ``python -m benchmarks.engine_steps JSON``."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import nibabel
import torch
import torch.nn.functional as F

from benchmarks import memory
from monai_sparse_refine.engine import get_engine

LAYER_CHANNELS = 16
SHELL_VOXELS = 5


def measure(*, volume: str, task: str, mode: str, side: str, repeats: int) -> dict[str, Any]:
    """Run one side in this process: best seconds of a step, peak memory above start, number of input voxels."""
    torch.manual_seed(0)
    defective, target, shape = load(volume)
    try:
        step = prepare(defective, target, shape, task, mode == "training", side)
    except ImportError as error:
        return {"missing": f"not installed: {error}"[:80]}
    before = memory.start()
    times = []
    for _ in range(1 + repeats):
        start = time.perf_counter()
        with torch.set_grad_enabled(mode == "training"):
            step()
        times.append(time.perf_counter() - start)
    return {
        "seconds": min(times[1:] or times),
        # The system counts pages in batches: the peak of a step that needs next to none may seem below the start.
        "gigabytes": max(0, memory.peak() - before) / 1e9,
        "voxels": len(defective),
    }


def shape_of(volume: str) -> tuple[int, ...]:
    """Voxels along each axis of a shell such as "128,128,128" or of a NIfTI file."""
    if "," in volume:
        return tuple(int(n) for n in volume.split(","))
    return tuple(nibabel.load(volume).shape)  # type: ignore[attr-defined]


def load(volume: str) -> tuple[Any, Any, tuple[int, ...]]:
    """Coordinates [0, x, y, z] of a mask with a hole and of the whole mask, and the volume's shape."""
    shape = shape_of(volume)
    whole = _shell(shape) if "," in volume else _mask(volume)
    holed = whole.clone()
    size = max(1, shape[0] // 8)
    holed[
        shape[0] // 2 - size : shape[0] // 2 + size,
        : shape[1] // 2,
        shape[2] // 2 - size : shape[2] // 2 + size,
    ] = 0
    rows = [torch.nn.functional.pad(mask.nonzero(), (1, 0)).int().contiguous() for mask in (holed, whole)]
    return rows[0], rows[1], shape


def _mask(volume: str) -> Any:
    return torch.as_tensor(nibabel.load(volume).get_fdata() > 0.5)  # type: ignore[attr-defined]


def _shell(shape: tuple[int, ...]) -> Any:
    """Ellipsoidal shell of SHELL_VOXELS voxels that fills most of the volume."""

    def ball(shrink: int) -> Any:
        total: Any = 0.0
        for axis, length in enumerate(shape):
            position = (torch.arange(length) - (length - 1) / 2) / (0.46 * length - shrink)
            total = total + (position**2).view([-1 if i == axis else 1 for i in range(len(shape))])
        return total <= 1

    return ball(0) & ~ball(SHELL_VOXELS)


def prepare(
    defective: Any, target: Any, shape: tuple[int, ...], task: str, training: bool, side: str
) -> Callable[[], None]:
    """A function that runs one step."""
    if task == "layer":
        return _layer_step(defective, shape, training, side)
    return (
        _dense_step(defective, target, shape, task, training)
        if side == "dense"
        else _network_step(defective, target, shape, task, training, "native" if side == "plain" else side)
    )


def _layer_step(rows: Any, shape: tuple[int, ...], training: bool, side: str) -> Callable[[], None]:
    """Convolution k3, 16 -> 16, coordinates included."""
    width = LAYER_CHANNELS
    features = torch.randn(len(rows), width, requires_grad=training)
    if side == "dense":
        dense_layer = torch.nn.Conv3d(width, width, 3, padding=1, bias=False)
        dense_layer = dense_layer.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        x = torch.zeros(1, width, *shape).to(memory_format=torch.channels_last_3d)
        x[0, :, rows[:, 1].long(), rows[:, 2].long(), rows[:, 3].long()] = features.detach().t()
        x.requires_grad_(training)

        def run_dense() -> None:
            out = dense_layer(x)
            if training:
                out.sum().backward()

        return run_dense
    if side == "spconv":
        import spconv.pytorch as spconv  # type: ignore[import-not-found]

        spconv_layer = spconv.SubMConv3d(width, width, 3, bias=False)

        def run_spconv() -> None:
            out = spconv_layer(spconv.SparseConvTensor(features, rows, list(shape), 1)).features
            if training:
                out.sum().backward()

        return run_spconv
    engine = get_engine("native" if side == "plain" else side)
    layer = engine.MinkowskiConvolution(width, width, kernel_size=3, dimension=3)

    def run() -> None:
        out = layer(engine.SparseTensor(features, rows)).F
        if training:
            out.sum().backward()

    return run


def _network_step(
    defective: Any, target: Any, shape: tuple[int, ...], channels: str, training: bool, engine: str
) -> Callable[[], None]:
    """The whole sparse network. The target's voxels are kept, so that counts are those of a trained network."""
    from monai_sparse_refine.networks import SparseGenerativeUNet

    network = SparseGenerativeUNet(channels=channels, engine=engine).train(training)

    def run() -> None:
        x = get_engine(engine).SparseTensor(torch.ones(len(defective), 1), defective)
        levels = network(x, target=target, bounds=shape)
        if training:
            losses = [
                F.binary_cross_entropy_with_logits(y.logits, y.target.float())
                for y in levels
                if len(y.logits)
            ]
            torch.stack(losses).sum().backward()

    return run


def _dense_step(
    defective: Any, target: Any, shape: tuple[int, ...], channels: str, training: bool
) -> Callable[[], None]:
    """The dense twin in channels_last."""
    from monai_sparse_refine.losses import LevelwiseGenerativeLoss
    from monai_sparse_refine.networks.dense_twin import DenseTwin

    network = DenseTwin(channels=channels).train(training)
    network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    volumes = []
    for rows in (defective, target):
        volume = torch.zeros(1, 1, *shape)
        volume[0, 0, rows[:, 1].long(), rows[:, 2].long(), rows[:, 3].long()] = 1
        volumes.append(volume)
    loss = LevelwiseGenerativeLoss()

    def run() -> None:
        if training:
            loss(network(volumes[0], target=volumes[1])).backward()
        else:
            network(volumes[0])

    return run


if __name__ == "__main__":
    print(json.dumps(measure(**json.loads(sys.argv[1]))))
