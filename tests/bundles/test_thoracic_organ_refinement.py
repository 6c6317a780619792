"""The thoracic bundle end to end, as a user runs it: from CTs, and from masks of other networks."""

import json
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigWorkflow
from monai.data import MetaTensor

from benchmarks.thoracic_methods import unet_settings
from monai_sparse_refine.data import read_split, render_thorax_ct
from monai_sparse_refine.metrics import dice
from monai_sparse_refine.transforms import (
    LABEL_PRESETS,
    RandMaskCorruption,
    SparseRefined,
    list_bundles,
    load_recipe,
)

BUNDLE = Path(__file__).resolve().parents[2] / "bundles" / "thoracic_organ_refinement"
SEGTHOR = LABEL_PRESETS["segthor"]
WIDE = {"max_volume_change": 1.0, "min_dice": 0.3}  # of the gate: toy organs are not what the networks know


@pytest.fixture(scope="module")
def bundle(run_bundle) -> Callable[..., subprocess.CompletedProcess]:
    """Function that runs the bundle's configuration files with overrides."""
    return partial(run_bundle, "thoracic_organ_refinement")


def organs() -> MetaTensor:
    """Organs of simple shapes, 2 x 2 x 4 mm, LPS."""
    x, y, z = np.ogrid[:70, :70, :50]
    x, y = 69 - x, 69 - y
    labels = np.zeros((70, 70, 50), np.uint8)
    labels[((x - 26) ** 2 + (y - 44) ** 2) / 500 + ((z - 15) / 10) ** 2 < 1] = 2
    labels[(x - 36) ** 2 + (y - 16) ** 2 + 0 * z < 30] = 1
    labels[((x - 26) ** 2 + (y - 17) ** 2 < 45) & (z < 34)] = 4
    labels[((x - 36) ** 2 + (y - 26) ** 2 < 26) & (z >= 28)] = 3
    return MetaTensor(torch.from_numpy(labels[None]), affine=np.diag([-2.0, -2, 4, 1]))


def _save(path: Path, volume: np.ndarray, affine: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(volume, affine), path)
    return path


@pytest.fixture(scope="module")
def rendered() -> tuple[MetaTensor, MetaTensor]:
    return render_thorax_ct(organs(), seed=5)


