"""Overlap and distance of completions and implants: functions, and Ignite metrics that know the spacing."""

from __future__ import annotations

from monai_sparse_refine.metrics.case_csv import CaseCsvHandler
from monai_sparse_refine.metrics.functional import (
    border_dice,
    border_gap,
    dice,
    hd95,
    reconstruction_error,
    surface_dice,
    volume_ml,
)
from monai_sparse_refine.metrics.handlers import (
    BorderDice,
    CaseMetric,
    ImplantDice,
    ReconstructionError,
    SurfaceDistance95,
)
from monai_sparse_refine.metrics.organs import assd, components, surface_distances, volume_error

__all__ = [
    "BorderDice",
    "CaseCsvHandler",
    "CaseMetric",
    "ImplantDice",
    "ReconstructionError",
    "SurfaceDistance95",
    "assd",
    "border_dice",
    "border_gap",
    "components",
    "dice",
    "hd95",
    "reconstruction_error",
    "surface_dice",
    "surface_distances",
    "volume_error",
    "volume_ml",
]
