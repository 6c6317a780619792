"""Data to train and test on: procedural skull phantoms, data lists, and checks of a user's files."""

from __future__ import annotations

from monai_sparse_refine.data.inputs import check_output_dir, check_volume, find_volumes, preflight
from monai_sparse_refine.data.phantom_volume import skull_phantom
from monai_sparse_refine.data.public_datasets import (
    SKULLBREAK_KINDS,
    mug500_skulls,
    paired_skulls,
    skullbreak_cases,
    skullfix_cases,
)
from monai_sparse_refine.data.skull_cases import (
    coarse_cases,
    complete_skulls,
    completion_cases,
    defect_cases,
    phantom_cases,
    read_split,
)
from monai_sparse_refine.data.weights import load_weights, read_weights

__all__ = [
    "SKULLBREAK_KINDS",
    "check_output_dir",
    "check_volume",
    "coarse_cases",
    "complete_skulls",
    "completion_cases",
    "defect_cases",
    "find_volumes",
    "load_weights",
    "mug500_skulls",
    "paired_skulls",
    "phantom_cases",
    "preflight",
    "read_split",
    "read_weights",
    "skull_phantom",
    "skullbreak_cases",
    "skullfix_cases",
]
