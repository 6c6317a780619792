from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, Orientationd

from monai_sparse_refine.data import skull_phantom
from monai_sparse_refine.transforms import CropHeadd, InterpolateVault
from monai_sparse_refine.transforms.crop_head import head_box
from monai_sparse_refine.transforms.ras_grid import on_ras_grid
from monai_sparse_refine.volume import as_mask

SPACING = 4.0


@pytest.fixture(scope="module")
def head() -> MetaTensor:
    return skull_phantom(3, spacing=SPACING)


def with_body(head: MetaTensor, *, below: int = 90, beside: int = 25) -> MetaTensor:
    """The head over a long field of view, with two blocks for shoulders at its lower end."""
    plain = torch.nn.functional.pad(head.as_tensor(), (below, 0, 0, 0, beside, beside))
    plain[:, :20, 10:30, :20] = 1
    plain[:, -20:, 10:30, :20] = 1
    affine = head.affine.clone()
    affine[:3, 3] -= affine[:3, :3] @ torch.tensor([beside, 0, below], dtype=affine.dtype)
    return MetaTensor(plain, affine=affine)


def test_a_head_alone_stays_as_it_is(head):
    out = CropHeadd("image")({"image": head})["image"]
    assert torch.equal(out, head) and torch.equal(out.affine, head.affine)


@pytest.mark.parametrize("axes", ["RAS", "PIL"])
def test_the_head_is_kept_and_the_shoulders_go(head, axes):
    whole = Orientationd("image", axcodes=axes, labels=None)({"image": with_body(head)})["image"]
    whole.applied_operations.clear()
    transform = CropHeadd("image")
    out = transform({"image": whole})["image"]
    assert int(out.sum()) == int(head.sum())
    sides = np.array(out.shape[1:]) * SPACING
    assert (sides <= 320 + 2 * SPACING).all()
    # The affine tells where it lies: voxel for voxel the bone is in its place.
    bone = np.argwhere(as_mask(out)) @ out.affine[:3, :3].numpy().T + out.affine[:3, 3].numpy()
    before = np.argwhere(as_mask(whole)) @ whole.affine[:3, :3].numpy().T + whole.affine[:3, 3].numpy()
    there = {tuple(row) for row in before.round(2)}
    assert all(tuple(row) in there for row in bone.round(2))
    back = transform.inverse({"image": out})["image"]
    assert back.shape == whole.shape and torch.allclose(back.affine, whole.affine)
    assert int(back.sum()) == int(head.sum()) and bool((back <= whole).all())


@pytest.mark.parametrize("axes", ["RAS", "IPL"])
def test_padding_above_the_end_of_a_scan_goes(head, axes):
    """A head cut off level below its vertex, in a volume that goes on: what is missing above is no hole."""
    top = int(np.flatnonzero(as_mask(head).any(axis=(0, 1)))[-1])
    end = top - round(30 / SPACING)
    padded = MetaTensor(head.as_tensor().clone(), affine=head.affine)
    padded[..., end:] = 0
    turned = Orientationd("image", axcodes=axes, labels=None)({"image": padded})["image"]
    turned.applied_operations.clear()
    transform = CropHeadd("image")
    out = transform({"image": turned})["image"]
    back = Orientationd("image", axcodes="RAS", labels=None)({"image": out})["image"]
    assert back.shape[-1] == end and int(back.sum()) == int(padded.sum())
    torch.testing.assert_close(back.affine, padded.affine)
    assert torch.equal(transform.inverse({"image": out})["image"].as_tensor(), turned.as_tensor())


def test_a_volume_without_a_vault_stays_as_it_is():
    cube = MetaTensor(torch.zeros(1, 200, 8, 8), affine=torch.diag(torch.tensor([4.0, 4, 4, 1])))
    cube[:, :4, :4, :4] = 1
    assert head_box(as_mask(cube), cube.affine.numpy().astype(float)) is None
    chain = Compose([CropHeadd("image")])
    assert chain({"image": cube})["image"].shape == cube.shape


def test_guesses_are_made_of_the_head_alone(head):
    whole = with_body(head)
    seen = []

    def step(fractions):
        seen.append(tuple(fractions.shape[1:]))
        return InterpolateVault()(fractions)

    out = on_ras_grid(step, as_mask(whole), whole, spacing=SPACING)
    assert out.shape == tuple(whole.shape[1:])
    assert np.prod(seen[0]) < 0.5 * out.size and not out[:, :, :40].any()
