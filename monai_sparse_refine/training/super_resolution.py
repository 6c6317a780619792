"""Batches for training super-resolution: fine crops in, coarse masks made on the fly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from monai.engines import PrepareBatch
from monai.transforms import Randomizable
from torch import Tensor

from monai_sparse_refine.errors import InputError

__all__ = ["PrepareCoarseBatch"]


class PrepareCoarseBatch(PrepareBatch, Randomizable):
    """Coarsen a batch of fine masks by a random factor; for ``prepare_batch`` of MONAI's engines.

    A coarse voxel is foreground where at least half of it is. Some batches use another threshold, the voxel at the
    centre (nearest neighbour) or any foreground at all, so that the network also meets masks that were made
    otherwise. For a factor below the largest one the batch is cut into smaller crops, which are as many voxels.

    Args:
        steps: numbers of doublings n to draw from; the factor is 2 ** n.
        weights: how often, one for each of ``steps``; equally often by default.
        other_rules: share of the batches that another rule makes.
        split: crops are cut into halves along every axis where n is 1, so a batch holds 8 times as many.
        key: key of the fine masks [B, 1, X, Y, Z]; the sides have to be multiples of the largest factor, and of 4
            with ``split``.
        steps_key: key of the number of doublings of each item; a batch that has it is not random (validation).
        seed: of the draws.
    """

    def __init__(
        self,
        steps: Sequence[int] = (1, 2, 3),
        *,
        weights: Sequence[float] | None = None,
        other_rules: float = 0.25,
        split: bool = True,
        key: str = "label",
        steps_key: str = "steps",
        seed: int | None = None,
    ) -> None:
        self.steps = tuple(steps)
        if weights is not None and (len(weights) != len(self.steps) or min(weights) < 0 or not sum(weights)):
            raise InputError(
                f"weights is {tuple(weights)}; expected one share for each of steps {self.steps}"
            )
        self.weights = None if weights is None else [w / sum(weights) for w in weights]
        self.other_rules = other_rules
        self.split = split
        self.key = key
        self.steps_key = steps_key
        if seed is not None:
            self.set_random_state(seed)

    def __call__(
        self,
        batchdata: Mapping[str, Any],
        device: torch.device | str | None = None,
        non_blocking: bool = False,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor, tuple, dict[str, Any]]:
        """Make a batch.

        Returns:
            Coarse masks [B, 1, x, y, z], fine masks, no positional arguments, and for the network the target
            (random batches) or the number of steps (given ones).

        Raises:
            InputError: cases of several given numbers of steps in one batch.
        """
        fine = batchdata[self.key].as_subclass(Tensor).to(device=device, non_blocking=non_blocking).float()
        if self.steps_key in batchdata:
            given = sorted(set(map(int, batchdata[self.steps_key])))
            if len(given) != 1:
                raise InputError(
                    f"batch has cases of {given} steps; expected one number: use a batch size of 1"
                )
            return coarsen_blocks(fine, 2 ** given[0]), fine, (), {"steps": given[0]}
        steps = int(self.R.choice(self.steps, p=self.weights))
        if steps == 1 and self.split:
            halves = [part for axis in fine.chunk(2, 2) for part in axis.chunk(2, 3)]
            fine = torch.cat([part for half in halves for part in half.chunk(2, 4)])
        coarse = self._coarsen(fine, 2**steps)
        return coarse, fine, (), {"target": fine}

    def _coarsen(self, fine: Tensor, factor: int) -> Tensor:
        if self.R.uniform() >= self.other_rules:
            return coarsen_blocks(fine, factor)
        rule = self.R.choice(["threshold", "nearest", "any"], p=[0.5, 0.25, 0.25])
        if rule == "threshold":
            return coarsen_blocks(fine, factor, threshold=float(self.R.uniform(0.3, 0.65)))
        if rule == "any":
            return F.max_pool3d(fine, factor)
        middle = slice(factor // 2, None, factor)
        return fine[:, :, middle, middle, middle]


def coarsen_blocks(fine: Tensor, factor: int, *, threshold: float = 0.5) -> Tensor:
    """Blocks of ``factor`` voxels along every axis, 1 where the share of foreground reaches the threshold."""
    return (F.avg_pool3d(fine, factor) >= threshold).to(fine.dtype)
