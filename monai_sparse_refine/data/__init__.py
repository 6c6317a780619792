"""Data to train and test on: procedural skull phantoms, data lists, and checks of a user's files."""

from __future__ import annotations

from monai_sparse_refine.data.ct_inputs import ct_cases, preflight_ct
from monai_sparse_refine.data.inputs import check_output_dir, check_volume, find_volumes, preflight
from monai_sparse_refine.data.phantom_volume import skull_phantom
from monai_sparse_refine.data.public_datasets import (
    SKULLBREAK_KINDS,
    mug500_skulls,
    paired_skulls,
    segthor_cases,
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
from monai_sparse_refine.data.thorax_cases import deform_organs, rendered_thorax_cases
from monai_sparse_refine.data.thorax_ct import render_thorax_ct
from monai_sparse_refine.data.weights import load_weights, read_weights

__all__ = [
    "SKULLBREAK_KINDS",
    "check_output_dir",
    "check_volume",
    "coarse_cases",
    "complete_skulls",
    "completion_cases",
    "ct_cases",
    "defect_cases",
    "deform_organs",
    "find_volumes",
    "load_weights",
    "mug500_skulls",
    "paired_skulls",
    "phantom_cases",
    "preflight",
    "preflight_ct",
    "read_split",
    "read_weights",
    "render_thorax_ct",
    "rendered_thorax_cases",
    "segthor_cases",
    "skull_phantom",
    "skullbreak_cases",
    "skullfix_cases",
]
