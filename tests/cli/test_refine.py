from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import nrrd
import numpy as np
import pytest
import torch

from monai_sparse_refine.cli import main
from monai_sparse_refine.cli import refine as refine_command
from monai_sparse_refine.data import skull_phantom
from monai_sparse_refine.networks import MaskRefiner
from monai_sparse_refine.transforms import RandCranialDefect

NETWORK = {
    "_target_": "monai_sparse_refine.networks.MaskRefiner",
    "channels": [4, 4, 6],
    "head_bias": 3.0,
    "max_voxels": "@max_voxels",
    "engine": "native",
}


def make_bundle(folder: Path, *, refine: dict, in_channels: int = 1, **settings) -> Path:
    torch.manual_seed(0)
    network = {**NETWORK, "in_channels": in_channels}
    inference = {
        "weights": "$@bundle_root + '/models/model.pt'",
        "max_voxels": 100000,
        "network_def": network,
    }
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    (folder / "configs" / "inference.json").write_text(json.dumps({"device": "cpu", **inference, **settings}))
    recipe = {"_target_": "monai_sparse_refine.transforms.RefineRecipe", "network": "@network_def", **refine}
    (folder / "configs" / "refine.json").write_text(json.dumps({"refine": recipe}))
    weights = MaskRefiner(in_channels=in_channels, channels=[4, 4, 6], head_bias=3.0, engine="native")
    torch.save(weights.state_dict(), folder / "models" / "model.pt")
    return folder


@pytest.fixture(scope="module")
def bundles(tmp_path_factory) -> Path:
    """An untrained completion bundle, as the skull's, and one for organs."""
    folder = tmp_path_factory.mktemp("bundles")
    source = Path(__file__).resolve().parents[2] / "bundles" / "skull_completion" / "configs" / "refine.json"
    refine = json.loads(source.read_text())["refine"]
    settings = {"guess_spacing": 6.0, "working_spacing": 6.0, "fine_spacing": None, "other_spacings": [5.0]}
    settings |= {"threshold": 0.5, "rim_threshold": 0.4, "mirror_threshold": 0.3, "vault_threshold": 0.7}
    settings |= {"gap_threshold": 0.25, "gap_radius_mm": 3.0, "mirror_agreement": 0.85}
    settings |= {"extract": {"_target_": "monai_sparse_refine.transforms.ExtractImplant"}}
    make_bundle(folder / "skull_completion", refine=refine, in_channels=3, **settings)
    make_bundle(folder / "organs", refine={"labels": ["heart", "aorta"], "margin": 4})
    return folder


@pytest.fixture
def places(bundles, monkeypatch, tmp_path) -> Path:
    monkeypatch.setenv("MONAI_SPARSE_BUNDLES", str(bundles))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def skull() -> tuple[np.ndarray, np.ndarray]:
    complete = skull_phantom(2, spacing=6.0)
    holed = RandCranialDefect(["random"]).set_random_state(0)(complete)
    return holed[0].numpy(), complete.affine.numpy()


@pytest.fixture(scope="module")
def organs() -> np.ndarray:
    volume = np.zeros((24, 20, 16), np.uint8)
    volume[4:12, 4:12, 4:12] = 2
    volume[14:18, 4:16, 4:8] = 4
    volume[20:23, 2:5, 2:5] = 1
    return volume


def save(path: Path, data: np.ndarray, affine: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(data, affine), path)
    return path


def table(folder: Path) -> list[dict]:
    with (folder / "cases.csv").open() as stream:
        return list(csv.DictReader(stream))


def test_a_skull_with_a_hole_becomes_masks_mesh_picture_and_table(places, skull, capsys):
    bone, affine = skull
    source = save(places / "in" / "head.nii.gz", bone, affine)
    assert main(["refine", str(source), "out", "--device", "cpu", "--no-gate"]) == 0
    done = {path.name for path in (places / "out").iterdir()}
    assert {"head_completed.nii.gz", "head_implant.nii.gz", "head.png", "cases.csv"} <= done
    whole, implant = (nib.load(places / "out" / f"head_{kind}.nii.gz") for kind in ("completed", "implant"))
    np.testing.assert_array_equal(whole.affine, affine)
    plain = np.asarray(whole.dataobj)
    assert (plain[bone > 0] == 1).all() and plain.sum() > bone.sum()
    np.testing.assert_array_equal(np.asarray(implant.dataobj), plain - bone)
    assert "head_implant.stl" in done
    row = table(places / "out")[0]
    assert row["case"] == "head" and row["label"] == "skull" and row["refined"] == "True"
    assert int(row["voxels_after"]) == plain.sum()
    text = capsys.readouterr().out
    assert "[1/1] head" in text and "1 of 1 cases done" in text
    assert not [path for path in (places / "out").iterdir() if path.name.startswith(".")]


