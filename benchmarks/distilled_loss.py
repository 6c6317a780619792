"""Levels that teach one another: a term of the loss that the training ablation tries."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from monai_sparse_refine.losses import LevelwiseGenerativeLoss
from monai_sparse_refine.networks.mask_refiner import SparsePrediction
from monai_sparse_refine.networks.sparse_unet import LevelPrediction

__all__ = ["DistilledLoss", "distillation"]


class DistilledLoss(LevelwiseGenerativeLoss):
    """The level-wise loss, and neighbouring levels that answer alike (self-distillation).

    Args:
        teacher: which of two neighbouring levels the other learns from.
        distil_weight: of that term.
        **options: of the level-wise loss.
    """

    def __init__(
        self, *, teacher: Literal["coarse", "fine"] = "coarse", distil_weight: float = 0.5, **options: Any
    ) -> None:
        super().__init__(**options)
        self.teacher = teacher
        self.distil_weight = distil_weight

    def forward(self, prediction: SparsePrediction, target: Tensor | None = None) -> Tensor:
        """The scalar loss; see `LevelwiseGenerativeLoss`."""
        levels = list(prediction.iter_levels())
        terms = [distillation(coarse, fine, teacher=self.teacher) for coarse, fine in pairwise(levels)]
        return super().forward(prediction, target) + self.distil_weight * torch.stack(terms).mean()


def distillation(
    coarse: LevelPrediction, fine: LevelPrediction, *, teacher: Literal["coarse", "fine"]
) -> Tensor:
    """Cross-entropy between a cell's answer and the largest of its children's, after their teacher's.

    A cell is occupied where any of its voxels is, so the two should be the same. Cells without children, which were
    pruned, and cells that the mask to refine tells already are left out; 0 where none is left.

    Args:
        coarse: a level.
        fine: the next finer one, of half the stride.
        teacher: whose answer is taken as it is, without gradient.
    """
    nothing = 0 * (coarse.logits.sum() + fine.logits.sum())  # still part of the graph
    if len(coarse.logits) == 0 or len(fine.logits) == 0:
        return nothing
    parent = _parents(coarse, fine)
    largest = torch.full_like(coarse.logits, -torch.inf).scatter_reduce(
        0, parent[parent >= 0], fine.logits[parent >= 0], "amax"
    )
    compared = torch.isfinite(largest)
    if coarse.known is not None:
        compared &= ~coarse.known
    if not bool(compared.any()):
        return nothing
    one, other = coarse.logits[compared], largest[compared]
    student, taught = (other, one) if teacher == "coarse" else (one, other)
    return F.binary_cross_entropy_with_logits(student, taught.detach().sigmoid())


def _parents(coarse: LevelPrediction, fine: LevelPrediction) -> Tensor:
    """Row of the coarse level that each row of the fine one lies in, (N,); -1 where there is none."""
    inside = fine.coordinates.long().clone()
    inside[:, 1:] = inside[:, 1:].div(coarse.stride, rounding_mode="floor") * coarse.stride
    both = torch.cat([coarse.coordinates.long(), inside])
    _, index = torch.unique(both, dim=0, return_inverse=True)
    rows = torch.full((int(index.max()) + 1,), -1, device=index.device)
    rows[index[: len(coarse.logits)]] = torch.arange(len(coarse.logits), device=index.device)
    return rows[index[len(coarse.logits) :]]
