"""Handlers and helpers for Ignite training: statistics per level, best weights, resuming after a kill."""

from monai_sparse_refine.training.checkpoints import BestWeights, export_weights, resume
from monai_sparse_refine.training.level_stats import LevelStats

__all__ = ["BestWeights", "LevelStats", "export_weights", "resume"]
