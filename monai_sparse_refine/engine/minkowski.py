"""The real MinkowskiEngine (placeholder, replaced within minutes)."""

from __future__ import annotations

from monai_sparse_refine.engine import EngineNotFoundError

raise EngineNotFoundError("MinkowskiEngine is not installed")
