"""The skull completion bundle end to end, as a user runs it, on small generated skulls."""

import csv
import json
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
import trimesh
from monai.bundle import ConfigWorkflow
from monai.data import MetaTensor

from benchmarks.skull_robustness import Head, held
from monai_sparse_refine.data import skull_phantom
from monai_sparse_refine.transforms import RandCranialDefect

BUNDLE = Path(__file__).resolve().parents[2] / "bundles" / "skull_completion"


@pytest.fixture(scope="module")
def bundle(run_bundle) -> Callable[..., subprocess.CompletedProcess]:
    """Function that runs the bundle's configuration files with overrides."""
    return partial(run_bundle, "skull_completion")


@pytest.fixture(scope="module")
def skulls(tmp_path_factory) -> Path:
    """Two complete phantoms of 4 mm, one with an oblique and flipped affine."""
    folder = tmp_path_factory.mktemp("skulls")
    for seed, turn in ((3, 0.0), (4, 0.2)):
        skull = skull_phantom(seed, spacing=(4.0, 4.0, 5.0))
        affine = skull.affine.numpy().copy()
        rotation = np.eye(4)
        rotation[:2, :2] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
        data = skull[0].numpy()
        if turn:
            data = data[::-1]
            affine = affine @ np.diag([-1.0, 1.0, 1.0, 1.0])
            affine[0, 3] = -affine[0, 3]
        nib.save(nib.Nifti1Image(data, rotation @ affine), folder / f"skull{seed}.nii.gz")
    return folder


