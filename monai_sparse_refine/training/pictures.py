"""Pictures of validation cases in TensorBoard: bone, what was found, what is missing and what is too much."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from ignite.engine import Engine, Events
from torch.utils.tensorboard import SummaryWriter

from monai_sparse_refine.volume import as_mask

BONE, RIGHT, MISSING, SURPLUS = (0.85, 0.82, 0.76), (0.15, 0.65, 0.35), (0.90, 0.25, 0.20), (0.25, 0.45, 0.90)


class ValidationPictures:
    """Write one picture for each of the first cases of every validation: three slices through the hole.

    Attach it to the evaluator. Bone is grey; of the implant green was found, red is missing and blue is too
    much. The cases are the same every time, so that TensorBoard's slider shows the learning.

    Args:
        log_dir: TensorBoard folder.
        count: how many cases.
        pred_key, label_key, image_key: completed, complete and defective skull in the evaluator's output.
    """

    def __init__(
        self,
        log_dir: str | Path,
        *,
        count: int = 3,
        pred_key: str = "pred",
        label_key: str = "label",
        image_key: str = "defective",
    ) -> None:
        self.log_dir = str(log_dir)
        self.count = count
        self.keys = (image_key, pred_key, label_key)
        self._pictures: list[np.ndarray] = []

    def attach(self, engine: Engine) -> None:
        """Register with the evaluator."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.COMPLETED, self._write)

    def _start(self, engine: Engine) -> None:
        self._pictures = []

    def _collect(self, engine: Engine) -> None:
        output: Any = engine.state.output
        for item in output:
            if len(self._pictures) < self.count:
                self._pictures.append(slices_picture(*(as_mask(item[key], name=key) for key in self.keys)))

    def _write(self, engine: Engine) -> None:
        # ValidationHandler gives the evaluator the trainer's epoch.
        writer = SummaryWriter(self.log_dir)
        for index, picture in enumerate(self._pictures):
            writer.add_image(f"validation/case_{index}", picture, engine.state.epoch, dataformats="HWC")
        writer.close()


def slices_picture(defective: np.ndarray, completed: np.ndarray, complete: np.ndarray) -> np.ndarray:
    """Sagittal, coronal and axial slice through the middle of the hole, side by side.

    Args:
        defective, completed, complete: boolean [X, Y, Z] in RAS orientation.

    Returns:
        RGB in [0, 1], (H, W, 3), the third axis upwards.
    """
    true = complete & ~defective
    where = np.argwhere(true if true.any() else completed)
    middle = where.mean(axis=0).round().astype(int) if len(where) else np.array(defective.shape) // 2
    panels = []
    for axis in range(3):
        bone, found, wanted = (
            np.rot90(mask.take(middle[axis], axis=axis)) for mask in (defective, completed & ~defective, true)
        )
        panel = np.zeros((*bone.shape, 3), dtype=np.float32)
        parts = (
            (bone, BONE),
            (found & wanted, RIGHT),
            (wanted & ~found, MISSING),
            (found & ~wanted, SURPLUS),
        )
        for part, colour in parts:
            panel[part] = colour
        panels.append(panel)
    height = max(panel.shape[0] for panel in panels)
    padded = [np.pad(panel, ((0, height - panel.shape[0]), (0, 1), (0, 0))) for panel in panels]
    return np.concatenate(padded, axis=1)
