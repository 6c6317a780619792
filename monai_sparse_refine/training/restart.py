"""Go on with a training that was killed: networks, optimiser, learning rate and random numbers of its last epoch."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine
from monai.data.utils import set_rnd
from monai.transforms import Randomizable
from torch import nn
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from monai_sparse_refine.errors import InputError
from monai_sparse_refine.training.checkpoints import unwrap

__all__ = ["resume"]

_EPOCH = re.compile(r"epoch=(\d+)\.pt$")
_LARGE_PRIME = 7919


def resume(
    trainer: Engine, objects: Mapping[str, Any], folder: str | Path, device: torch.device | str = "cpu"
) -> int:
    """Load the newest checkpoint of ``CheckpointSaver`` and set the trainer to go on after it.

    A checkpoint that a kill left half-written is passed over; keep two (``n_saved=2``). Older ones than the one
    that is loaded are removed, since no saver remembers them. Random numbers go on from a seed of the epoch, so that a
    training which is killed often does not see the cases of its first epoch again and again.

    Where the schedule of the learning rate is another than the checkpoint's (more epochs, another rate), the new
    one counts, from its value at this epoch on.

    Args:
        trainer: MONAI trainer that has not run yet.
        objects: what ``CheckpointSaver`` saves (network, optimizer, ...), by name. The checkpoint has to have all
            networks and optimisers; any other that it lacks starts anew.
        folder: its ``save_dir``.
        device: where to map the tensors.

    Returns:
        Epochs already done; 0 where there is no checkpoint.

    Raises:
        InputError: if the checkpoint does not fit the objects (another network or optimiser), none can be read, or
            the trainer does not know its epochs, as only MONAI's do before they run.
    """
    found = {int(match[1]): path for path in Path(folder).glob("*.pt") if (match := _EPOCH.search(path.name))}
    if not found:
        return 0
    epoch, state = _newest(found, device)
    if len(objects) == 1 and not set(objects) & set(state):
        state = {name: state for name in objects}  # CheckpointSaver writes a single object bare
    try:
        _load(objects, state)
    except (KeyError, RuntimeError, ValueError) as error:
        raise InputError(
            f"Checkpoint {found[epoch]} does not fit this configuration ({error}). "
            "Use the settings it was made with, or another work_dir to start anew."
        ) from error
    if trainer.state.max_epochs is None or trainer.state.epoch_length is None:
        raise InputError("the trainer does not know its epochs: resume needs a MONAI trainer, before it runs")
    trainer.state.epoch = epoch
    trainer.state.iteration = epoch * trainer.state.epoch_length
    _reseed(trainer, epoch)
    for older in (path for number, path in found.items() if number < epoch):
        older.unlink(missing_ok=True)
    print(f"resuming after epoch {epoch} of {trainer.state.max_epochs} ({found[epoch]})", flush=True)
    return epoch


def _newest(found: Mapping[int, Path], device: torch.device | str) -> tuple[int, dict[str, Any]]:
    """Epoch and content of the last checkpoint that is whole."""
    for epoch in sorted(found, reverse=True):
        try:
            return epoch, torch.load(found[epoch], map_location=device, weights_only=True)
        except Exception as error:  # of half a file torch.load raises anything from RuntimeError to EOFError
            print(f"passing over {found[epoch]}, which cannot be read: {error}", flush=True)
    raise InputError(
        f"none of the checkpoints in {found[max(found)].parent} can be read; remove them to start anew"
    )


def _load(objects: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    """Load every object; schedulers first, since they are compared with the rates that the optimisers start with."""
    changed = [
        item
        for name, item in objects.items()
        if isinstance(item, LRScheduler) and name in state and not _same_schedule(item, state[name])
    ]
    for name, item in objects.items():
        if any(item is other for other in changed):
            continue
        if name not in state and not isinstance(item, (nn.Module, torch.optim.Optimizer)):
            continue  # a checkpoint of an older configuration, which did not count or schedule this yet
        unwrap(item).load_state_dict(state[name])
    for scheduler in changed:
        rates = scheduler.get_last_lr()
        for group, rate, first in zip(
            scheduler.optimizer.param_groups, rates, scheduler.base_lrs, strict=True
        ):
            group["lr"], group["initial_lr"] = rate, first
        print(f"the learning rate's schedule has changed; it goes on at {float(rates[0]):.3g}", flush=True)


def _same_schedule(scheduler: LRScheduler, saved: Mapping[str, Any]) -> bool:
    """Whether a schedule, brought to the saved one's step, is where that one was; it stays there."""
    if isinstance(scheduler, ReduceLROnPlateau):
        return True  # it follows the metric, not the epoch
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")
        for _ in range(int(saved["last_epoch"])):
            scheduler.step()
    own = scheduler.state_dict()
    return all(own.get(name) == value for name, value in saved.items() if not name.startswith("_"))


def _reseed(trainer: Any, epoch: int) -> None:
    """Other random numbers than the first epoch's, for shuffling, augmentation and batches."""
    seed = (torch.initial_seed() + _LARGE_PRIME * epoch) % 2**32
    torch.manual_seed(seed)  # of the shuffle, and of every worker
    dataset = getattr(getattr(trainer, "data_loader", None), "dataset", None)
    if dataset is not None:
        set_rnd(dataset, seed)  # without workers a data set was seeded when its loader was made
    prepare = getattr(trainer, "prepare_batch", None)
    if isinstance(prepare, Randomizable):
        prepare.set_random_state(seed)
