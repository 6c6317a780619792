"""TensorBoard statistics of a generative network, per level."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events
from torch.utils.tensorboard import SummaryWriter

from monai_sparse_refine.losses import LevelwiseGenerativeLoss
from monai_sparse_refine.networks import SparsePrediction


class LevelStats:
    """Write, per level, the loss and the voxels generated over the target's voxels (1 would be perfect).

    Attach it to a trainer whose network returns a :class:`SparsePrediction`.

    Args:
        log_dir: TensorBoard folder.
        interval: iterations between two entries.
    """

    def __init__(self, log_dir: str | Path, *, interval: int = 10) -> None:
        self.log_dir = str(log_dir)
        self.interval = interval
        self.writer: SummaryWriter | None = None

    def attach(self, engine: Engine) -> None:
        """Register with the trainer."""
        engine.add_event_handler(Events.STARTED, self._open)
        engine.add_event_handler(Events.ITERATION_COMPLETED(every=self.interval), self._write)
        engine.add_event_handler(Events.COMPLETED, self._close)

    def _open(self, engine: Engine) -> None:
        self.writer = SummaryWriter(self.log_dir)

    def _write(self, engine: Engine) -> None:
        output: Any = engine.state.output
        item = output[0] if isinstance(output, (list, tuple)) else output
        prediction = item["pred"]
        if self.writer is None or not isinstance(prediction, SparsePrediction):
            return
        step = engine.state.iteration
        losses = LevelwiseGenerativeLoss.per_level(prediction)
        for level, loss in zip(prediction.iter_levels(), losses, strict=True):
            name = f"stride_{level.stride:02d}"
            self.writer.add_scalar(f"level_loss/{name}", loss.item(), step)
            truth = 0 if level.target is None else float(level.target.sum())
            if truth:
                self.writer.add_scalar(f"voxels_over_target/{name}", len(level.logits) / truth, step)

    def _close(self, engine: Engine) -> None:
        if self.writer is not None:
            self.writer.close()
            self.writer = None
