"""Level-wise loss of a generative network: every generated voxel of every level is right or wrong."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from monai_sparse_refine.networks.mask_refiner import SparsePrediction
from monai_sparse_refine.networks.sparse_unet import LevelPrediction


class LevelwiseGenerativeLoss(nn.Module):
    """Mean binary cross-entropy with logits over the generated voxels of each level, summed over the levels.

    The loss of Li et al., Sci. Rep. 13:20229 (2023), with options.

    Args:
        normalize: divide by the sum of the level weights, so that the number of levels does not set the scale.
        level_weights: one weight per level, coarsest first; 1 each by default.
        dice_weight: weight of :func:`soft_dice_loss` on the finest level (0: none).
        known_weight: weight of the cells that hold a voxel of the input mask, against 1 for all others. A skull's
            hole is a few percent of its voxels and the rest is copied, so completion learns much faster with less
            weight on what is known (1: as in the paper).
    """

    def __init__(
        self,
        *,
        normalize: bool = False,
        level_weights: Sequence[float] | None = None,
        dice_weight: float = 0.0,
        known_weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.normalize = normalize
        self.level_weights = None if level_weights is None else tuple(level_weights)
        if not 0 <= known_weight <= 1:
            raise ValueError(f"known_weight must lie between 0 and 1, got {known_weight}.")
        self.dice_weight = dice_weight
        self.known_weight = known_weight

    def forward(self, prediction: SparsePrediction, target: Tensor | None = None) -> Tensor:
        """The scalar loss; ``target`` is unused (the prediction carries it) and is there for MONAI's trainers.

        Raises:
            TypeError: if ``prediction`` is dense, which means that the network was not given its target.
            ValueError: if the number of level weights is not that of the levels.
        """
        losses = self.per_level(prediction, known_weight=self.known_weight)
        weights = self.level_weights or (1.0,) * len(losses)
        if len(weights) != len(losses):
            raise ValueError(f"level_weights has {len(weights)} values for {len(losses)} levels.")
        total = torch.stack([weight * loss for weight, loss in zip(weights, losses, strict=True)]).sum()
        if self.normalize:
            total = total / sum(weights)
        if self.dice_weight:
            total = total + self.dice_weight * soft_dice_loss(prediction.levels[-1])
        return total

    @staticmethod
    def per_level(prediction: SparsePrediction, *, known_weight: float = 1.0) -> list[Tensor]:
        """(Weighted) mean cross-entropy of each level, coarsest first; 0 for a level without voxels."""
        if not isinstance(prediction, SparsePrediction):
            raise TypeError(
                "LevelwiseGenerativeLoss needs the network's SparsePrediction: pass the target to the network, "
                'e.g. with prepare_batch=monai.engines.PrepareBatchExtraInput(extra_keys={"target": "label"}).'
            )
        return [_level_loss(level, known_weight) for level in prediction.iter_levels()]


def soft_dice_loss(level: LevelPrediction, *, smooth: float = 1.0) -> Tensor:
    """1 - soft Dice over the generated voxels of one level that are not known, squared as in V-Net.

    With squares in the denominator (Milletari et al., 3DV 2016) the best prediction of a soft target is the target
    itself. Where what is known is marked, this is the implant's Dice coefficient, not the skull's.
    """
    level = _in_full_precision(level)
    probability, truth = level.logits.sigmoid(), _truth(level)
    if level.known is not None:
        probability, truth = probability[~level.known], truth[~level.known]
    overlap = (probability * truth).sum()
    return 1 - (2 * overlap + smooth) / (probability.square().sum() + truth.square().sum() + smooth)


def _level_loss(level: LevelPrediction, known_weight: float) -> Tensor:
    if len(level.logits) == 0:
        return level.logits.sum()  # 0, still part of the graph
    level = _in_full_precision(level)
    if known_weight == 1 or level.known is None:
        return F.binary_cross_entropy_with_logits(level.logits, _truth(level))
    weight = torch.where(level.known, known_weight, 1.0).to(level.logits.dtype)
    total = F.binary_cross_entropy_with_logits(level.logits, _truth(level), weight=weight, reduction="sum")
    return total / weight.sum().clamp(min=1e-6)


def _in_full_precision(level: LevelPrediction) -> LevelPrediction:
    """The level with logits of at least single precision: sums over its voxels overflow half precision."""
    return level._replace(logits=level.logits.float()) if level.logits.itemsize < 4 else level


def _truth(level: LevelPrediction) -> Tensor:
    if level.target is None:
        raise ValueError("This prediction carries no target: call the network with its target in training.")
    return level.target.to(level.logits.dtype)
