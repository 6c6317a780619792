from collections.abc import Mapping
from typing import Any

import pytest
import torch
from ignite.engine import Engine
from monai.data import MetaTensor

from monai_sparse_refine.report.case_report import CaseReport


class Names(CaseReport):
    """Reports each case's name."""

    def report(self, item: Mapping[str, Any]) -> None:
        self.rows.append({"case": item["name"], "number": self.number, "file": f"{item['name']}.png"})

    def finish(self) -> None:
        self.list_rows(lambda row: row["number"], ["mesh", "file"])


def _run(report: CaseReport, *names: list[str]) -> None:
    def step(engine, batch):
        engine.state.batch = [{"name": name} for name in batch["names"]]
        return [{} for _ in batch["names"]]

    evaluator = Engine(step)
    report.attach(evaluator)
    mask = torch.zeros(1, 1, 4, 5, 6)
    evaluator.run(
        [
            {"mask": MetaTensor(mask, meta={"filename_or_obj": [f"in/{batch[0]}.nii"]}), "names": batch}
            for batch in names
        ]
    )


@pytest.mark.parametrize("total, of", [(3, "/3"), (None, "")])
def test_cases_are_announced_numbered_and_listed(tmp_path, total, of):
    lines: list[str] = []
    report = Names(tmp_path, total=total, log=lines.append, source_key="mask", verb="naming")
    for _ in range(2):  # a second run begins anew
        lines.clear()
        _run(report, ["a", "b"], ["c"])
        assert lines == [
            f"[1{of}] naming a (4x5x6 voxels) ...",
            f"[3{of}] naming c (4x5x6 voxels) ...",
            *(f"  a: [1{of}]", "    a.png", f"  b: [2{of}]", "    b.png", f"  c: [3{of}]", "    c.png"),
        ]


def test_without_a_key_or_a_case_nothing_is_said(tmp_path):
    lines: list[str] = []
    report = Names(tmp_path, total=None, log=lines.append)
    evaluator = Engine(lambda engine, batch: [])
    report.attach(evaluator)
    evaluator.run([[], []])
    assert lines == [] and report.rows == []


def test_the_home_directory_may_be_given_by_a_tilde(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Names("~/out", total=None, log=print).output_dir == tmp_path / "out"
