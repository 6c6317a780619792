"""Ignite handler that tells a person what a completion run does and leaves mesh, picture and table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from monai_sparse_refine.metrics import border_dice, dice, hd95, volume_ml
from monai_sparse_refine.report.case_report import CaseReport, saved_to, source_name
from monai_sparse_refine.report.figure import completion_figure, implant_text
from monai_sparse_refine.report.mesh import write_mesh
from monai_sparse_refine.report.table import write_case_table
from monai_sparse_refine.volume import as_mask, spacing_of


class CompletionReport(CaseReport):
    """Report every completed skull of an evaluator: a progress line, implant mesh, picture and table row.

    Attach it to a MONAI evaluator (``val_handlers``); the postprocessing must leave [1, X, Y, Z] masks under the
    keys below. Writes ``<case>_implant.stl`` (world mm), ``<case>.png`` and, at the end, ``cases.csv``.

    Args:
        output_dir: where to write.
        total: number of cases, for the progress line; None if unknown.
        skull_key, completed_key, implant_key: keys of the defective mask, the completion and the implant.
        truth_key: key of the true complete mask, scored where an item has it.
        name_key: key of the case's name, for items that have one; else the file's name is used.
        mesh: write the implant's mesh.
        figure: draw the picture.
        log: where lines go; ``print`` by default.
    """

    def __init__(
        self,
        output_dir: str | Path,
        *,
        total: int | None = None,
        skull_key: str = "skull",
        completed_key: str = "completed",
        implant_key: str = "implant",
        truth_key: str = "truth",
        name_key: str = "name",
        mesh: bool = True,
        figure: bool = True,
        log: Callable[[str], None] = print,
    ) -> None:
        super().__init__(
            output_dir, total=total, log=log, source_key=skull_key, verb="completing", name_key=name_key
        )
        self.keys = {
            "skull": skull_key,
            "completed": completed_key,
            "implant": implant_key,
            "truth": truth_key,
        }
        self.mesh = mesh
        self.figure = figure

    def report(self, item: Mapping[str, Any]) -> None:
        """Score, mesh and draw one case."""
        skull, completed, implant = (item[self.keys[name]] for name in ("skull", "completed", "implant"))
        name = str(item.get(self.name_key) or source_name(skull))
        spacing = spacing_of(skull)
        row: dict[str, Any] = {"case": name, "implant_ml": volume_ml(implant, spacing=spacing)}
        for key in ("completed", "implant"):
            saved = saved_to(item[self.keys[key]])
            if saved is not None:
                row[f"{key}_file"] = saved
        truth = item.get(self.keys["truth"])
        true_implant = None
        if truth is not None:
            true_implant = as_mask(truth) & ~as_mask(skull)
            row["implant_dice"] = dice(implant, true_implant)
            row["border_dice"] = border_dice(implant, true_implant, skull, spacing=spacing)
            row["hd95_mm"] = hd95(implant, true_implant, spacing=spacing)
            row["skull_dice"] = dice(completed, truth)
        if self.mesh:
            path = self.output_dir / f"{name}_implant.stl"
            if row["implant_ml"] > 0:
                write_mesh(implant, affine=skull.affine, path=path)
                row["mesh"] = str(path)
            else:
                path.unlink(missing_ok=True)  # of an earlier run: it would pass for this implant's
                self.log(f"    {name}: no hole found, the implant is empty and no mesh is written.")
        if self.figure:
            path = self.output_dir / f"{name}.png"
            completion_figure(
                skull, completed, implant, spacing=spacing, path=path, title=name, truth=true_implant
            )
            row["figure"] = str(path)
        row["seconds"] = self.seconds
        self.rows.append(row)
        self.log("    " + summary_line(row))

    def finish(self) -> None:
        """Write ``cases.csv`` and name all files."""
        path = write_case_table(self.rows, self.output_dir / "cases.csv")
        self.log(
            f"{len(self.rows)} completed. Masks, meshes, pictures and the table are in {self.output_dir}:"
        )
        self.list_rows(summary_line, ("completed_file", "implant_file", "mesh", "figure"))
        self.log(f"    {path}")


def summary_line(row: Mapping[str, Any]) -> str:
    """One line of a case's numbers, in the order a surgeon would ask for them."""
    parts = [implant_text(row["implant_ml"])]
    if "implant_dice" in row:
        parts.append(f"Dice {row['implant_dice']:.3f}")
        parts.append(f"border Dice {row['border_dice']:.3f}")
        parts.append(f"HD95 {row['hd95_mm']:.1f} mm")
        parts.append(f"whole-skull Dice {row['skull_dice']:.4f}")
    parts.append(f"{row['seconds']:.1f} s")
    return ", ".join(parts)
