"""The engine's inner loops in C++, compiled on first use where a compiler is there."""

from monai_sparse_refine.engine.native.compiled.build import library

__all__ = ["library"]
