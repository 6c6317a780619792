from __future__ import annotations

import csv

import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset, MetaTensor
from monai.engines import SupervisedEvaluator
from monai.handlers import from_engine

from monai_sparse_refine.errors import InputError
from monai_sparse_refine.metrics import (
    BorderDice,
    CaseCsvHandler,
    CaseMetric,
    ImplantDice,
    ReconstructionError,
    SurfaceDistance95,
    border_dice,
    dice,
    hd95,
    reconstruction_error,
)

SHAPE = (16, 16, 10)
SPACINGS = [(1.0, 1.0, 1.0), (0.5, 1.0, 3.0)]


class FillHole(torch.nn.Module):
    """Fills the box in which the test's holes are, but for what the shift leaves open; or nothing at all."""

    def __init__(self, *, nothing: bool = False) -> None:
        super().__init__()
        self.nothing = nothing

    def forward(self, x):
        x = x.clone()
        if not self.nothing:
            x[:, :, 6:10, 5:10, 4:6] = 1
        return x


def cases():
    whole = np.zeros((1, *SHAPE), dtype=np.float32)
    whole[0, 2:14, 2:14, 4:6] = 1
    items = []
    for index, spacing in enumerate(SPACINGS):
        bone = whole.copy()
        bone[0, 5:10, 5:10, :] = 0
        affine = torch.diag(torch.tensor([*spacing, 1.0]))
        meta = {"filename_or_obj": f"/data/case{index}.nii.gz"}
        items.append(
            {
                "image": MetaTensor(torch.as_tensor(bone), affine=affine, meta=dict(meta)),
                "label": MetaTensor(torch.as_tensor(whole), affine=affine, meta=dict(meta)),
            }
        )
    return items


def evaluate(network, *, metrics, handlers=(), batch_size=1, **options):
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(Dataset(cases()), batch_size=batch_size),
        network=network,
        key_val_metric={"implant_dice": ImplantDice()},
        additional_metrics=metrics,
        val_handlers=list(handlers),
        **options,
    )
    evaluator.run()
    return evaluator


def expected():
    """What the functions say of the same cases."""
    scores = []
    for item, spacing in zip(cases(), SPACINGS, strict=True):
        pred = FillHole()(item["image"][None])[0]
        bone = np.asarray(item["image"])[0] > 0
        implants = [(np.asarray(m)[0] > 0) & ~bone for m in (pred, item["label"])]
        scores.append(
            [
                dice(*implants),
                border_dice(*implants, bone, spacing=spacing, distance_mm=1.0),
                hd95(*implants, spacing=spacing),
                reconstruction_error(pred, item["label"]),
            ]
        )
    return np.array(scores)


@pytest.mark.parametrize("batch_size", [1, 2])
def test_an_evaluator_scores_each_case_with_its_own_spacing(batch_size, tmp_path):
    metrics = {
        "border": BorderDice(distance_mm=1.0),
        "hd95": SurfaceDistance95(),
        "error": ReconstructionError(),
    }
    table = tmp_path / "out" / "cases.csv"
    evaluator = evaluate(FillHole(), metrics=metrics, handlers=[CaseCsvHandler(table)], batch_size=batch_size)
    want = expected()
    # The spacings differ along the axis of the error, so the distances must too.
    assert want[0, 2] != want[1, 2] and 0 < want[0, 0] < 1
    names = ["implant_dice", "border", "hd95", "error"]
    state = evaluator.state.metrics
    np.testing.assert_allclose([state[name] for name in names], want.mean(axis=0), rtol=1e-6)
    details = evaluator.state.metric_details
    np.testing.assert_allclose(torch.cat([details[n] for n in names], dim=1).numpy(), want, rtol=1e-6)
    rows = list(csv.reader(table.open()))
    assert rows[0] == ["case", *names] and [row[0] for row in rows[1:]] == ["case0", "case1"]
    np.testing.assert_allclose(np.array([row[1:] for row in rows[1:]], dtype=float), want, rtol=1e-6)
    assert [p.name for p in table.parent.iterdir()] == ["cases.csv"]


def test_a_missing_implant_scores_worst():
    metrics = {"border": BorderDice(), "hd95": SurfaceDistance95()}
    state = evaluate(FillHole(nothing=True), metrics=metrics).state.metrics
    assert state["implant_dice"] == state["border"] == 0
    diagonals = [np.linalg.norm(np.multiply(SHAPE, spacing)) for spacing in SPACINGS]
    assert state["hd95"] == pytest.approx(np.mean(diagonals), rel=1e-6)


