from pathlib import Path

import monai.transforms as mt
import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from monai_sparse_refine.transforms.mirror import MirrorImage, MirrorImaged, midsagittal_plane, mirror_image
from monai_sparse_refine.transforms.resample import ResampleToSpacing

SPACING = (2.0, 2.0, 3.0)


def _head(offset_mm: float = 0.0, turn_degrees: float = 0.0) -> np.ndarray:
    """An egg-shaped shell with two eyes and a nose, symmetric across a shifted and turned plane."""
    shape = (60, 70, 40)
    axes = [(np.arange(n) + 0.5) * mm for n, mm in zip(shape, SPACING, strict=True)]
    x, y, z = np.meshgrid(*axes, indexing="ij")
    x, y, z = x - 60 - offset_mm, y - 70, z - 60
    angle = np.deg2rad(turn_degrees)
    x, y = x * np.cos(angle) + y * np.sin(angle), -x * np.sin(angle) + y * np.cos(angle)
    radius = np.sqrt((x / 44) ** 2 + (y / (58 + 6 * np.sign(y))) ** 2 + (z / 48) ** 2)
    head = (radius < 1) & (radius > 0.86)
    head |= (np.hypot(np.abs(x) - 15, z) < 7) & (y > 40) & (y < 56)
    head |= (np.abs(x) < 4) & (y > 50) & (y < 66) & (np.abs(z + 10) < 12)
    return head


@pytest.mark.parametrize(("offset", "turn"), [(0.0, 0.0), (5.0, 0.0), (-4.0, 8.0)])
def test_plane_of_a_symmetric_head(offset, turn):
    plane = midsagittal_plane(_head(offset, turn), spacing=SPACING)
    angle = np.deg2rad(turn)
    expected = np.array([np.cos(angle), np.sin(angle), 0.0])
    assert np.rad2deg(np.arccos(min(1.0, float(expected @ plane.normal)))) < 1.5
    through = np.array([60 + offset, 70, 60])
    assert abs(float(np.dot(plane.normal, through)) - plane.offset) < 1.5


def test_a_large_one_sided_defect_does_not_move_the_plane():
    head = _head()
    head[30:, 20:50, 18:] = False
    plane = midsagittal_plane(head, spacing=SPACING)
    assert np.rad2deg(np.arccos(min(1.0, plane.normal[0]))) < 1.5
    assert abs(plane.offset - 60) < 2.0


def test_mirror_image_fills_a_one_sided_hole():
    head = _head(3.0, 5.0)
    holed = head.copy()
    holed[38:, 25:45, 22:] = False
    hole = head & ~holed
    mirrored = MirrorImage()(
        MetaTensor(torch.from_numpy(holed[None]).float(), affine=torch.diag(torch.tensor([*SPACING, 1.0])))
    )
    assert float((mirrored.as_tensor()[0].numpy() > 0)[hole].mean()) > 0.85


def test_mirroring_twice_returns_the_image():
    image = torch.from_numpy(_head(2.0, 4.0)[None]).float()
    plane = midsagittal_plane(image[0], spacing=SPACING)
    twice = mirror_image(mirror_image(image, plane, spacing=SPACING), plane, spacing=SPACING) > 0.5
    both = twice & (image > 0)
    assert float(2 * both.sum() / (twice.sum() + image.sum())) > 0.93


def test_plain_axis_plane_is_an_exact_flip():
    image = torch.rand(1, 6, 5, 4)
    plane = type(midsagittal_plane(_head(), spacing=SPACING))((1.0, 0.0, 0.0), 6.0)
    torch.testing.assert_close(mirror_image(image, plane, spacing=SPACING), image.flip(1), atol=1e-5, rtol=0)


def test_real_skull_is_nearly_symmetric(shared_data: Path):
    load = mt.Compose(
        [mt.LoadImage(ensure_channel_first=True), mt.Orientation("RAS", labels=None), ResampleToSpacing(2.0)]
    )
    skull = load(shared_data / "skull_masks" / "invesalius_cranium_skull.nii.gz")
    mirrored = MirrorImage()(skull).as_tensor() > 0
    near = torch.nn.functional.max_pool3d(skull.as_tensor().float(), 3, stride=1, padding=1) > 0
    assert float((mirrored & near).sum() / mirrored.sum()) > 0.95


def test_append_gives_the_network_two_channels_and_keeps_metadata():
    mask = MetaTensor(
        torch.from_numpy(_head()[None]).to(torch.uint8), affine=torch.diag(torch.tensor([*SPACING, 1.0]))
    )
    out = MirrorImaged("image", append=True)({"image": mask})["image"]
    assert out.shape == (2, *mask.shape[1:]) and out.dtype == torch.uint8
    assert torch.equal(out[:1].as_tensor(), mask.as_tensor())
    torch.testing.assert_close(out.affine, mask.affine)


def test_empty_masks_mirror_to_empty_and_wrong_shapes_are_named():
    empty = MirrorImage(append=True)(torch.zeros(1, 4, 4, 4))
    assert empty.shape == (2, 4, 4, 4) and float(empty.sum()) == 0
    with pytest.raises(ValueError, match="one 3D mask"):
        MirrorImage()(torch.zeros(2, 4, 4, 4))
    with pytest.raises(ValueError, match="empty"):
        midsagittal_plane(np.zeros((4, 4, 4)), spacing=(1, 1, 1))


def test_fractions_are_mirrored_as_fractions():
    head = torch.from_numpy(_head(4.0))[None].to(torch.uint8)
    mask = MetaTensor(head, affine=torch.diag(torch.tensor([*SPACING, 1.0])))
    binary, soft = (MirrorImage(threshold=threshold)(mask) for threshold in (0.5, None))
    assert bool(((soft > 0.05) & (soft < 0.95)).any())
    assert torch.equal((soft >= 0.5).float(), binary.float())
