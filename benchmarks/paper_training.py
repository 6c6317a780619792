"""Train one network from coarse to fine resolutions on a budget of processor time; a killed run goes on."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.paper_skulls import Skulls
from monai_sparse_refine.errors import InputError
from monai_sparse_refine.files import atomic_path
from monai_sparse_refine.losses import LevelwiseGenerativeLoss
from monai_sparse_refine.networks import DenseTwin, MaskRefiner, SparsePrediction

LEARNING_RATES = 0.01, 0.003  # at the start of the first and of the later stages
KNOWN_WEIGHT = 0.1  # of the cells with a voxel of the input, against 1: without it minutes do not suffice
KEEP_THRESHOLD = -1.5  # of the sparse networks, see `SparseGenerativeUNet`
SAVE_EVERY_SECONDS = 30.0


def make_network(name: str, *, engine: str, seed: int) -> nn.Module:
    """Network of a name like "sparse ch1" or "dense ch1", with weights drawn from the seed."""
    torch.manual_seed(seed)
    kind, channels = name.split()
    if kind == "dense":
        return DenseTwin(channels=channels)
    return MaskRefiner(channels=channels, engine=engine, keep_threshold=KEEP_THRESHOLD)


def train(
    network: nn.Module,
    skulls: Skulls,
    stages: Mapping[int, float],
    folder: Path,
    *,
    seed: int,
    clock: Callable[[], float] = time.process_time,
    report: Callable[[str], object] = print,
) -> dict[int, int]:
    """Train on one resolution after the other and leave the weights after each as ``weights_<size>.pt``.

    One skull a step, Adam with AMSGrad as in Li et al., Sci. Rep. 13:20229 (2023), a learning rate that falls
    linearly to a tenth within each stage, and their loss with a tenth of the weight on what the input holds.
    Step `k` of a stage always sees the same skull and hole, whatever the network.

    Args:
        network: called with an image and a target, both [1, 1, X, Y, Z].
        skulls: what to train on.
        stages: seconds by size, coarse to fine; a stage ends with the step that reaches them.
        folder: of the checkpoint and the weights; what is done there already is not done again.
        seed: of the stream of skulls.
        clock: seconds of the process.
        report: called with a line of progress.

    Returns:
        Steps done by size.

    Raises:
        InputError: if the folder holds a run of other settings.
    """
    optimizer = torch.optim.Adam(network.parameters(), lr=LEARNING_RATES[0], amsgrad=True)
    state = _load(folder, stages, seed, network, optimizer)
    loss_function = LevelwiseGenerativeLoss(known_weight=KNOWN_WEIGHT)
    network.train()
    saved, running = time.monotonic(), None
    for number, (size, budget) in enumerate(stages.items()):
        steps, spent = state["steps"].get(size, 0), state["seconds"].get(size, 0.0)
        while spent < budget:
            start = clock()
            for group in optimizer.param_groups:
                group["lr"] = LEARNING_RATES[min(number, 1)] * (1 - 0.9 * spent / budget)
            pair = skulls.training_pair(size, seed=seed + 1_000_000 * number + steps)
            image, target = (mask[None].float() for mask in pair)
            optimizer.zero_grad()
            loss = loss_function(_mark_known(network(image, target=target), image))
            loss.backward()
            optimizer.step()
            steps, spent = steps + 1, spent + clock() - start
            state["steps"][size], state["seconds"][size] = steps, spent
            value = loss.item()
            running = value if running is None else 0.95 * running + 0.05 * value
            if spent >= budget or time.monotonic() - saved > SAVE_EVERY_SECONDS:
                _write(state, network, optimizer, folder)
                saved = time.monotonic()
                report(f"size {size}: {steps} steps, {spent:.0f} of {budget:g} s, loss {running:.3f}")
        if not (folder / f"weights_{size}.pt").exists():
            with atomic_path(folder / f"weights_{size}.pt") as temporary:
                torch.save(network.state_dict(), temporary)
    return {size: int(state["steps"][size]) for size in stages}


def predict(network: nn.Module, defective: torch.Tensor) -> torch.Tensor:
    """What a network in evaluation mode finds in a mask [1, X, Y, Z], as bool of that shape."""
    network.eval()
    with torch.no_grad():
        return network(defective[None].float())[0] > 0


def _mark_known(prediction: SparsePrediction, image: torch.Tensor) -> SparsePrediction:
    """Mark the cells with a voxel of the input [1, 1, X, Y, Z]; the sparse networks have done so themselves."""
    coarsest = 2 ** len(prediction.levels)
    padded = F.pad(image, [amount for n in reversed(image.shape[2:]) for amount in (0, -n % coarsest)])
    return SparsePrediction(
        [
            level
            if level.known is not None
            else level._replace(known=F.max_pool3d(padded, level.stride).flatten() > 0.5)
            for level in prediction.iter_levels()
        ]
    )


def _load(
    folder: Path,
    stages: Mapping[int, float],
    seed: int,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
) -> dict[str, Any]:
    """Restore a checkpoint; gives its stages and seed, and the steps done and seconds spent by size."""
    path = folder / "checkpoint.pt"
    if not path.exists():
        return {"stages": dict(stages), "seed": seed, "steps": {}, "seconds": {}}
    found = torch.load(path, map_location="cpu", weights_only=True)
    common = found["stages"].keys() & stages.keys()
    if found["seed"] != seed or any(found["stages"][size] != stages[size] for size in common):
        raise InputError(f"{path} was made with other settings; use those, or another --work-dir")
    # Sizes may be left out or added at the fine end: what is done stays right.
    network.load_state_dict(found["network"])
    optimizer.load_state_dict(found["optimizer"])
    return {
        "stages": {**found["stages"], **stages},
        **{name: found[name] for name in ("seed", "steps", "seconds")},
    }


def _write(
    state: Mapping[str, Any], network: nn.Module, optimizer: torch.optim.Optimizer, folder: Path
) -> None:
    objects = {"network": network.state_dict(), "optimizer": optimizer.state_dict()}
    with atomic_path(folder / "checkpoint.pt") as temporary:
        torch.save({**state, **objects}, temporary)
