from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib.image import imread
from monai.data import MetaTensor

from monai_sparse_refine.errors import InputError
from monai_sparse_refine.report.figure import IMPLANT, completion_figure
from monai_sparse_refine.report.figure import _facing as facing
from monai_sparse_refine.report.figure import _to_ras as to_ras


@pytest.fixture(autouse=True)
def few_pixels(monkeypatch):
    monkeypatch.setattr("monai_sparse_refine.report.figure.SIZE", 110)


def skull(spacing=(4.0, 5.0, 6.0)):
    """A coarse shell with a hole at the patient's upper right front, and the plug; RAS."""
    shape = [int(200 / mm) for mm in spacing]
    grid = [(np.arange(n) + 0.5) * mm - 100 for n, mm in zip(shape, spacing, strict=True)]
    x, y, z = np.meshgrid(*grid, indexing="ij")
    radius = np.sqrt((x / 70) ** 2 + (y / 90) ** 2 + (z / 75) ** 2)
    shell = (radius < 1) & (radius > 0.85)
    plug = shell & ((x - 35) ** 2 + (y - 45) ** 2 + (z - 45) ** 2 < 35**2)
    return shell & ~plug, plug


def teal(picture) -> np.ndarray:
    """Pixels of the implant's hue."""
    red, green, blue = (picture[..., i] for i in range(3))
    return (green > 2 * red) & (blue > 2 * red) & (green > 0.2)


def test_a_picture_is_written_whole_with_the_implant_in_its_own_colour(tmp_path):
    bone, plug = skull()
    path = tmp_path / "out" / "case.png"
    assert (
        completion_figure(bone, bone | plug, plug, spacing=(4, 5, 6), path=path, title="case", truth=plug)
        == path
    )
    assert [p.name for p in path.parent.iterdir()] == ["case.png"]
    picture = imread(path)[..., :3]
    assert min(picture.shape[:2]) > 800
    assert IMPLANT[1] > 2 * IMPLANT[0]
    columns = np.array_split(teal(picture[: int(0.72 * len(picture))]), 3, axis=1)
    # Defective: none. Completed and implant: a good part.
    assert columns[0].mean() < 1e-4 < 5e-3 < columns[1].mean() and columns[2].mean() > 5e-3
    empty = completion_figure(bone, bone, 0 * plug, spacing=(4, 5, 6), path=tmp_path / "empty.png")
    assert teal(imread(empty)).mean() < 1e-4


def test_any_orientation_of_the_voxels_gives_the_same_picture(tmp_path):
    bone, plug = skull((4.0, 4.0, 5.0))
    affine = np.diag([4.0, 4.0, 5.0, 1.0])
    first = completion_figure(bone, bone | plug, plug, affine=affine, path=tmp_path / "a.png", title="x")

    def turned(mask):
        # Axes (down, left, front).
        values = np.flip(mask, (0, 2)).transpose(2, 0, 1)[None].astype(np.uint8)
        matrix = np.zeros((4, 4))
        matrix[2, 0], matrix[0, 1], matrix[1, 2], matrix[3, 3] = -5, -4, 4, 1
        return MetaTensor(torch.as_tensor(values.copy()), affine=torch.as_tensor(matrix))

    second = completion_figure(*map(turned, (bone, bone | plug, plug)), path=tmp_path / "b.png", title="x")
    one, other = (imread(p)[..., :3] for p in (first, second))
    assert one.shape == other.shape
    difference = np.abs(one - other).max(axis=-1)
    assert (difference[: int(0.96 * len(one))] > 0.02).mean() < 1e-3  # the footer tells the file's own axes


def test_axes_are_brought_to_right_front_up():
    values = np.arange(24).reshape(2, 3, 4)
    affine = np.array([[0, 0, -3, 0], [2, 0, 0, 0], [0, -5, 0, 0], [0, 0, 0, 1.0]])
    turned, mm = to_ras({"m": values}, (2, 5, 3), affine)
    assert mm == (3, 2, 5) and turned["m"].shape == (4, 2, 3)
    # The voxel that is most to the right, front and up.
    corner = turned["m"][-1, -1, -1]
    index = np.argwhere(values == corner)[0]
    world = [affine[:3, :3] @ i for i in np.ndindex(values.shape)]
    np.testing.assert_array_equal(affine[:3, :3] @ index, np.max(world, axis=0))


@pytest.mark.parametrize(
    ("flip", "names"),
    [
        ((), ["front", "right", "top"]),
        ((0,), ["front", "left", "top"]),
        ((0, 1, 2), ["back", "left", "below"]),
    ],
)
def test_the_sides_are_those_that_face_the_implant(flip, names):
    bone, plug = (np.flip(m, flip) for m in skull())
    masks = {"defective": bone, "completed": bone | plug, "implant": plug}
    assert [side.name for side in facing(masks)] == names


def test_a_single_slice_and_an_empty_skull_still_give_a_picture(tmp_path):
    bone, plug = skull()
    flat = [m[:, :, 22:23] for m in (bone, bone | plug, plug)]
    path = completion_figure(*flat, spacing=(4, 5, 6), path=tmp_path / "flat.png")
    assert teal(imread(path)).mean() > 1e-3
    nothing = np.zeros_like(bone)
    none = completion_figure(nothing, nothing, nothing, spacing=1, path=tmp_path / "none.png")
    assert not teal(imread(none)).any() and min(imread(none).shape[:2]) > 300


def test_bad_input_leaves_no_file(tmp_path):
    bone, plug = skull()
    with pytest.raises(InputError, match="spacing is not known"):
        completion_figure(bone, bone, plug, path=tmp_path / "a.png")
    with pytest.raises(InputError, match="shapes differ: defective"):
        completion_figure(bone, bone[1:], plug, spacing=1, path=tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []
