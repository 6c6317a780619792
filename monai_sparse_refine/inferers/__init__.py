"""Inferers: any MONAI inferer, then the refiner; and super-resolution."""

from __future__ import annotations

from monai_sparse_refine.inferers.refine import RefineInferer
from monai_sparse_refine.inferers.super_resolution import SuperResolutionInferer

__all__ = ["RefineInferer", "SuperResolutionInferer"]
