from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Orientation
from scipy import ndimage

from monai_sparse_refine.data import skull_phantom
from monai_sparse_refine.transforms import CropHeadd, InterpolateVault
from monai_sparse_refine.transforms.head import cranial_middle, skull_part, without_holder
from monai_sparse_refine.transforms.ras_grid import on_ras_grid
from monai_sparse_refine.transforms.vault import vault_of
from monai_sparse_refine.volume import as_mask

SPACING = 3.0
PAD = 12


@pytest.fixture(scope="module")
def head() -> MetaTensor:
    """A head [1, X, Y, Z] in RAS orientation, with room around."""
    phantom = skull_phantom(3, spacing=SPACING)
    affine = phantom.affine.clone()
    affine[:3, 3] -= PAD * affine[:3, :3].sum(dim=1)
    return MetaTensor(torch.nn.functional.pad(phantom.as_tensor(), (PAD,) * 6), affine=affine)


def affine_of(volume: MetaTensor) -> np.ndarray:
    return volume.affine.numpy().astype(float)


def shell(head: MetaTensor, *, voxels: int, height: tuple[float, float], behind: bool = True) -> np.ndarray:
    """A bowl that many voxels off the head, bool [X, Y, Z], within a range of mm above the cavity's middle."""
    bone, affine = as_mask(head), affine_of(head)
    off = ndimage.distance_transform_edt(~bone)
    vault = vault_of(bone, affine)
    index = np.moveaxis(np.indices(bone.shape), 0, -1)
    flat = vault.local((index @ affine[:3, :3].T + affine[:3, 3]).reshape(-1, 3))
    outside = (np.linalg.norm(flat, axis=1) > vault.model_radius(flat)).reshape(bone.shape)
    front, up = flat[:, 1].reshape(bone.shape), flat[:, 2].reshape(bone.shape)
    side = front < -20.0 if behind else front > 20.0
    thick = (off >= voxels) & (off < voxels + 2)
    bowl: np.ndarray = thick & outside & side & (up > height[0]) & (up < height[1])
    return bowl


@pytest.mark.parametrize("voxels", [3, 5])
@pytest.mark.parametrize("axes", ["RAS", "PIL"])
def test_a_bowl_behind_the_head_goes_and_nothing_else(head, voxels, axes):
    bowl = shell(head, voxels=voxels, height=(-60.0, 40.0))
    assert bowl.sum() > 500
    both = MetaTensor(torch.from_numpy((as_mask(head) | bowl)[None].astype(np.uint8)), affine=head.affine)
    turned = Orientation(axcodes=axes, labels=None)(both)
    expected = Orientation(axcodes=axes, labels=None)(head)
    out = without_holder(as_mask(turned), affine_of(turned))
    np.testing.assert_array_equal(out, as_mask(expected))


def test_a_table_larger_than_the_skull_goes(head):
    """It reaches above the vertex too, where a vault is looked for first."""
    bone, affine = as_mask(head), affine_of(head)
    behind = int(np.flatnonzero(bone.any(axis=(0, 2)))[0])
    wider = np.pad(bone, ((40, 40), (0, 0), (0, 40)))
    affine[:3, 3] -= 40 * affine[:3, 0]
    table = np.zeros_like(wider)
    table[:, behind - 8 : behind - 3] = True
    assert table.sum() > bone.sum()
    np.testing.assert_array_equal(without_holder(wider | table, affine), wider)
    like = MetaTensor(torch.zeros(1, 1, 1, 1), affine=torch.from_numpy(affine))
    expected = cranial_middle(wider, like)
    assert expected is not None
    np.testing.assert_array_equal(cranial_middle(wider | table, like), expected)
    assert cranial_middle(table, like) is None and cranial_middle(wider) is None
    np.testing.assert_array_equal(skull_part(wider | table, affine), skull_part(wider, affine))
    assert skull_part(table, affine) is None and skull_part(np.zeros_like(table), affine) is None


def test_a_head_alone_is_handed_back(head):
    bone = as_mask(head)
    assert without_holder(bone, affine_of(head)) is bone


def test_a_loose_piece_of_the_vault_stays(head):
    """Sawn out and put back with a gap all around, as after surgery: no holder, though it is a large part."""
    bone, affine = as_mask(head), affine_of(head)
    index = np.argwhere(bone)
    vault = vault_of(bone, affine)
    local = vault.local(index @ affine[:3, :3].T + affine[:3, 3])
    angle = np.rad2deg(np.arccos(local @ (0.6, -0.5, 0.62) / np.linalg.norm(local, axis=1)))
    sawn = bone.copy()
    sawn[tuple(index[np.abs(angle - 30.0) < 4.0].T)] = False
    labels, _ = ndimage.label(sawn)
    sizes = np.sort(np.bincount(labels.ravel())[1:])
    assert sizes[-2] > 500  # loose indeed
    assert without_holder(sawn, affine) is sawn


@pytest.mark.parametrize(
    ("height", "behind"),
    [
        ((-100.0, -60.0), True),  # neck
        ((10.0, 22.0), True),  # far shorter than it is far away, see below
        ((-40.0, 10.0), False),  # the outer wall of a frontal sinus
    ],
    ids=["neck", "short", "sinus"],
)
def test_other_parts_stay(head, height, behind):
    part = shell(head, voxels=4, height=height, behind=behind)
    if height == (10.0, 22.0):
        part[: part.shape[0] // 2 - 4] = False
        part[part.shape[0] // 2 + 4 :] = False
    assert part.any()
    both = as_mask(head) | part
    assert without_holder(both, affine_of(head)) is both


def test_what_has_no_vault_is_handed_back():
    empty = np.zeros((4, 4, 4), dtype=bool)
    assert without_holder(empty, np.eye(4)) is empty
    rods = np.zeros((80, 9, 9), dtype=bool)
    rods[:70, :3, :3] = rods[:60, 6:, 6:] = True
    assert without_holder(rods, np.eye(4)) is rods


def test_the_head_is_cropped_without_its_holder(head):
    bowl = shell(head, voxels=4, height=(-60.0, 40.0))
    both = MetaTensor(torch.from_numpy((as_mask(head) | bowl)[None].astype(np.float32)), affine=head.affine)
    transform = CropHeadd("image")
    out = transform({"image": both})["image"]
    alone = CropHeadd("image")({"image": head})["image"]
    assert torch.equal(out.as_tensor(), alone.as_tensor().float()) and torch.equal(out.affine, alone.affine)
    assert out.dtype == both.dtype and bool((as_mask(both) == (as_mask(head) | bowl)).all())
    assert transform.inverse({"image": out})["image"].shape == both.shape


def test_the_vault_is_interpolated_as_without_the_holder(head):
    bone, affine = as_mask(head), affine_of(head)
    index = np.argwhere(bone)
    vault = vault_of(bone, affine)
    local = vault.local(index @ affine[:3, :3].T + affine[:3, 3])
    behind = local @ (0.0, -0.8, 0.6) / np.linalg.norm(local, axis=1)
    holed = bone.copy()
    holed[tuple(index[behind > np.cos(np.deg2rad(20.0))].T)] = False
    bowl = shell(head, voxels=4, height=(-60.0, 40.0))
    alone, held = (
        on_ras_grid(InterpolateVault(), mask, head, spacing=SPACING) for mask in (holed, holed | bowl)
    )
    assert alone.sum() > 100
    np.testing.assert_array_equal(alone, held)
