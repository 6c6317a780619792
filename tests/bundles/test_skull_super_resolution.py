"""The skull super-resolution bundle end to end, on small generated skulls."""

import csv
import sys
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigWorkflow
from monai.data import MetaTensor

from monai_sparse_refine.data import skull_phantom
from monai_sparse_refine.metrics import dice
from monai_sparse_refine.report import super_resolution_scores
from monai_sparse_refine.transforms import CoarsenMask

BUNDLE = Path(__file__).resolve().parents[2] / "bundles" / "skull_super_resolution"


def _workflow(*configs: str, kind: str = "infer", **overrides: object) -> ConfigWorkflow:
    files = [str(BUNDLE / "configs" / name) for name in configs]
    return ConfigWorkflow(
        config_file=files if len(files) > 1 else files[0],
        workflow_type=kind,
        meta_file=str(BUNDLE / "configs" / "metadata.json"),
        logging_file=str(BUNDLE / "configs" / "logging.conf"),
        bundle_root=str(BUNDLE),
        engine="native",
        **{name: str(value) if isinstance(value, Path) else value for name, value in overrides.items()},
    )


def _run(*configs: str, kind: str = "infer", **overrides: object) -> None:
    workflow = _workflow(*configs, kind=kind, **overrides)
    workflow.initialize()
    workflow.run()


@pytest.fixture(scope="module")
def command(run_bundle) -> Callable[..., str]:
    """Function that runs a bundle to a good end and gives what it printed."""

    def run(*configs: str, bundle: str = BUNDLE.name, **overrides: object) -> str:
        process = run_bundle(bundle, *configs, engine="native", **overrides)
        assert process.returncode == 0, process.stdout + process.stderr
        return process.stdout

    return run


def _save(path: Path, mask: MetaTensor) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(mask[0].numpy().astype(np.uint8), mask.affine.numpy()), path)
    return path


@pytest.fixture(scope="module")
def skulls(tmp_path_factory) -> Path:
    """Two fine phantoms of 2.5 mm, one with an oblique and flipped affine, of even shapes."""
    folder = tmp_path_factory.mktemp("fine")
    for seed in (3, 4):
        skull = skull_phantom(seed, spacing=2.5)
        even = [n - n % 4 for n in skull.shape[1:]]
        affine = skull.affine.numpy().copy()
        values = skull.as_tensor()[:, : even[0], : even[1], : even[2]]
        if seed == 4:
            values = values.flip(1)
            affine = affine @ np.diag([-1.0, 1.0, 1.0, 1.0])
            affine[:3] = np.array([[0.96, -0.28, 0], [0.28, 0.96, 0], [0, 0, 1]]) @ affine[:3]
        _save(folder / f"skull{seed}.nii.gz", MetaTensor(values.clone(), affine=torch.from_numpy(affine)))
    return folder


