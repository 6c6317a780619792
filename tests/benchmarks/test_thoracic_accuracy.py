"""The thoracic table: what its rows, bars and cells say follows from the scores."""

import time
from functools import partial

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from benchmarks import thoracic_methods
from benchmarks.thoracic_accuracy import _coarse, _corrupted
from benchmarks.thoracic_methods import classical, dense_twin, measured
from benchmarks.thoracic_page import page
from benchmarks.thoracic_scores import mean_table, organ_scores, worst_loss
from monai_sparse_refine.metrics import assd, hd95, surface_dice
from monai_sparse_refine.networks import DenseTwin, MaskRefiner
from monai_sparse_refine.transforms import RefineRecipe

ORGANS = ("esophagus", "heart", "trachea", "aorta")


def labels() -> MetaTensor:
    volume = torch.zeros(1, 24, 20, 16, dtype=torch.uint8)
    for number in (1, 2, 3, 4):
        volume[0, 5 * number - 2 : 5 * number + 1, 4:14, 3:13] = number
    return MetaTensor(volume, affine=np.diag([1.0, 1, 2.5, 1]))


def rows(**dice: float) -> list[dict]:
    """One patient; the given Dice for each method, and HD95 to match."""
    return [
        {
            **{
                "part": "test",
                "case": "p",
                "method": method.replace("_", " "),
                "organ": organ,
                "dice": value,
            },
            **{"hd95_mm": 10 * (1 - value), "assd_mm": 1.0, "surface_dice": value, "components": 1},
            **{"volume_error_percent": -5.0, "seconds": 2.0, "peak_gb": 0.5},
        }
        for method, value in dice.items()
        for organ in ORGANS
    ]


NAMES = {
    "resampled, linear": 0.8,
    "largest component + holes": 0.82,
    "ours without intensities": 0.85,
    "ours": 0.9,
}


def named(**changes: float) -> list[dict]:
    out = rows(**{"dense_UNet,_working_grid": 0.7})
    for method, value in {**NAMES, "ours, masks alone": 0.81, **changes}.items():
        out += rows(**{method.replace(" ", "_"): value})
    return out


def test_scores_of_an_organ():
    truth, pred = labels(), labels()
    pred[0, :, :, 3] = 0
    scores = organ_scores(pred, truth, "heart")
    assert scores["dice"] == pytest.approx(2 * 9 / 19) and scores["components"] == 1
    assert (
        scores["volume_error_percent"] == pytest.approx(-10)
        and 0 < scores["assd_mm"] < scores["hd95_mm"] <= 2.5
    )
    masks = [np.asarray(volume)[0] == 2 for volume in (pred, truth)]
    within = partial(surface_dice, tolerance=2.0)
    for name, metric in (("hd95_mm", hd95), ("assd_mm", assd), ("surface_dice", within)):
        assert scores[name] == pytest.approx(metric(*masks, spacing=(1, 1, 2.5)))
    nothing = organ_scores(labels() * 0, labels(), "heart")
    assert nothing["dice"] == nothing["surface_dice"] == 0 and nothing["hd95_mm"] > 30


def test_a_dense_twin_never_sees_channels_that_came_after_its_training(tmp_path):
    sizes = {"channels": [2, 2, 2, 2, 2], "deepest_kernel": 2, "residual_channel": 1}
    recipe = RefineRecipe(MaskRefiner(in_channels=4, engine="native", **sizes))
    old = DenseTwin(in_channels=3, **sizes).eval()
    torch.save(old.state_dict(), tmp_path / "twin.pt")
    twin = dense_twin(recipe, tmp_path / "twin.pt", device="cpu")
    x = torch.rand(1, 4, 16, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(twin.network(x), old(x[:, :3]))


def test_the_best_native_row_is_bold_and_the_working_grid_never():
    table = {line[0]: line for line in mean_table(named(), "heart")}
    assert table["ours"][1] == "**0.9000**" and table["ours"][2] == "**1.00**"
    assert table["ours"][6] == "5.0"  # the size of a volume error
    assert "**" not in "".join(table["dense UNet, working grid"])


def test_bars_are_told_as_they_are():
    good = page(named(), [], command="x", twin=False)
    assert "Ours best in mean Dice for every organ: yes" in good
    assert "dense refiner of equal size" in good and "(--twin-weights)" in good
    bad = page(named(**{"ours": 0.79, "ours without intensities": 0.8}), [], command="x", twin=True)
    assert "Ours best in mean Dice for every organ: no: esophagus, heart, trachea, aorta." in bad
    assert "better than largest component + holes in mean Dice for every organ: no" in bad
    assert "ours: largest fall of Dice of any organ against its input (resampled, linear): 0.0100" in bad
    assert worst_loss(named(), "ours")[0] == pytest.approx(-0.1)
    assert "at most 0.01 wanted: no" not in good and "wanted: yes" in good
    worse = page(named(ours=0.78), [], command="x", twin=True)
    assert "input (resampled, linear): 0.0200 (p, trachea); at most 0.01 wanted: no." in worse


def test_time_and_memory_are_held_against_their_bars():
    def changed(seconds: float, peak: float) -> str:
        cost = {"seconds": seconds, "peak_gb": peak}
        return page(
            [{**r, **cost} if r["method"] == "ours" else r for r in named()], [], command="x", twin=True
        )

    assert "UNet's time: 15.0 %, yes; less than 1 GB: 0.50 GB, yes." in changed(0.3, 0.5)
    assert "UNet's time: 25.0 %, no; less than 1 GB: 1.50 GB, no." in changed(0.5, 1.5)


def test_good_masks_have_a_section_of_their_own():
    text = page(named() + rows(**{"true,_ours": 0.97}), [], command="x", twin=True)
    before, after = text.split("## Good masks")
    assert "true, ours" not in before and "0.9700" in after
    assert "## Good masks" not in page(named(), [], command="x", twin=True)


def test_classical_repair_keeps_the_largest_part_of_each_organ():
    holed = labels()
    holed[0, 9, 8, 8] = 0
    holed[0, 0, 0, 0] = 2
    assert torch.equal(classical(holed), labels())


def test_costs_are_the_highest_memory_above_the_start(monkeypatch):
    held, looks = [1_000_000_000], []

    def resident() -> int:
        looks.append(held[0])
        return held[0]

    def work() -> str:
        held[0] += 40_000_000
        seen = len(looks)
        while len(looks) < seen + 2:  # until the watcher has looked
            time.sleep(0.001)
        held[0] -= 39_000_000
        return "done"

    monkeypatch.setattr(thoracic_methods, "_resident", resident)
    result, cost = measured(work)
    assert result == "done" and cost.seconds > 0 and cost.peak_gb == pytest.approx(0.04)


def test_resident_memory_is_that_of_this_process():
    assert 10_000_000 < thoracic_methods._resident() < 100_000_000_000


def test_corrupted_masks_are_seeded_and_the_truth_goes_to_the_working_grid():
    first, again = _corrupted(labels()), _corrupted(labels())
    assert torch.equal(first, again) and not torch.equal(first, labels())
    grid = MetaTensor(torch.zeros(1, 12, 10, 8), affine=np.diag([2.0, 2, 5, 1]))
    assert torch.equal(_coarse(labels(), grid), labels()[:, ::2, ::2, ::2])
