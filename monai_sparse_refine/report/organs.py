"""Ignite handler that tells what became of each organ of each case, and leaves a table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from monai_sparse_refine.metrics import components, dice, hd95, surface_dice
from monai_sparse_refine.report.case_report import CaseReport, saved_to, source_name
from monai_sparse_refine.report.table import write_case_table
from monai_sparse_refine.volume import as_volume, spacing_of

__all__ = ["OrganReport"]


class OrganReport(CaseReport):
    """Report every refined case of an evaluator: a line for each organ, and ``organs.csv`` at the end.

    Attach it to a MONAI evaluator (``val_handlers``) whose postprocessing leaves refined label maps [1, X, Y, Z], what
    they were before, and the report of ``SparseRefined``. Where an item has a true label map, Dice, HD95 (mm) and
    normalised surface Dice (2 mm) of before and after are added.

    Args:
        output_dir: where to write.
        total: number of cases, for the progress line; None if unknown.
        pred_key, dense_key, report_key, truth_key: keys of the refined map, the one before, the report and the truth.
        log: where lines go; ``print`` by default.
    """

    def __init__(
        self,
        output_dir: str | Path,
        *,
        total: int | None = None,
        pred_key: str = "pred",
        dense_key: str = "dense",
        report_key: str = "report",
        truth_key: str = "truth",
        log: Callable[[str], None] = print,
    ) -> None:
        super().__init__(output_dir, total=total, log=log)
        self.pred_key, self.dense_key = pred_key, dense_key
        self.report_key, self.truth_key = report_key, truth_key

    def report(self, item: Mapping[str, Any]) -> None:
        """Tell of each organ of one case."""
        pred = item[self.pred_key]
        name, saved = source_name(pred), saved_to(pred)
        where = "" if saved is None else f" -> {saved}"
        self.log(f"{self.number} {name}: {self.seconds:.1f} s{where}")
        for line in item[self.report_key]:
            row = {"case": name, **{key: value for key, value in line.items() if key != "ids"}}
            if self.truth_key in item:
                row |= self._scores(item, line["ids"])
            self.rows.append(row)
            self.log("    " + _summary(row))

    def _scores(self, item: Mapping[str, Any], ids: list[int]) -> dict[str, Any]:
        truth = np.isin(as_volume(item[self.truth_key]), ids)
        mm = spacing_of(item[self.truth_key])
        scores: dict[str, Any] = {}
        for stage, key in (("before", self.dense_key), ("after", self.pred_key)):
            mask = np.isin(as_volume(item[key]), ids)
            scores[f"dice_{stage}"] = dice(mask, truth)
            scores[f"hd95_mm_{stage}"] = hd95(mask, truth, spacing=mm)
            scores[f"surface_dice_{stage}"] = surface_dice(mask, truth, tolerance=2.0, spacing=mm)
            scores[f"components_{stage}"] = components(mask)
        return scores

    def finish(self) -> None:
        """Write ``organs.csv``."""
        path = write_case_table(self.rows, self.output_dir / "organs.csv")
        self.log(f"{self.cases} done, table: {path}")


def _summary(row: Mapping[str, Any]) -> str:
    if not row["refined"]:
        return f"{row['label']}: {row['ml_after']:.1f} ml, left as it was ({row['reason']})"
    line = f"{row['label']}: {row['ml_before']:.1f} -> {row['ml_after']:.1f} ml"
    if "dice_after" in row:
        line += f", Dice {row['dice_before']:.3f} -> {row['dice_after']:.3f}"
        line += f", HD95 {row['hd95_mm_before']:.1f} -> {row['hd95_mm_after']:.1f} mm"
    return f"{line}, {row['seconds']:.1f} s"
