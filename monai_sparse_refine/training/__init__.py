"""Handlers and helpers for Ignite training: statistics, pictures, best weights, stopping, resuming after a kill."""

from monai_sparse_refine.training.checkpoints import BestWeights, export_weights
from monai_sparse_refine.training.early_stop import EarlyStop
from monai_sparse_refine.training.echo import EchoDataset
from monai_sparse_refine.training.level_stats import LevelStats
from monai_sparse_refine.training.pictures import ValidationPictures
from monai_sparse_refine.training.restart import resume
from monai_sparse_refine.training.super_resolution import PrepareCoarseBatch
from monai_sparse_refine.training.warm_start import warm_start

__all__ = [
    "BestWeights",
    "EarlyStop",
    "EchoDataset",
    "LevelStats",
    "PrepareCoarseBatch",
    "ValidationPictures",
    "export_weights",
    "resume",
    "warm_start",
]