def test_a_ct_is_thresholded_and_a_nrrd_is_read(places, skull):
    bone, affine = skull
    hounsfield = np.where(bone > 0, 700, -900).astype(np.int16)
    save(places / "in" / "ct.nii", hounsfield, affine)
    flip = np.diag([-1, -1, 1])
    header = {"space": "left-posterior-superior", "space directions": flip @ affine[:3, :3]}
    nrrd.write(str(places / "in" / "mask.nrrd"), bone, {**header, "space origin": flip @ affine[:3, 3]})
    assert main(["refine", "in", "--device", "cpu", "--no-gate", "--no-mesh", "--no-picture", "-q"]) == 0
    results = [nib.load(places / "refined" / f"{name}_completed.nii.gz") for name in ("ct", "mask")]
    for image in results:
        np.testing.assert_allclose(image.affine, affine)
    # The largest part of the thresholded CT only: the mask may have more.
    a, b = (np.asarray(image.dataobj) for image in results)
    assert 2 * (a & b).sum() / (a.sum() + b.sum()) > 0.9


def test_labels_of_a_label_map(places, organs):
    affine = np.diag([0.9, 0.9, 5, 1])
    save(places / "in" / "b.nii.gz", organs, affine)
    save(places / "in" / "a.nii.gz", organs[::-1].astype(np.float32), affine)
    given = ["--label-preset", "segthor", "--labels", "heart", "aorta", "--no-gate"]
    assert main(["refine", "in", "out", "--task", "organs", "--device", "cpu", *given]) == 0
    out = np.asarray(nib.load(places / "out" / "b_refined.nii.gz").dataobj)
    np.testing.assert_array_equal(out == 1, organs == 1)
    assert out.dtype == np.uint8 and not np.array_equal(out, organs)
    for name in ("b_heart.stl", "b_aorta.stl", "a_heart.stl", "a.png", "b.png"):
        assert (places / "out" / name).stat().st_size > 200
    rows = table(places / "out")
    assert [(row["case"], row["label"], row["ids"]) for row in rows] == [
        ("a", "heart", "2"),
        ("a", "aorta", "4"),
        ("b", "heart", "2"),
        ("b", "aorta", "4"),
    ]
    assert float(rows[0]["ml_before"]) == pytest.approx(512 * 0.9 * 0.9 * 5 / 1000, rel=1e-4)


def test_the_gate_is_on_by_default_and_told(places, organs, capsys):
    source = save(places / "a.nii.gz", organs, np.eye(4))
    command = ["refine", str(source), "out", "--bundle", "organs", "--device", "cpu", "--labels", "heart=2"]
    assert main([*command, "--min-dice", "1", "--no-mesh"]) == 0
    np.testing.assert_array_equal(np.asarray(nib.load(places / "out" / "a_refined.nii.gz").dataobj), organs)
    assert "heart: left as it is, its" in capsys.readouterr().out
    assert table(places / "out")[0]["gated"] == "True"


def test_a_case_that_cannot_be_used_does_not_stop_the_others(places, skull, capsys):
    bone, affine = skull
    save(places / "in" / "b.nii.gz", bone, affine)
    save(places / "in" / "labels.nii.gz", bone * 3, affine)
    broken = save(places / "in" / "a.nii.gz", bone, affine)
    broken.write_bytes(broken.read_bytes()[:300])
    flat = save(places / "in" / "aflat.nii", bone, affine)
    header = bytearray(flat.read_bytes())
    header[280:296] = bytes(16)  # a row of the sform
    flat.write_bytes(header)
    assert main(["refine", "in", "out", "--device", "cpu", "--no-mesh", "--no-picture"]) == 1
    text = capsys.readouterr()
    errors = [line for line in text.err.splitlines() if line.startswith("error: ")]
    assert [line.split(": ")[1] for line in errors] == ["a", "aflat", "labels"]
    assert "its affine" in errors[1] and "1 of 4 cases done" in text.out
    assert not list((places / "out").glob("*aflat*"))
    assert [row["case"] for row in table(places / "out")] == ["b"]