@pytest.fixture(scope="module")
def coarse(skulls, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("coarse")
    for path in skulls.iterdir():
        _save(folder / path.name, CoarsenMask(2)(_load(path)))
    return folder


@pytest.fixture(scope="module")
def refined(command, coarse, skulls, tmp_path_factory) -> tuple[Path, str]:
    output = tmp_path_factory.mktemp("output")
    text = command("inference.json", dataset_dir=coarse, truth_dir=skulls, output_dir=output)
    return output, text


def _load(path: Path) -> MetaTensor:
    image = nib.load(path)
    return MetaTensor(
        torch.from_numpy(np.asarray(image.dataobj)[None].copy()), affine=torch.from_numpy(image.affine)
    )


def test_the_fine_grid_is_right(refined, skulls):
    output, _ = refined
    for path in skulls.iterdir():
        truth, fine = nib.load(path), nib.load(output / path.name.replace(".nii.gz", "_fine.nii.gz"))
        assert fine.shape == truth.shape and fine.get_data_dtype() == np.uint8
        np.testing.assert_allclose(fine.affine, truth.affine, atol=1e-4)


def test_it_beats_linear_interpolation(refined, skulls, coarse):
    output, _ = refined
    for path in skulls.iterdir():
        truth = _load(path).as_tensor()
        linear = torch.nn.functional.interpolate(
            _load(coarse / path.name).as_tensor()[None].float(), size=truth.shape[1:], mode="trilinear"
        )
        fine = _load(output / path.name.replace(".nii.gz", "_fine.nii.gz")).as_tensor()
        assert dice(fine, truth) > dice(linear[0] >= 0.5, truth) + 0.01


def test_pictures_table_and_text_name_everything(refined, skulls):
    output, text = refined
    assert "[1/2] super-resolving" in text and "[2/2] super-resolving" in text and "surface Dice" in text
    with (output / "cases.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["case"] for row in rows] == sorted(
        path.name.removesuffix(".nii.gz") for path in skulls.iterdir()
    )
    for row in rows:
        for file in (row["file"], row["figure"]):
            assert Path(file).stat().st_size > 500 and file in text
        truth = _load(skulls / f"{row['case']}.nii.gz")
        scores = super_resolution_scores(_load(Path(row["file"])), truth)
        assert {name: float(row[name]) for name in scores} == pytest.approx(scores, rel=1e-4)
    assert not [path for path in output.rglob("*") if path.name.startswith(".")]


def test_any_spacing_and_shape(coarse, tmp_path):
    _run(
        "inference.json",
        dataset_dir=coarse / "skull3.nii.gz",
        output_dir=tmp_path / "a",
        spacing=3.0,
        figure=False,
    )
    source, fine = nib.load(coarse / "skull3.nii.gz"), nib.load(tmp_path / "a" / "skull3_fine.nii.gz")
    np.testing.assert_allclose(fine.header.get_zooms(), 3.0, atol=0.03)
    box = [np.multiply(image.shape, image.header.get_zooms()) for image in (source, fine)]
    np.testing.assert_allclose(*box, rtol=1e-5)
    _run(
        "inference.json",
        dataset_dir=coarse / "skull3.nii.gz",
        output_dir=tmp_path / "b",
        target_shape=[50, 60, 70],
        figure=False,
    )
    assert nib.load(tmp_path / "b" / "skull3_fine.nii.gz").shape == (50, 60, 70)


def test_bad_input_gets_one_clear_line_and_leaves_nothing(coarse, tmp_path):
    good = coarse / "skull3.nii.gz"
    labels = _save(tmp_path / "labels.nii.gz", _load(good) * 3)
    empty = _save(tmp_path / "empty.nii.gz", _load(good) * 0)
    corrupt = tmp_path / "corrupt.pt"
    corrupt.write_bytes(b"not weights")
    for options, words in (
        ({"dataset_dir": tmp_path / "no.nii.gz"}, "no such file"),
        ({"dataset_dir": labels}, "0 and 1"),
        ({"dataset_dir": empty}, "empty"),
        ({"weights": corrupt}, "weights"),
        ({"weights": BUNDLE.parent / "skull_completion" / "models" / "model.pt"}, "do not fit"),
        ({"factor": 0}, "factor is 0"),
        ({"spacing": -1.0}, "spacing is -1"),
        ({"spacing": 1.0, "factor": 2}, "give one of"),
        ({"truth_dir": tmp_path / "nowhere"}, "no such file or folder"),
    ):
        output = tmp_path / "output"
        with pytest.raises(SystemExit, match=f"error: .*{words}"):
            _run("inference.json", **{"dataset_dir": good, "output_dir": output, **options})
        assert not output.exists() or not list(output.iterdir())


def test_a_truth_on_another_grid_gets_one_clear_line(coarse, tmp_path):
    with pytest.raises(SystemExit, match="error: truth of skull3: shapes differ"):
        _run(
            "inference.json",
            dataset_dir=coarse / "skull3.nii.gz",
            truth_dir=coarse / "skull3.nii.gz",
            output_dir=tmp_path,
        )


@pytest.fixture(scope="module")
def training_data(skulls, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("training_data")
    for part in ("training", "validation"):
        for path in skulls.iterdir():
            _save(folder / part / path.name, _load(path))
    return folder


TINY = {"crop_size": 32, "channels": [4, 6], "step_channels": [4, 4, 4], "epoch_length": 2, "val_interval": 1}


@pytest.fixture(scope="module")
def trained(training_data, tmp_path_factory) -> Path:
    work = tmp_path_factory.mktemp("work")
    for epochs in (1, 2):
        _run("train.json", kind="train", dataset_dir=training_data, work_dir=work, max_epochs=epochs, **TINY)
    return work


def test_training_resumes_and_leaves_weights_that_run(trained, coarse, tmp_path):
    state = torch.load(trained / "checkpoints" / "checkpoint_epoch=2.pt", weights_only=True)
    steps = {int(entry["step"]) for entry in state["optimizer"]["state"].values()}
    assert max(steps) == 4 and min(steps) >= 1  # heads that a batch does not reach make no step
    assert list((trained / "logs").glob("events.out.tfevents.*"))
    _run(
        "inference.json",
        dataset_dir=coarse / "skull3.nii.gz",
        output_dir=tmp_path,
        weights=trained / "checkpoints" / "best.pt",
        figure=False,
        **{"network_def#channels": TINY["channels"], "network_def#step_channels": TINY["step_channels"]},
    )
    assert (tmp_path / "skull3_fine.nii.gz").is_file()


@pytest.mark.slow
def test_two_processes_train_together(command, training_data, tmp_path):
    launcher = (
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node=2",
    )
    options = {name: str(value) for name, value in TINY.items()}
    command(
        "train.json",
        "multi_gpu_train.json",
        launcher=launcher,
        dataset_dir=training_data,
        work_dir=tmp_path,
        max_epochs=1,
        **options,
    )
    best = torch.load(tmp_path / "checkpoints" / "best.pt", weights_only=True)
    assert not any(name.startswith("module.") for name in best["model"])


def test_evaluation_coarsens_and_scores(skulls, tmp_path, capsys):
    _run("inference.json", "evaluate.json", dataset_dir=skulls, output_dir=tmp_path, figure=False, factor=4)
    assert "mean over 2 cases" in capsys.readouterr().out
    with (tmp_path / "cases.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 2 and all(float(row["dice"]) > 0.3 for row in rows)


@pytest.mark.slow
def test_a_coarse_skull_with_a_hole_is_completed_and_then_refined(command, coarse, tmp_path):
    whole = _load(coarse / "skull3.nii.gz")
    holed = MetaTensor(whole.as_tensor().clone(), affine=whole.affine)
    holed[:, : holed.shape[1] // 3, :, holed.shape[3] * 2 // 3 :] = 0
    source = _save(tmp_path / "head.nii.gz", holed)
    completed, fine = tmp_path / "completed", tmp_path / "fine"
    options = {"figure": False, "mesh": False}
    command("inference.json", bundle="skull_completion", dataset_dir=source, output_dir=completed, **options)
    command(
        "inference.json",
        dataset_dir=completed / "head_completed.nii.gz",
        output_dir=fine,
        figure=False,
        factor=2,
    )
    result = nib.load(fine / "head_completed_fine.nii.gz")
    assert result.shape == tuple(2 * n for n in holed.shape[1:])


def test_workflows_have_every_property(coarse, training_data, tmp_path):
    infer = _workflow("inference.json", dataset_dir=coarse, output_dir=tmp_path / "out")
    train = _workflow(
        "train.json", kind="train", dataset_dir=training_data, work_dir=tmp_path / "work", **TINY
    )
    for workflow in (infer, train):
        workflow.initialize()
        assert workflow.check_properties() == []
