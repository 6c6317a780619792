"""Losses for sparse generative networks."""

from monai_sparse_refine.losses.generative import LevelwiseGenerativeLoss, soft_dice_loss

__all__ = ["LevelwiseGenerativeLoss", "soft_dice_loss"]
