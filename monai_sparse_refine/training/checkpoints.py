"""Checkpoints that survive a kill: resume a run, keep the best weights across runs, export a plain state dict."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from monai_sparse_refine.errors import InputError
from monai_sparse_refine.files import atomic_path

_EPOCH = re.compile(r"epoch=(\d+)\.pt$")


def resume(
    trainer: Engine, objects: Mapping[str, Any], folder: str | Path, device: torch.device | str = "cpu"
) -> int:
    """Load the newest checkpoint of ``CheckpointSaver`` and set the trainer to go on after it.

    Args:
        trainer: MONAI trainer that has not run yet.
        objects: what ``CheckpointSaver`` saves (network, optimizer, ...), by name. The checkpoint has to have all
            networks and optimisers; any other that it lacks starts anew.
        folder: its ``save_dir``.
        device: where to map the tensors.

    Returns:
        Epochs already done; 0 where there is no checkpoint.

    Raises:
        InputError: if the checkpoint does not fit the objects (another network or optimiser).
    """
    found = {int(match[1]): path for path in Path(folder).glob("*.pt") if (match := _EPOCH.search(path.name))}
    if not found:
        return 0
    epoch = max(found)
    state = torch.load(found[epoch], map_location=device, weights_only=True)
    try:
        for name, item in objects.items():
            if name not in state and not isinstance(item, (nn.Module, torch.optim.Optimizer)):
                continue  # a checkpoint of an older configuration, which did not count or schedule this yet
            unwrap(item).load_state_dict(state[name])
    except (KeyError, RuntimeError, ValueError) as error:
        raise InputError(
            f"Checkpoint {found[epoch]} does not fit this configuration ({error}). "
            "Use the settings it was made with, or another work_dir to start anew."
        ) from error
    length = trainer.state.epoch_length
    trainer.state.epoch = epoch
    trainer.state.iteration = epoch * int(length or 0)
    print(f"resuming after epoch {epoch} of {trainer.state.max_epochs} ({found[epoch]})", flush=True)
    return epoch


def unwrap(item: Any) -> Any:
    """The module inside DistributedDataParallel, so that its names are the same on one process and on many."""
    return item.module if isinstance(item, DistributedDataParallel) else item


class BestWeights:
    """Keep the network's weights of the best validation, also across restarts: a worse run never replaces them.

    Attach it to the evaluator. The file holds ``{"model": state dict, "metric": value, "epoch": epoch}``.

    Args:
        network: the network that is validated.
        path: file to write, atomically.
    """

    def __init__(self, network: nn.Module, path: str | Path) -> None:
        self.network = network
        self.path = Path(path)
        self.best = float("-inf")

    def attach(self, engine: Engine) -> None:
        """Register with the evaluator."""
        if self.path.exists():
            self.best = float(torch.load(self.path, map_location="cpu", weights_only=True)["metric"])
        engine.add_event_handler(Events.COMPLETED, self._save)

    def _save(self, engine: Engine) -> None:
        state: Any = engine.state
        metric = float(state.metrics[state.key_metric_name])
        if metric <= self.best:
            return
        self.best = metric
        best = {"model": unwrap(self.network).state_dict(), "metric": metric, "epoch": state.epoch}
        with atomic_path(self.path) as temporary:
            torch.save(best, temporary)


def export_weights(source: str | Path | Sequence[str | Path], target: str | Path) -> None:
    """Write the plain state dict of a checkpoint (of ``BestWeights`` or ``CheckpointSaver``) for a bundle.

    Args:
        source: checkpoint, or several of one training, whose weights are averaged: the mean of two late epochs
            varies less than either (stochastic weight averaging, Izmailov et al. 2018, arXiv 1803.05407). Plain
            state dicts will do too, as the weights that a training started from.
        target: file to write.

    Raises:
        InputError: if a file holds no weights, or those of another network than the first.
    """
    sources = [source] if isinstance(source, str | Path) else list(source)
    states = [_weights_in(path) for path in sources]
    shapes = [{name: value.shape for name, value in state.items()} for state in states]
    for path, found in zip(sources, shapes, strict=True):
        if found != shapes[0]:
            raise InputError(f"{path} holds weights of another network than {sources[0]}.")
    mean = {name: _mean([state[name] for state in states]) for name in states[0]}
    with atomic_path(target) as temporary:
        torch.save(mean, temporary)


def _weights_in(path: str | Path) -> dict[str, torch.Tensor]:
    state = torch.load(path, map_location="cpu", weights_only=True)
    for name in ("model", "network"):
        if name in state:
            found: dict[str, torch.Tensor] = state[name]
            return found
    if not state or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise InputError(f"{path} holds no weights: it is no checkpoint of this package, and no state dict.")
    return dict(state)


def _mean(values: Sequence[torch.Tensor]) -> torch.Tensor:
    """Mean of equal parameters; counters are the last one's."""
    return torch.stack(list(values)).mean(0) if values[0].is_floating_point() else values[-1]
