"""What a person looks at: a picture of each completion, the implant as a mesh, a table of the cases."""

from __future__ import annotations

from monai_sparse_refine.report.figure import completion_figure
from monai_sparse_refine.report.handler import CompletionReport
from monai_sparse_refine.report.mesh import mask_to_mesh, write_mesh
from monai_sparse_refine.report.organ_figure import organ_figure
from monai_sparse_refine.report.organs import OrganReport
from monai_sparse_refine.report.super_resolution import SuperResolutionReport, super_resolution_scores
from monai_sparse_refine.report.super_resolution_figure import super_resolution_figure
from monai_sparse_refine.report.table import format_case_table, write_case_table

__all__ = [
    "CompletionReport",
    "OrganReport",
    "SuperResolutionReport",
    "completion_figure",
    "format_case_table",
    "mask_to_mesh",
    "organ_figure",
    "super_resolution_figure",
    "super_resolution_scores",
    "write_case_table",
    "write_mesh",
]
