"""The procedural skull: same head for a seed, plausible anatomy, closed vault, and the command around it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from scipy import ndimage

from monai_sparse_refine.data import skull_phantom
from monai_sparse_refine.data.phantom import main
from monai_sparse_refine.errors import InputError


@pytest.fixture(scope="module")
def skull() -> MetaTensor:
    return skull_phantom(1, spacing=2.0)


def bone(volume: MetaTensor) -> np.ndarray:
    return volume[0].numpy() > 0


def volume_ml(volume: MetaTensor) -> float:
    return float(volume.sum()) * float(volume.pixdim.prod()) / 1000.0


def cavity_of(mask: np.ndarray) -> np.ndarray:
    """Air that the head encloses above the level of the orbits, from a point in its middle."""
    upper = ~mask[:, :, int(0.62 * mask.shape[2]) :]
    labels, _ = ndimage.label(upper)
    return labels == labels[mask.shape[0] // 2, mask.shape[1] // 2, 2]


def test_is_a_binary_uint8_mask_in_ras_about_the_origin(skull: MetaTensor) -> None:
    assert isinstance(skull, MetaTensor) and skull.dtype == torch.uint8 and skull.ndim == 4
    assert skull.unique().tolist() == [0, 1]
    affine = skull.affine.numpy()
    assert np.array_equal(affine[:3, :3], np.diag([2.0, 2.0, 2.0]))
    middle = affine[:3, :3] @ (0.5 * (np.array(skull.shape[1:]) - 1)) + affine[:3, 3]
    assert np.allclose(middle, 0.0)


def test_seed_decides(skull: MetaTensor) -> None:
    assert torch.equal(skull_phantom(1, spacing=2.0), skull)
    one, other = (skull_phantom(seed, spacing=4.0, shape=(48, 64, 48)) for seed in (1, 2))
    assert (one != other).sum() > 0.2 * one.sum()


def test_same_head_at_every_spacing(skull: MetaTensor) -> None:
    fine = skull_phantom(1, spacing=1.25)
    assert volume_ml(fine) == pytest.approx(volume_ml(skull), rel=0.06)
    # The coarse voxels' centres, looked up in the fine grid, show the same bone but for the skin of it.
    world = np.argwhere(bone(skull)) @ skull.affine.numpy()[:3, :3].T + skull.affine.numpy()[:3, 3]
    inverse = np.linalg.inv(fine.affine.numpy())
    index = np.rint(world @ inverse[:3, :3].T + inverse[:3, 3]).astype(int)
    near = ndimage.maximum_filter(bone(fine), size=3)
    inside = ((index >= 0) & (index < near.shape)).all(axis=1)
    assert near[tuple(index[inside].T)].mean() > 0.95


@pytest.mark.parametrize("seed", [0, 3])
def test_anisotropic_spacing_shows_the_same_head(seed: int) -> None:
    even, flat = skull_phantom(seed, spacing=2.0), skull_phantom(seed, spacing=(1.0, 1.0, 2.5))
    assert volume_ml(flat) == pytest.approx(volume_ml(even), rel=0.06)
    size = [np.array(v.shape[1:]) * v.pixdim.numpy() for v in (even, flat)]
    assert np.allclose(size[0], size[1], atol=3.0)


@pytest.mark.parametrize("seed", range(6))
def test_size_of_a_head(seed: int) -> None:
    volume = skull_phantom(seed, spacing=3.0)
    assert 350 < volume_ml(volume) < 900
    box = np.argwhere(bone(volume))
    breadth, length, _ = (np.ptp(box, axis=0) + 1) * 3.0
    assert 120 < breadth < 165 and 155 < length < 215


@pytest.mark.parametrize(("seed", "spacing"), [(0, 1.5), (1, 2.0), (2, 3.0), (5, 4.0)])
def test_vault_has_no_hole(seed: int, spacing: float) -> None:
    mask = bone(skull_phantom(seed, spacing=spacing))
    cavity = cavity_of(mask)
    assert cavity.sum() * spacing**3 / 1000.0 > 250  # ml
    assert not (cavity[0].any() or cavity[-1].any() or cavity[:, 0].any() or cavity[:, -1].any())
    assert not cavity[:, :, -1].any()


def test_foramen_magnum_is_open(skull: MetaTensor) -> None:
    """In the back half, a way straight down out of the head: in the middle, 20 to 45 mm wide."""
    mask = bone(skull)
    x, y, z = mask.shape
    # Columns of air under the level where the vault surrounds everything.
    level = int(0.65 * z)
    outline = ndimage.binary_fill_holes(mask[:, :, level])
    open_below = outline & ~mask[:, :, :level].any(axis=2)
    open_below[:, y // 2 :] = False
    labels, count = ndimage.label(open_below)
    largest = labels == 1 + int(np.argmax(np.bincount(labels.ravel())[1:]))
    assert count >= 1
    width, length = (np.ptp(np.argwhere(largest), axis=0) + 1) * 2.0
    assert 20 <= width <= 45 and 20 <= length <= 45
    assert abs(np.argwhere(largest)[:, 0].mean() - x / 2) < 5


def test_face_is_in_front_and_orbits_on_both_sides(skull: MetaTensor) -> None:
    mask = bone(skull)
    x, _, z = mask.shape
    # At the level of the orbits, the first bone seen from the front lies deep on both sides of the nose.
    depth = mask[:, ::-1].argmax(axis=1).astype(float) * 2.0
    depth[~mask.any(axis=1)] = np.nan
    centre = x // 2
    deepest = []
    for side in (slice(centre - 22, centre - 10), slice(centre + 10, centre + 22)):
        deepest.append(np.nanmax(depth[side, z // 4 : z // 2]))
    nose = np.nanmin(depth[centre - 3 : centre + 4, z // 4 : z // 2])
    assert min(deepest) > nose + 25


def test_shape_is_kept_and_head_is_centred() -> None:
    volume = skull_phantom(2, spacing=(4.0, 4.0, 5.0), shape=(64, 72, 50))
    assert tuple(volume.shape) == (1, 64, 72, 50)
    box = np.argwhere(bone(volume))
    middle = 0.5 * (box.min(axis=0) + box.max(axis=0))
    assert np.allclose(middle, 0.5 * (np.array([64, 72, 50]) - 1), atol=3.0)
    tiny = skull_phantom(2, spacing=4.0, shape=(16, 16, 16))
    assert tuple(tiny.shape) == (1, 16, 16, 16)


@pytest.mark.parametrize("spacing", [0.0, -1.0, float("nan"), (1.0, 0.0, 1.0)])
def test_bad_spacing(spacing: float) -> None:
    with pytest.raises(InputError, match="spacing"):
        skull_phantom(0, spacing=spacing)


@pytest.mark.parametrize("shape", [(10, 10), (10, 0, 10)])
def test_bad_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="shape"):
        skull_phantom(0, spacing=4.0, shape=shape)


def test_command_writes_a_case(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "new" / "case"
    arguments = [
        "--seed",
        "3",
        "--spacing",
        "3",
        "--defect",
        "cube",
        "--defect-seed",
        "5",
        "--output-dir",
        str(folder),
    ]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    names = ("defective.nii.gz", "truth/complete.nii.gz", "truth/implant.nii.gz")
    images = [nibabel.load(folder / name) for name in names]
    defective, complete, implant = (np.asarray(image.dataobj) for image in images)
    assert all(image.get_data_dtype() == np.uint8 for image in images)
    assert all(np.array_equal(image.affine, images[0].affine) for image in images)
    assert all(str(folder / name) in printed for name in names)
    assert np.array_equal(defective + implant, complete) and implant.any()
    assert f"{implant.sum() * 27 / 1000:.1f} ml" in printed
    assert {p.name for p in folder.iterdir()} == {"defective.nii.gz", "truth"}
    assert len(list((folder / "truth").iterdir())) == 2


def test_command_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--spacing", "0", "--output-dir", str(tmp_path)]) == 2
    assert "spacing" in capsys.readouterr().err
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert main(["--spacing", "4", "--output-dir", str(blocked)]) == 2
    assert str(blocked) in capsys.readouterr().err


def test_help_reads_without_a_warning() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "monai_sparse_refine.data.phantom", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "--defect-seed" in done.stdout and "RuntimeWarning" not in done.stderr
