"""Ignite handler that tells a person what a super-resolution run does and leaves pictures and a table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from monai_sparse_refine.errors import InputError
from monai_sparse_refine.metrics import dice, hd95, reconstruction_error, surface_dice, volume_ml
from monai_sparse_refine.report.case_report import CaseReport, saved_to, shape_text, source_name
from monai_sparse_refine.report.super_resolution_figure import super_resolution_figure
from monai_sparse_refine.report.table import write_case_table
from monai_sparse_refine.volume import spacing_of

__all__ = ["SuperResolutionReport", "super_resolution_scores"]


class SuperResolutionReport(CaseReport):
    """Report every super-resolved mask of an evaluator: a progress line, picture and table row.

    Attach it to a MONAI evaluator (``val_handlers``); the postprocessing must leave [1, X, Y, Z] masks under the
    keys below. Writes ``<case>.png`` and, at the end, ``cases.csv``.

    Args:
        output_dir: where to write.
        total: number of cases, for the progress line; None if unknown.
        coarse_key, fine_key: keys of the mask that came in and of the result.
        truth_key: key of the true fine mask, scored where an item has it; it has to lie on the result's grid.
        figure: draw the picture.
        log: where lines go; ``print`` by default.
    """

    def __init__(
        self,
        output_dir: str | Path,
        *,
        total: int | None = None,
        coarse_key: str = "image",
        fine_key: str = "pred",
        truth_key: str = "truth",
        figure: bool = True,
        log: Callable[[str], None] = print,
    ) -> None:
        super().__init__(output_dir, total=total, log=log, source_key=coarse_key, verb="super-resolving")
        self.coarse_key, self.fine_key, self.truth_key = coarse_key, fine_key, truth_key
        self.figure = figure

    def report(self, item: Mapping[str, Any]) -> None:
        """Score and draw one case."""
        coarse, fine, truth = item[self.coarse_key], item[self.fine_key], item.get(self.truth_key)
        name = source_name(coarse)
        row: dict[str, Any] = {
            "case": name,
            "from": shape_text(coarse),
            "to": shape_text(fine),
            "ml_before": volume_ml(coarse),
            "ml_after": volume_ml(fine),
        }
        if saved := saved_to(fine):
            row["file"] = saved
        if truth is not None:
            try:
                row.update(super_resolution_scores(fine, truth))
            except InputError as error:
                raise SystemExit(
                    f"error: truth of {name}: {error}; ask for the truth's grid with target_shape"
                ) from None
        if self.figure:
            masks = {"coarse": coarse, "super-resolved": fine} | ({} if truth is None else {"truth": truth})
            path = super_resolution_figure(masks, path=self.output_dir / f"{name}.png", title=name)
            row["figure"] = str(path)
        row["seconds"] = self.seconds
        self.rows.append(row)
        self.log("    " + summary_line(row))

    def finish(self) -> None:
        """Write ``cases.csv`` and name all files."""
        path = write_case_table(self.rows, self.output_dir / "cases.csv")
        self.log(f"{len(self.rows)} super-resolved. Masks, pictures and the table are in {self.output_dir}:")
        self.list_rows(summary_line, ("file", "figure"))
        self.log(f"    {path}")


def super_resolution_scores(fine: Any, truth: Any) -> dict[str, float]:
    """DSC, reconstruction error in %, HD95 in mm and surface Dice at 1 voxel of two masks on one grid."""
    mm = spacing_of(truth, fine)
    return {
        "dice": dice(fine, truth),
        "re_percent": reconstruction_error(fine, truth),
        "hd95_mm": hd95(fine, truth, spacing=mm),
        "surface_dice_1_voxel": surface_dice(fine, truth, tolerance=1, spacing=1),
    }


def summary_line(row: Mapping[str, Any]) -> str:
    """One line of a case's numbers."""
    parts = [
        f"{row['from']} to {row['to']} voxels",
        f"{row['ml_before']:.1f} ml to {row['ml_after']:.1f} ml",
    ]
    if "dice" in row:
        parts.append(f"Dice {row['dice']:.4f}")
        parts.append(f"RE {row['re_percent']:.3f} %")
        parts.append(f"HD95 {row['hd95_mm']:.2f} mm")
        parts.append(f"surface Dice {row['surface_dice_1_voxel']:.4f}")
    parts.append(f"{row['seconds']:.1f} s")
    return ", ".join(parts)