def test_a_second_run_starts_afresh_and_replaces_the_file(tmp_path):
    handler = CaseCsvHandler(tmp_path / "cases.csv", metrics=["implant_dice"])
    evaluator = evaluate(FillHole(), metrics=None, handlers=[handler])
    first = (tmp_path / "cases.csv").read_text()
    evaluator.run()
    assert (tmp_path / "cases.csv").read_text() == first
    assert len(first.splitlines()) == 3


def test_two_implants_need_no_skull():
    transform = from_engine(["pred", "label"])
    metric = SurfaceDistance95(transform)
    state = evaluate(FillHole(), metrics={"hd95": metric}).state.metrics
    # Whole plates: the strip that is missing is inside 95 % of the surface or not, as hd95 itself says.
    want = [
        hd95(FillHole()(item["image"][None])[0], item["label"], spacing=spacing)
        for item, spacing in zip(cases(), SPACINGS, strict=True)
    ]
    assert state["hd95"] == pytest.approx(np.mean(want), rel=1e-6)


def test_what_is_missing_is_named(tmp_path):
    mask = torch.ones(1, 1, 3, 3, 3)
    with pytest.raises(InputError, match="BorderDice needs the defective skull"):
        BorderDice().update((mask, mask))
    with pytest.raises(InputError, match="gives 4 items"):
        ImplantDice().update((mask,) * 4)
    with pytest.raises(InputError, match="spacing is not known"):
        SurfaceDistance95().update((mask, mask))
    with pytest.raises(InputError, match=r"\[1, 1, 2\] cases"):
        ImplantDice().update((mask, mask, torch.ones(2, 1, 3, 3, 3)))
    with pytest.raises(InputError, match="one channel of one case"):
        ImplantDice().update((torch.ones(1, 2, 3, 3, 3),) * 2)
    with pytest.raises(InputError, match=r"no details of the metrics \['other'\]"):
        evaluate(FillHole(), metrics=None, handlers=[CaseCsvHandler(tmp_path / "a.csv", metrics=["other"])])
    assert list(tmp_path.iterdir()) == []


def test_spacing_may_be_given_and_no_case_has_no_mean():
    mask, other = torch.zeros(1, 1, 5, 3, 3), torch.zeros(1, 1, 5, 3, 3)
    mask[0, 0, 1], other[0, 0, 3] = 1, 1
    metric = CaseMetric(lambda a, b, c, mm: hd95(a, b, spacing=mm), spacing=(2.5, 1, 1))
    assert torch.isnan(metric.aggregate())
    assert metric(mask, other).tolist() == [[5.0]]
    assert metric([mask[0], mask[0]], [mask[0], other[0]]).tolist() == [[0.0], [5.0]]
    assert metric.aggregate().item() == pytest.approx(10 / 3)


def test_cases_of_one_name_are_told_apart(tmp_path):
    handler = CaseCsvHandler(
        tmp_path / "c.csv", names=lambda output: ["/a/x.nii"] if not handler._files else [""]
    )
    evaluate(FillHole(), metrics=None, handlers=[handler])
    assert [row[0] for row in csv.reader((tmp_path / "c.csv").open())] == ["case", "x", "case_001"]
    handler.names = lambda output: ["/a/x.nii"] if not handler._files else ["/b/x.nii"]
    evaluate(FillHole(), metrics=None, handlers=[handler])
    assert [row[0] for row in csv.reader((tmp_path / "c.csv").open())][1:] == ["/a/x.nii", "/b/x.nii"]


def test_a_case_dealt_to_two_ranks_has_one_row(tmp_path, monkeypatch):
    class Engine:
        class state:
            metric_details = {"dice": torch.tensor([[0.5], [0.25], [0.5]])}

    handler = CaseCsvHandler(tmp_path / "c.csv")
    handler._files = ["/a/x.nii", "/a/y.nii"]
    monkeypatch.setattr("ignite.distributed.get_world_size", lambda: 2)
    gather = "monai_sparse_refine.metrics.case_csv.string_list_all_gather"
    monkeypatch.setattr(gather, lambda files: [*files, "/a/x.nii"])
    handler(Engine())
    assert list(csv.reader((tmp_path / "c.csv").open())) == [["case", "dice"], ["x", "0.5"], ["y", "0.25"]]
    handler._files = ["/a/x.nii", "/a/x.nii"]  # two holes of one skull, the first dealt twice
    handler(Engine())
    assert list(csv.reader((tmp_path / "c.csv").open())) == [["case", "dice"], ["x", "0.5"], ["x", "0.25"]]
