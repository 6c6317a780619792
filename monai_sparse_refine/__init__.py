"""Sparse generative refinement for MONAI: complete, super-resolve and repair binary masks at full resolution.

The rooms, each imported on its own so that ``import monai_sparse_refine`` stays light:

- :mod:`monai_sparse_refine.engine`: the sparse-tensor engine: MinkowskiEngine, or its API in PyTorch
- :mod:`monai_sparse_refine.networks`: the generative U-net, and a dense-in, dense-out refiner around it
- :mod:`monai_sparse_refine.losses`: the level-wise generative loss
- :mod:`monai_sparse_refine.transforms`: dense to sparse and back, synthetic defects, implants
- :mod:`monai_sparse_refine.inferers`: a refiner behind any MONAI inferer
- :mod:`monai_sparse_refine.metrics`: overlap and distance, in millimetres
- :mod:`monai_sparse_refine.data`: procedural phantoms and data lists
- :mod:`monai_sparse_refine.report`: figures, meshes and tables
"""

from __future__ import annotations

__all__ = ["__version__"]

__version__ = "0.1.0"
