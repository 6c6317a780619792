"""Data to train and test on: procedural skull phantoms."""

from __future__ import annotations

from monai_sparse_refine.data.phantom import skull_phantom

__all__ = ["skull_phantom"]
