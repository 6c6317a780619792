"""Inferers: any MONAI inferer, then the refiner."""

from __future__ import annotations

from monai_sparse_refine.inferers.refine import RefineInferer

__all__ = ["RefineInferer"]
