import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.data import MetaTensor

from monai_sparse_refine.report import CompletionReport
from monai_sparse_refine.report.handler import summary_line


def _case(name: str, *, hole: bool = True) -> tuple[dict, dict]:
    """A hollow box of 1 mm voxels with a window in one wall, completed truly."""
    whole = torch.zeros(1, 24, 24, 24, dtype=torch.uint8)
    whole[:, 4:20, 4:20, 4:20] = 1
    whole[:, 6:18, 6:18, 6:18] = 0
    skull = whole.clone()
    if hole:
        skull[:, 8:16, 8:16, 18:20] = 0
    meta = {"filename_or_obj": f"/in/{name}.nii.gz"}
    masks = {"skull": skull, "completed": whole, "implant": whole - skull, "truth": whole}
    masks = {key: MetaTensor(mask, affine=torch.eye(4), meta=dict(meta)) for key, mask in masks.items()}
    return {"skull": masks.pop("skull"), "truth": masks.pop("truth")}, masks


def _run(report: CompletionReport, cases: list[tuple[dict, dict]]) -> None:
    def step(engine, batch):
        source, output = batch
        engine.state.batch = [source]
        return [output]

    evaluator = Engine(step)
    report.attach(evaluator)
    evaluator.run(cases)


def test_files_rows_and_lines(tmp_path):
    lines: list[str] = []
    report = CompletionReport(tmp_path, total=2, log=lines.append)
    _run(report, [_case("a"), _case("b")])
    for name in ("a", "b"):
        assert (tmp_path / f"{name}_implant.stl").is_file() and (tmp_path / f"{name}.png").is_file()
    assert [row["case"] for row in report.rows] == ["a", "b"]
    assert report.rows[0]["implant_ml"] == pytest.approx(8 * 8 * 2 / 1000)
    assert report.rows[0]["implant_dice"] == report.rows[0]["skull_dice"] == 1.0
    assert report.rows[0]["hd95_mm"] == 0.0
    assert len((tmp_path / "cases.csv").read_text().splitlines()) == 3
    text = "\n".join(lines)
    assert "Dice 1.000" in text and str(tmp_path / "a_implant.stl") in text and "cases.csv" in text


def test_intact_skull_says_so_and_has_no_mesh(tmp_path):
    lines: list[str] = []
    report = CompletionReport(tmp_path, figure=False, log=lines.append)
    _run(report, [_case("whole", hole=False)])
    assert "no hole found" in "\n".join(lines)
    assert not list(tmp_path.glob("*.stl"))
    assert report.rows[0]["implant_ml"] == 0


def test_the_mesh_of_an_earlier_implant_goes(tmp_path):
    (tmp_path / "whole_implant.stl").write_bytes(b"of an earlier run")
    report = CompletionReport(tmp_path, figure=False, log=lambda line: None)
    _run(report, [_case("whole", hole=False)])
    assert not list(tmp_path.glob("*.stl"))


def test_a_case_that_fails_leaves_the_table_of_those_before(tmp_path):
    report = CompletionReport(tmp_path, figure=False, mesh=False, log=lambda line: None)
    source, output = _case("b")
    del output["completed"]
    with pytest.raises(KeyError):
        _run(report, [_case("a"), (source, output)])
    assert [line.split(",")[0] for line in (tmp_path / "cases.csv").read_text().splitlines()] == ["case", "a"]


def test_name_of_the_item_wins_over_the_file_name(tmp_path):
    source, output = _case("file")
    report = CompletionReport(tmp_path, mesh=False, figure=False, log=lambda line: None)
    _run(report, [({**source, "name": "file_cube"}, output)])
    assert report.rows[0]["case"] == "file_cube"


def test_undecollated_output_is_refused(tmp_path):
    report = CompletionReport(tmp_path)
    evaluator = Engine(lambda engine, batch: {"pred": np.zeros(1)})
    report.attach(evaluator)
    with pytest.raises(TypeError, match="decollate"):
        evaluator.run([0])


def test_summary_line_without_truth():
    assert summary_line({"implant_ml": 12.34, "seconds": 3.21}) == "implant 12.3 ml, 3.2 s"
    assert summary_line({"implant_ml": 0.0, "seconds": 3.21}) == "no hole found, nothing added, 3.2 s"
