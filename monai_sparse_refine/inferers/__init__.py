"""Inferers: any MONAI inferer and then the refiner; super-resolution; test-time mirroring."""

from monai_sparse_refine.inferers.flip import FlipAverageInferer
from monai_sparse_refine.inferers.refine import RefineInferer
from monai_sparse_refine.inferers.super_resolution import SuperResolutionInferer

__all__ = ["FlipAverageInferer", "RefineInferer", "SuperResolutionInferer"]