@pytest.fixture(scope="module")
def defective(skulls, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("defective")
    for index, path in enumerate(sorted(skulls.iterdir())):
        image = nib.load(path)
        skull = torch.from_numpy(np.asarray(image.dataobj)[None].copy())
        cut = RandCranialDefect(kinds=("parietotemporal",)).set_random_state(index)
        holed = cut(MetaTensor(skull, affine=image.affine))
        nib.save(nib.Nifti1Image(holed[0].numpy(), image.affine), folder / path.name)
    return folder


@pytest.fixture(scope="module")
def completed(bundle, defective, skulls, tmp_path_factory) -> tuple[Path, str]:
    output = tmp_path_factory.mktemp("output")
    result = bundle(
        "inference.json", dataset_dir=defective, truth_dir=skulls, output_dir=output, engine="native"
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return output, result.stdout


def test_output_geometry_equals_input_geometry(completed, defective):
    output, _ = completed
    for path in defective.iterdir():
        name = path.name.removesuffix(".nii.gz")
        source = nib.load(path)
        bone = np.asarray(source.dataobj)
        for kind in ("completed", "implant"):
            image = nib.load(output / f"{name}_{kind}.nii.gz")
            assert image.shape == source.shape
            assert image.get_data_dtype() == np.uint8
            np.testing.assert_array_equal(image.affine, source.affine)
        whole = np.asarray(nib.load(output / f"{name}_completed.nii.gz").dataobj)
        implant = np.asarray(nib.load(output / f"{name}_implant.nii.gz").dataobj)
        assert (whole[bone > 0] == 1).all()  # every input voxel is kept
        np.testing.assert_array_equal(implant, whole - bone)
        assert implant.any()


def test_mesh_picture_and_table_are_left_and_named(completed, defective):
    output, text = completed
    with (output / "cases.csv").open() as stream:
        rows = {row["case"]: row for row in csv.DictReader(stream)}
    assert len(rows) == 2
    for path in defective.iterdir():
        name = path.name.removesuffix(".nii.gz")
        for file in (
            f"{name}_completed.nii.gz",
            f"{name}_implant.nii.gz",
            f"{name}_implant.stl",
            f"{name}.png",
        ):
            assert (output / file).stat().st_size > 500
            assert str(output / file) in text
        implant = nib.load(output / f"{name}_implant.nii.gz")
        ml = np.count_nonzero(implant.dataobj) * np.prod(implant.header.get_zooms()) / 1000
        assert trimesh.load(output / f"{name}_implant.stl").volume / 1000 == pytest.approx(ml, rel=0.02)
        assert float(rows[name]["implant_ml"]) == pytest.approx(ml, rel=1e-4)
    assert not [path for path in output.rglob("*") if path.name.startswith(".")]


def test_progress_and_numbers_are_printed(completed):
    _, text = completed
    assert "[1/2] completing" in text and "[2/2] completing" in text
    assert "ml" in text and "Dice" in text


def test_the_implant_fills_the_hole(completed, defective, skulls):
    output, _ = completed
    overlaps = []
    for path in defective.iterdir():
        bone, whole = (np.asarray(nib.load(folder / path.name).dataobj) > 0 for folder in (defective, skulls))
        name = path.name.removesuffix(".nii.gz")
        implant = np.asarray(nib.load(output / f"{name}_implant.nii.gz").dataobj) > 0
        truth = whole & ~bone
        overlaps.append(2 * (implant & truth).sum() / (implant.sum() + truth.sum()))
    assert np.mean(overlaps) > 0.5, overlaps  # coarse voxels; the accuracy table has the real figures


def test_a_head_holder_stays_and_changes_no_implant(bundle, defective, tmp_path):
    image = nib.load(defective / "skull3.nii.gz")
    bone = np.pad(np.asarray(image.dataobj) > 0, ((0, 0), (8, 0), (0, 0)))
    affine = image.affine.copy()
    affine[:3, 3] -= 8 * affine[:3, 1]
    nothing = np.zeros_like(bone)
    holder = held(Head(bone, bone, nothing, np.array(image.header.get_zooms()))).defective
    holder = holder[:, -bone.shape[1] :] & ~bone
    assert holder.sum() > 100
    (tmp_path / "in").mkdir()
    for name, mask in (("alone", bone), ("held", bone | holder)):
        _save(tmp_path / "in" / f"{name}.nii.gz", mask.astype(np.uint8), affine)
    options = {"mesh": False, "figure": False, "engine": "native"}
    result = bundle("inference.json", dataset_dir=tmp_path / "in", output_dir=tmp_path / "out", **options)
    assert result.returncode == 0, result.stdout + result.stderr
    alone, beside = (
        np.asarray(nib.load(tmp_path / "out" / f"{name}_implant.nii.gz").dataobj) > 0
        for name in ("alone", "held")
    )
    assert 2 * (alone & beside).sum() / (alone.sum() + beside.sum()) > 0.97
    whole = np.asarray(nib.load(tmp_path / "out" / "held_completed.nii.gz").dataobj) > 0
    np.testing.assert_array_equal(whole, bone | holder | beside)
    assert not (beside & (bone | holder)).any()


def test_a_real_skull_keeps_its_grid_and_every_voxel(bundle, shared_data, tmp_path):
    image = nib.load(shared_data / "skull_masks" / "invesalius_cranium_skull.nii.gz")
    skull = MetaTensor(
        torch.from_numpy(np.asarray(image.dataobj)[None].astype(np.uint8)), affine=image.affine
    )
    holed = RandCranialDefect(kinds=("parietotemporal",)).set_random_state(1)(skull)
    source = _save(tmp_path / "cranium.nii.gz", holed[0].numpy(), image.affine)
    result = bundle("inference.json", dataset_dir=source, output_dir=tmp_path / "out", engine="native")
    assert result.returncode == 0, result.stdout + result.stderr
    completed = nib.load(tmp_path / "out" / "cranium_completed.nii.gz")
    np.testing.assert_array_equal(completed.affine, image.affine)
    whole, bone = np.asarray(completed.dataobj) > 0, holed[0].numpy() > 0
    assert whole[bone].all()
    truth = (skull[0].numpy() > 0) & ~bone
    implant = whole & ~bone
    assert 2 * (implant & truth).sum() / (implant.sum() + truth.sum()) > 0.6


def _save(path: Path, data: np.ndarray, affine: np.ndarray | None = None) -> Path:
    nib.save(nib.Nifti1Image(data, np.eye(4) if affine is None else affine), path)
    return path


def _bad_inputs(folder: Path) -> dict[str, tuple[Path, str]]:
    ball = np.zeros((8, 8, 8), np.uint8)
    ball[2:6, 2:6, 2:6] = 1
    nan = ball.astype(np.float32)
    nan[0, 0, 0] = np.nan
    broken = folder / "broken.nii.gz"
    broken.write_bytes(_save(folder / "whole.nii.gz", np.random.rand(9, 9, 9)).read_bytes()[:600])
    return {
        "missing": (folder / "no.nii.gz", "no such file"),
        "unreadable": (broken, "broken.nii.gz"),
        "not 3D": (_save(folder / "flat.nii.gz", ball[0]), "3D"),
        "empty": (_save(folder / "empty.nii.gz", ball * 0), "empty"),
        "soft CT": (_save(folder / "soft.nii.gz", ball.astype(np.int16) * 90 - 1000), "hu_threshold"),
        "labels": (_save(folder / "labels.nii.gz", ball * 3), "0 and 1"),
        "NaN": (_save(folder / "nan.nii.gz", nan), "NaN"),
    }


def test_bad_input_gets_one_clear_line_and_leaves_nothing(bundle, tmp_path):
    for name, (path, message) in _bad_inputs(tmp_path).items():
        output = tmp_path / "output" / name.replace(" ", "_")
        result = bundle("inference.json", dataset_dir=path, output_dir=output, engine="native")
        assert result.returncode == 1, name
        lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1 and message in lines[0], (name, result.stderr)
        assert "Traceback" not in result.stderr, name
        assert not output.exists() or not list(output.iterdir())


def test_wrong_and_corrupt_weights_get_one_clear_line(bundle, tmp_path, defective):
    corrupt = tmp_path / "corrupt.pt"
    corrupt.write_bytes(b"not weights")
    other = tmp_path / "other.pt"
    torch.save({"stem.0.kernel": torch.zeros(27, 1, 8)}, other)
    for weights in (tmp_path / "no.pt", corrupt, other):
        result = bundle(
            "inference.json",
            dataset_dir=defective,
            output_dir=tmp_path / "out",
            weights=weights,
            engine="native",
        )
        assert result.returncode == 1
        assert f"error: weights {weights}" in result.stderr and "Traceback" not in result.stderr


def test_an_unwritable_output_folder_gets_one_clear_line(bundle, tmp_path, defective):
    taken = tmp_path / "file"
    taken.write_text("not a folder")
    result = bundle("inference.json", dataset_dir=defective, output_dir=taken / "out", engine="native")
    assert result.returncode == 1
    assert "error: " in result.stderr and "Traceback" not in result.stderr


@pytest.fixture(scope="module")
def trained(bundle, skulls, tmp_path_factory) -> Path:
    """Two one-epoch training runs in one folder: the second resumes after the first."""
    work = tmp_path_factory.mktemp("work")
    options = {
        "dataset_dir": skulls,
        "work_dir": work,
        "phantoms": 0,
        "validation_phantoms": 1,
        "validation_kinds": "['random']",
        "phantom_spacing": 6.0,
        "working_spacing": 6.0,
        "channels": "[4, 4, 6, 6, 8]",
        "val_interval": 1,
        "num_workers": 0,
        "engine": "native",
    }
    first = bundle("train.json", **options, max_epochs=1)
    assert first.returncode == 0, first.stdout + first.stderr
    second = bundle("train.json", **options, max_epochs=2)
    assert second.returncode == 0, second.stdout + second.stderr
    assert "resuming after epoch 1 of 2" in second.stdout
    return work


def test_training_leaves_checkpoints_and_tensorboard(trained):
    assert (trained / "checkpoints" / "checkpoint_epoch=2.pt").is_file()
    best = torch.load(trained / "checkpoints" / "best.pt", weights_only=True)
    assert set(best) == {"model", "metric", "epoch"}
    assert list((trained / "logs").glob("events.out.tfevents.*"))


def test_trained_weights_run_in_the_inference_configuration(bundle, trained, defective, tmp_path):
    result = bundle(
        "inference.json",
        dataset_dir=defective / "skull3.nii.gz",
        output_dir=tmp_path,
        weights=trained / "checkpoints" / "best.pt",
        working_spacing=6.0,
        engine="native",
        **{"network_def#channels": "[4, 4, 6, 6, 8]"},
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert (tmp_path / "skull3_completed.nii.gz").is_file()


def test_evaluation_scores_every_skull_and_kind(bundle, skulls, tmp_path):
    result = bundle(
        "inference.json",
        "evaluate.json",
        dataset_dir=skulls,
        output_dir=tmp_path,
        kinds="['parietotemporal', 'random']",
        engine="native",
    )
    assert result.returncode == 0, result.stdout + result.stderr
    table = (tmp_path / "cases.csv").read_text().splitlines()
    assert len(table) == 1 + 2 * 2
    assert "completing skull3_parietotemporal" in result.stdout
    assert "mean over 4 cases" in result.stdout and "implant_dice" in result.stdout


def test_workflows_have_every_property(skulls, defective, tmp_path):
    options = {
        "meta_file": str(BUNDLE / "configs" / "metadata.json"),
        "logging_file": str(BUNDLE / "configs" / "logging.conf"),
        "bundle_root": str(BUNDLE),
        "engine": "native",
    }
    infer = ConfigWorkflow(
        config_file=str(BUNDLE / "configs" / "inference.json"),
        workflow_type="infer",
        dataset_dir=str(defective),
        output_dir=str(tmp_path / "out"),
        **options,
    )
    train = ConfigWorkflow(
        config_file=str(BUNDLE / "configs" / "train.json"),
        workflow_type="train",
        dataset_dir=str(skulls),
        work_dir=str(tmp_path / "work"),
        phantoms=0,
        validation_phantoms=1,
        validation_kinds=["random"],
        phantom_spacing=6.0,
        working_spacing=6.0,
        **options,
    )
    for workflow in (infer, train):
        workflow.initialize()
        assert workflow.check_properties() == []


def test_split_file_has_disjoint_parts():
    split = json.loads((BUNDLE / "docs" / "split.json").read_text())
    parts = [set(names) for names in split.values()]
    assert set(split) == {"training", "validation", "test"}
    assert sum(len(part) for part in parts) == len(set.union(*parts))
