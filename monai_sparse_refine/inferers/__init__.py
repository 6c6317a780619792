"""Inferers: any MONAI inferer and then the refiner; test-time mirroring."""

from monai_sparse_refine.inferers.flip import FlipAverageInferer
from monai_sparse_refine.inferers.refine import RefineInferer

__all__ = ["FlipAverageInferer", "RefineInferer"]
