"""Weights of a training: keep the best across runs, export a plain state dict."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from monai_sparse_refine.data import read_weights
from monai_sparse_refine.errors import InputError
from monai_sparse_refine.files import atomic_path


def unwrap(item: Any) -> Any:
    """The module inside DistributedDataParallel, so that its names are the same on one process and on many."""
    return item.module if isinstance(item, DistributedDataParallel) else item


class BestWeights:
    """Keep the network's weights of the best validation, also across restarts: a worse run never replaces them.

    Attach it to the evaluator, whose ``metric_cmp_fn`` says what is better; a metric that is not a number never
    is. The file holds ``{"model": state dict, "metric": value, "epoch": epoch}``.

    Args:
        network: the network that is validated.
        path: file to write, atomically.
    """

    def __init__(self, network: nn.Module, path: str | Path) -> None:
        self.network = network
        self.path = Path(path)
        self.best = float("nan")

    def attach(self, engine: Engine) -> None:
        """Register with the evaluator."""
        if self.path.exists():
            self.best = float(torch.load(self.path, map_location="cpu", weights_only=True)["metric"])
        engine.add_event_handler(Events.COMPLETED, self._save)

    def _save(self, engine: Engine) -> None:
        state: Any = engine.state
        metric = float(state.metrics[state.key_metric_name])
        better: Callable[[float, float], bool] = getattr(engine, "metric_cmp_fn", operator.gt)
        if math.isnan(metric) or not (math.isnan(self.best) or better(metric, self.best)):
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
    states = [read_weights(path) for path in sources]
    shapes = [{name: value.shape for name, value in state.items()} for state in states]
    for path, found in zip(sources, shapes, strict=True):
        if found != shapes[0]:
            raise InputError(f"{path} holds weights of another network than {sources[0]}.")
    mean = {name: _mean([state[name] for state in states]) for name in states[0]}
    with atomic_path(target) as temporary:
        torch.save(mean, temporary)


def _mean(values: Sequence[torch.Tensor]) -> torch.Tensor:
    """Mean of equal parameters; counters are the last one's."""
    return torch.stack(list(values)).mean(0) if values[0].is_floating_point() else values[-1]