@pytest.mark.parametrize("values, message", [(0, "empty"), (1, "1 everywhere")])
def test_where_no_case_can_be_used_nothing_is_written_or_promised(places, capsys, values, message):
    source = save(places / "a.nii.gz", np.full((9, 8, 7), values, np.uint8), np.eye(4))
    assert main(["refine", str(source), "out", "--device", "cpu"]) == 1
    text = capsys.readouterr()
    assert text.out.strip() == "0 of 1 cases done; nothing is written"
    assert text.err.count("error: ") == 1 and message in text.err
    assert list((places / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["refine", "missing"], "no such file or folder"),
        (["refine", "a.nii.gz", "--task", "knee"], "no bundle of that name"),
        (["refine", "a.nii.gz", "--weights", "no.pt"], "no.pt: no such file"),
        (["refine", "a.nii.gz", "--labels", "heart"], "label_preset"),
        (["refine", "a.nii.gz", "--labels", "heart=x"], "NAME=ID"),
        (["refine", "a.nii.gz", "--label-preset", "segthor"], "none that the network was trained for"),
        (["refine", "a.nii.gz", "--image", "images"], "no image for 1 of 1 cases, the first is 'a'"),
        (["refine", "."], "is the input folder"),
        (["refine", "a.nii.gz", "a.nii.gz"], "is a file"),
        (["refine", "a.nii.gz", "--device", "gpu"], "device 'gpu': cannot be used"),
    ],
)
def test_what_cannot_start_is_said_in_one_line(places, skull, capsys, arguments, message):
    save(places / "a.nii.gz", *skull)
    save(places / "images" / "x.nii.gz", *skull)
    save(places / "images" / "y.nii.gz", *skull)
    out = ["."] if arguments == ["refine", "."] else []
    assert main([*arguments, *out]) == 1
    text = capsys.readouterr().err.strip()
    assert text.startswith("error: ") and message in text and "\n" not in text


def test_wrong_arguments_and_help(capsys):
    for arguments in ([], ["refine"], ["refine", "a", "b", "c"], ["refine", "a", "--hu-threshold", "bone"]):
        with pytest.raises(SystemExit) as left:
            main(arguments)
        assert left.value.code == 2
    capsys.readouterr()
    with pytest.raises(SystemExit) as left:
        main(["refine", "--help"])
    text = capsys.readouterr().out
    assert left.value.code == 0
    for word in ("IN [OUT]", "--task", "--label-preset", "torchrun", "exit code", "DICOM"):
        assert word in text
    assert max(map(len, text.splitlines())) <= 110


def test_tasks_are_listed(places, capsys):
    assert main(["tasks"]) == 0
    text = capsys.readouterr().out
    assert "skull_completion" in text and "organs" in text


def test_a_folder_over_two_ranks(places, organs):
    for name in "abc":
        save(places / "in" / f"{name}.nii.gz", organs, np.eye(4))
    (places / "in" / "d.nii.gz").write_bytes(b"nothing")
    launcher = ["torch.distributed.run", "--nproc_per_node=2", "--rdzv_backend=c10d"]
    command = [
        "refine",
        "in",
        "out",
        "--task",
        "organs",
        "--labels",
        "heart=2",
        "--device",
        "cpu",
        "--no-gate",
    ]
    result = subprocess.run(
        [
            *(sys.executable, "-W", "ignore", "-m", *launcher, "--rdzv_endpoint=localhost:0"),
            *("-m", "monai_sparse_refine", *command),
        ],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
    )
    assert result.returncode == 1, result.stderr  # because of d
    assert "error: d: " in result.stderr and "nvImageCodec" not in result.stderr
    assert "3 of 4 cases done" in result.stdout
    assert sorted(row["case"] for row in table(places / "out")) == ["a", "b", "c"]
    for name in "abc":
        assert (places / "out" / f"{name}_refined.nii.gz").is_file()


def test_what_nobody_foresaw_in_one_case_does_not_stop_the_others(places, skull, capsys, monkeypatch):
    for name in "ab":
        save(places / "in" / f"{name}.nii.gz", *skull)
    right = refine_command.read_case

    def wrong_once(case):
        if case.name == "a":
            raise RuntimeError("no memory left")
        return right(case)

    monkeypatch.setattr(refine_command, "read_case", wrong_once)
    assert main(["refine", "in", "out", "--device", "cpu", "--no-mesh", "--no-picture"]) == 1
    text = capsys.readouterr()
    assert "error: a: RuntimeError: no memory left" in text.err and "1 of 2 cases done" in text.out


def test_the_home_folder_is_found(places, skull, monkeypatch):
    monkeypatch.setenv("HOME", str(places))
    save(places / "in" / "a.nii.gz", *skull)
    assert main(["refine", "~/in", "~/out", "--device", "cpu", "--no-mesh", "--no-picture"]) == 0
    assert (places / "out" / "cases.csv").is_file() and not Path("~").exists()
