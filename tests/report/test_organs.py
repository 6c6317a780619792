"""What became of each organ: lines, a table, a picture."""

import csv

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.data import MetaTensor

from monai_sparse_refine.errors import InputError
from monai_sparse_refine.report import OrganReport, organ_figure


def _item(name: str, *, truth: bool) -> dict:
    whole = torch.zeros(1, 16, 14, 12, dtype=torch.uint8)
    whole[:, 4:12, 4:10, 3:9] = 2
    holed = whole.clone()
    holed[:, 4:12, 4:10, 5] = 0
    meta = {"filename_or_obj": f"in/{name}.nii.gz", "saved_to": "out/x.nii.gz"}
    affine = torch.diag(torch.tensor([1.0, 1, 3, 1], dtype=torch.float64))
    row = {"label": "heart", "ids": [2], "ml_before": 0.7, "ml_after": 0.9}
    row |= {"refined": True, "reason": "", "seconds": 0.1}
    absent = {"label": "aorta", "ids": [4], "ml_before": 0.0, "ml_after": 0.0}
    absent |= {"refined": False, "reason": "none", "seconds": 0.0}
    item = {
        "pred": MetaTensor(whole, affine=affine, meta=meta),
        "dense": MetaTensor(holed, affine=affine),
        "report": [row, absent],
    }
    return {**item, "truth": MetaTensor(whole, affine=affine)} if truth else item


def _run(report: OrganReport, items: list[dict]) -> None:
    def step(engine, item):
        engine.state.batch = [{}]
        return [item]

    engine = Engine(step)
    report.attach(engine)
    engine.run(items)


def test_lines_and_table(tmp_path):
    lines: list[str] = []
    _run(OrganReport(tmp_path, total=2, log=lines.append), [_item("a", truth=True), _item("b", truth=True)])
    text = "\n".join(lines)
    assert "[2/2] b:" in text and "out/x.nii.gz" in text
    assert "heart: 0.7 -> 0.9 ml, Dice 0.909 -> 1.000, HD95 3.0 -> 0.0 mm" in text
    assert "aorta: 0.0 ml, left as it was (none)" in text
    with (tmp_path / "organs.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 4 and rows[0]["case"] == "a" and rows[0]["components_before"] == "2"
    assert float(rows[0]["surface_dice_after"]) == 1


def test_without_truth_there_are_no_scores(tmp_path):
    lines: list[str] = []
    _run(OrganReport(tmp_path, log=lines.append), [_item("a", truth=False)])
    assert "Dice" not in "\n".join(lines)


def test_collated_output_is_refused(tmp_path):
    engine = Engine(lambda engine, item: {"pred": torch.zeros(1)})
    OrganReport(tmp_path).attach(engine)
    with pytest.raises(TypeError, match="decollate"):
        engine.run([0])


@pytest.mark.parametrize("extra", [False, True])
def test_a_picture_is_drawn_with_and_without_truth_and_image(tmp_path, extra):
    item = _item("a", truth=True)
    options = {"truth": item["truth"], "image": np.zeros((16, 14, 12))} if extra else {}
    options["affine"] = np.diag([-1.0, -1, 3, 1])
    path = organ_figure(item["dense"], item["pred"], path=tmp_path / "a.png", **options)
    assert path.stat().st_size > 5000
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]


def test_pictures_of_nothing_and_of_other_shapes(tmp_path):
    empty = np.zeros((9, 8, 7))
    assert organ_figure(empty, empty, path=tmp_path / "e.png", affine=np.eye(4)).is_file()
    with pytest.raises(InputError, match="shapes differ"):
        organ_figure(empty, empty[1:], path=tmp_path / "f.png", affine=np.eye(4))
