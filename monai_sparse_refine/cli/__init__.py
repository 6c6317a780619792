"""The command line: ``python -m monai_sparse_refine``."""

from __future__ import annotations

from monai_sparse_refine.cli.main import main

__all__ = ["main"]
