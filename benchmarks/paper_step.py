"""One measurement: seconds and peak memory of a training step or an inference.

`measure` belongs in a process of its own, because memory is counted for the whole process: `benchmarks.paper_runner`
starts one for each.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks import memory
from monai_sparse_refine.losses import LevelwiseGenerativeLoss
from monai_sparse_refine.networks import DenseTwin, MaskRefiner, SparsePrediction

MIB = 2**20
MODELS = ("sparse ch1", "sparse ch2", "dense ch1", "dense ch2")
OK, OVER_MEMORY = "ok", "over the memory limit"


def measure(spec: dict[str, Any]) -> dict[str, Any]:
    """Measure one network on one batch.

    Args:
        spec: `model` of `MODELS`, `mode` "train" or "infer", `case` (npz with "defective" and "complete",
            [X, Y] or [X, Y, Z]), `batch`, `repeats` and `repeat_seconds` (no further repeat begins after them),
            `engine`, `device`, `threads`, `memory_gb` (limit on the CPU, None for none).

    Returns:
        `status`, and where it is "ok" `seconds` (best repeat of one step of the whole batch), `peak_mib` (added
        to what the process held before), `repeats` done, `parameters`, and the voxels `input`, `generated` and
        `volume` of the whole batch.
    """
    try:
        return {"status": OK, **_measure(spec)}
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, MemoryError) or "memory" in str(error) or "alloc" in str(error):
            return {"status": OVER_MEMORY}
        raise


def compile_kernels(engine: str, device: str) -> None:
    """Train a small network for a step: the engine may compile its kernels at first use, once a machine.

    Belongs in a process of its own too, since buffers that a step leaves behind would hide what the next one takes.
    """
    for dimensions in (2, 3):
        distance = torch.cartesian_prod(*[torch.arange(16.0) - 7.5] * dimensions).norm(dim=1)
        ball = (distance < 5).float().reshape(1, 1, *[16] * dimensions).to(device)
        _training_step(_network("sparse ch1", engine, dimensions).to(device), ball, ball)()


def _measure(spec: dict[str, Any]) -> dict[str, Any]:
    torch.set_num_threads(spec["threads"])
    with np.load(spec["case"]) as case:
        masks = [torch.from_numpy(case[name])[None, None] for name in ("defective", "complete")]
    device = torch.device(spec["device"])
    copies = (spec["batch"], *[1] * (masks[0].ndim - 1))
    image, target = (mask.repeat(copies).float().to(device) for mask in masks)
    if spec["memory_gb"] is not None and device.type == "cpu":
        limit = int(spec["memory_gb"] * 2**30)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    torch.manual_seed(0)
    network = _network(spec["model"], spec["engine"], image.ndim - 2).to(device)
    begin = _training_step if spec["mode"] == "train" else _inference
    step = begin(network, image, target)
    before = _held(device)
    seconds: list[float] = []
    generated = 0
    while len(seconds) < spec["repeats"] and (not seconds or sum(seconds) < spec["repeat_seconds"]):
        start = time.perf_counter()
        generated = step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return {
        "seconds": min(seconds),
        "peak_mib": (_peak(device) - before) / MIB,
        "repeats": len(seconds),
        "input": int(image.sum()),
        "generated": generated,
        "volume": image.numel(),
        "parameters": sum(p.numel() for p in network.parameters()),
    }


def _network(name: str, engine: str, dimensions: int) -> nn.Module:
    kind, channels = name.split()
    if kind == "sparse":
        return MaskRefiner(channels=channels, spatial_dims=dimensions, engine=engine)
    return DenseTwin(channels=channels, spatial_dims=dimensions)


def _training_step(network: nn.Module, image: torch.Tensor, target: torch.Tensor) -> Callable[[], int]:
    """Forward, loss, backward and optimiser step; gives the voxels that the finest level scored."""
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, amsgrad=True)
    loss = LevelwiseGenerativeLoss()

    def step() -> int:
        optimizer.zero_grad()
        prediction = network(image, target=target)
        loss(prediction).backward()
        optimizer.step()
        return len(prediction.levels[-1].logits)

    return step


def _inference(network: nn.Module, image: torch.Tensor, target: torch.Tensor) -> Callable[[], int]:
    """Forward alone. An untrained sparse network is shown its target, so that it keeps what a trained one would."""
    network.eval()
    sparse = isinstance(network, MaskRefiner)

    def step() -> int:
        with torch.no_grad():
            result = network(image, target=target) if sparse else network(image)
        return len(result.levels[-1].logits) if isinstance(result, SparsePrediction) else result.numel()

    return step


def _held(device: torch.device) -> int:
    """Bytes held now; the peak is counted anew from here on."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return int(torch.cuda.memory_allocated(device))
    return memory.start()


def _peak(device: torch.device) -> int:
    """Most bytes held since."""
    return int(torch.cuda.max_memory_allocated(device)) if device.type == "cuda" else memory.peak()