@pytest.fixture(scope="module")
def results(bundle, rendered, tmp_path_factory) -> tuple[Path, Path, str]:
    folder = tmp_path_factory.mktemp("thorax")
    ct, labels = rendered
    _save(folder / "in" / "scan.nii.gz", ct[0].numpy(), ct.affine.numpy())
    _save(folder / "truth" / "scan.nii.gz", labels[0].numpy(), labels.affine.numpy())
    result = bundle(
        "inference.json",
        dataset_dir=folder / "in",
        truth_dir=folder / "truth",
        output_dir=folder / "out",
        engine="native",
        **{f"gate#{name}": bound for name, bound in WIDE.items()},
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return folder, folder / "out", result.stdout


def test_organs_lie_on_the_grid_of_the_ct(results):
    folder, output, _ = results
    source = nib.load(folder / "in" / "scan.nii.gz")
    for name in ("organs", "dense"):
        image = nib.load(output / f"scan_{name}.nii.gz")
        assert image.shape == source.shape and image.get_data_dtype() == np.uint8
        np.testing.assert_array_equal(image.affine, source.affine)
        assert set(np.unique(np.asarray(image.dataobj))) <= {0, 1, 2, 3, 4}


def test_every_organ_is_reported_and_tabled(results):
    _, output, text = results
    for organ in SEGTHOR:
        assert f"    {organ}: " in text
    table = (output / "organs.csv").read_text().splitlines()
    assert len(table) == 5 and "dice_after" in table[0]


def test_the_organs_are_found_and_refinement_helps(results):
    folder, output, _ = results
    truth = np.asarray(nib.load(folder / "truth" / "scan.nii.gz").dataobj)
    before, after = (np.asarray(nib.load(output / f"scan_{n}.nii.gz").dataobj) for n in ("dense", "organs"))
    gains = [dice(after == i, truth == i) - dice(before == i, truth == i) for (i,) in SEGTHOR.values()]
    assert dice(after > 0, truth > 0) > 0.6
    assert np.mean(gains) > 0.05 and min(gains) > -0.05, gains


@pytest.mark.parametrize("preset", ["segthor", "wholebody_ct_segmentation", "totalsegmentator", "vista3d"])
def test_masks_of_other_networks_are_refined_without_the_unet(preset, rendered):
    ct, labels = rendered
    ids = {organ: LABEL_PRESETS[preset][organ] for organ in SEGTHOR}
    source = torch.zeros_like(labels.as_tensor())
    for organ, (number,) in SEGTHOR.items():
        fault = RandMaskCorruption(kinds=["holes", "steps"], count=(2, 2)).set_random_state(number)
        mask = fault(MetaTensor((labels == number).to(torch.uint8), affine=labels.affine))
        source[mask.as_tensor() > 0] = ids[organ][-1]
    source[0, 0, :, 0] = 99  # another structure
    data = {"pred": MetaTensor(source, affine=labels.affine), "ct": ct}
    truth = np.asarray(labels)
    before = {organ: dice(np.isin(source, ids[organ]), truth == n) for organ, (n,) in SEGTHOR.items()}
    for image_key, mean_gain, worst in ((None, 0.005, -0.02), ("ct", 0.05, -0.01)):
        refine = SparseRefined(
            "pred",
            bundle="thoracic_organ_refinement",
            label_preset=preset,
            labels=list(SEGTHOR),
            image_key=image_key,
            report_key="report",
            gate=WIDE,
            device="cpu",
        )
        out = refine(data)
        pred = out["pred"]
        assert pred.shape == source.shape and pred.dtype == torch.uint8
        assert torch.equal(pred == 99, data["pred"] == 99)
        assert [row["label"] for row in out["report"]] == list(SEGTHOR)
        assert all(row["refined"] for row in out["report"]), out["report"]
        after = {organ: dice(np.isin(pred, ids[organ]), truth == n) for organ, (n,) in SEGTHOR.items()}
        gains = {organ: after[organ] - before[organ] for organ in SEGTHOR}
        assert np.mean(list(gains.values())) > mean_gain and min(gains.values()) > worst, gains
        lost = (labels == 2) & (source == 0)
        filled = torch.isin(pred, torch.tensor(ids["heart"])) & lost
        assert filled.sum() > (0.2 if image_key is None else 0.5) * lost.sum()


def test_the_bundle_is_found_and_has_its_weights():
    assert "thoracic_organ_refinement" in list_bundles()
    recipe = load_recipe("thoracic_organ_refinement", device="cpu")
    assert set(recipe.labels) == set(SEGTHOR) and not recipe.network.training


def test_masks_of_other_networks_are_refined_once_and_their_necks_stay():
    """The settings of inference.json are for the faults of its own UNet."""
    foreign = load_recipe("thoracic_organ_refinement", device="cpu")
    own = load_recipe("thoracic_organ_refinement", device="cpu", overrides=unet_settings(BUNDLE))
    assert foreign.passes == 1 and foreign.prepare["heart"].neck_mm is None
    assert own.passes["aorta"] == [2, 0] and own.prepare["heart"].neck_mm == 20
    assert own.clean["heart"].neck_mm is None
    assert foreign.recut is None and set(own.recut) == set(SEGTHOR) and own.recut_blur_mm == 2.0
    states = [recipe.network.state_dict()["network.stem.0.kernel"] for recipe in (foreign, own)]
    assert not states[0][:, -1].any() and states[1][:, -1].any()  # who knows the organ's own intensity


def test_no_test_patient_is_trained_on():
    parts = {
        part: read_split(BUNDLE / "docs" / "split.json", part)
        for part in ("training", "validation", "test", "failure")
    }
    names = [name for part in parts.values() for name in part]
    assert len(names) == len(set(names)) == 20
    assert parts["failure"] == ["Patient_60_pred"]
    assert len(parts["test"]) == 5


def test_bad_input_gets_one_clear_line(bundle, tmp_path):
    mask = _save(tmp_path / "mask.nii.gz", (np.asarray(organs())[0] > 0).astype(np.uint8), np.eye(4))
    result = bundle("inference.json", dataset_dir=mask, output_dir=tmp_path / "out")
    assert result.returncode == 1
    lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and "is a binary mask" in lines[0], result.stderr
    assert "Traceback" not in result.stderr


@pytest.fixture(scope="module")
def masks(tmp_path_factory) -> tuple[Path, Path]:
    """Organ masks of two patients, and a split of them."""
    folder = tmp_path_factory.mktemp("masks")
    for name in ("a", "b"):
        _save(folder / "masks" / f"{name}.nii.gz", organs()[0].numpy(), organs().affine.numpy())
    split = folder / "split.json"
    split.write_text(json.dumps({"training": ["a"], "validation": ["b"], "test": ["b"]}))
    return folder / "masks", split


def test_both_trainings_run_and_leave_weights(bundle, masks, tmp_path):
    folder, split = masks
    options = {"masks_dir": folder, "split": split, "work_dir": tmp_path}
    options |= {"variants": 1, "max_epochs": 1, "val_interval": 1}
    options |= {"device": "cpu", "engine": "native"}
    result = bundle("train.json", **options, patch="[32, 24, 24]", batch_size=1, dense_spacing=6.0)
    assert result.returncode == 0, result.stdout + result.stderr
    assert (tmp_path / "unet" / "checkpoints" / "best.pt").is_file()
    result = bundle(
        "train_refiner.json",
        **options,
        patch="[24, 24, 16]",
        patches_per_case=2,
        validation_patches=1,
        first_seed=0,
        **{"network_def#channels": "[4, 6, 8, 8, 8]"},
    )
    assert result.returncode == 0, result.stdout + result.stderr
    state = torch.load(tmp_path / "refiner" / "checkpoints" / "best.pt", weights_only=True)["model"]
    assert all(isinstance(value, torch.Tensor) for value in state.values())


def test_evaluation_scores_before_and_after(bundle, masks, tmp_path):
    folder, split = masks
    result = bundle(
        "inference.json",
        "evaluate.json",
        masks_dir=folder,
        split=split,
        rendered_dir=tmp_path / "rendered",
        output_dir=tmp_path / "out",
        device="cpu",
        engine="native",
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "mean over 1 cases" in result.stdout and "dice_before" in result.stdout


def test_the_workflows_have_what_monai_asks_for(results, masks, tmp_path):
    folder, split = masks
    ct = results[0] / "in"
    tiny = {"masks_dir": str(folder), "split": str(split), "work_dir": str(tmp_path), "variants": 1}
    for config, kind, options in (
        ("inference.json", "infer", {"dataset_dir": str(ct), "output_dir": str(tmp_path / "out")}),
        ("train.json", "train", tiny),
        ("train_refiner.json", "train", {**tiny, "first_seed": 0, "validation_patches": 1}),
    ):
        workflow = ConfigWorkflow(
            config_file=str(BUNDLE / "configs" / config),
            meta_file=str(BUNDLE / "configs" / "metadata.json"),
            workflow_type=kind,
            bundle_root=str(BUNDLE),
            device="cpu",
            **options,
        )
        workflow.initialize()
        assert workflow.check_properties() == [], config


@pytest.fixture(scope="module")
def real_aorta(shared_data) -> MetaTensor:
    folder = shared_data / "thorax_totalseg"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    aorta = nib.load(folder / "aorta_report__test_result__models__aorta.nii.gz")
    return MetaTensor(
        torch.from_numpy((np.asarray(aorta.dataobj) > 0)[None].astype(np.uint8)), affine=aorta.affine
    )


@pytest.mark.parametrize("kind", ["steps", "missing_slices"])
def test_a_real_aorta_is_repaired_without_intensities(real_aorta, kind):
    truth = np.asarray(real_aorta)[0] > 0
    spoilt = RandMaskCorruption(kinds=[kind]).set_random_state(1)(real_aorta)
    refine = SparseRefined("m", bundle="thoracic_organ_refinement", labels={"aorta": 1}, device="cpu")
    out = np.asarray(refine({"m": spoilt})["m"])[0] > 0
    assert dice(out, truth) > dice(np.asarray(spoilt)[0] > 0, truth) + 0.003


def test_a_good_real_aorta_is_left_nearly_alone(real_aorta):
    refine = SparseRefined("m", bundle="thoracic_organ_refinement", labels={"aorta": 1}, device="cpu")
    out = np.asarray(refine({"m": real_aorta})["m"])[0] > 0
    assert dice(out, np.asarray(real_aorta)[0] > 0) > 0.99
