import numpy as np
import torch
from monai.data import MetaTensor

from monai_sparse_refine.transforms.warp import RandWarpMask, RandWarpMaskd


def _ball(spacing=(2.0, 2.0, 2.0)) -> MetaTensor:
    axes = [(torch.arange(40) - 19.5) * mm for mm in spacing]
    x, y, z = torch.meshgrid(*axes, indexing="ij")
    ball = ((x**2 + y**2 + z**2).sqrt() < 24).to(torch.uint8)[None]
    return MetaTensor(ball, affine=torch.diag(torch.tensor([*spacing, 1.0])))


def test_same_seed_same_warp_other_seed_another():
    ball = _ball()
    first, again, other = (RandWarpMask().set_random_state(seed)(ball) for seed in (1, 1, 2))
    assert torch.equal(first.as_tensor(), again.as_tensor())
    assert not torch.equal(first.as_tensor(), other.as_tensor())
    assert first.dtype == torch.uint8 and set(first.unique().tolist()) == {0, 1}


def test_volume_changes_no_more_than_the_scales_allow():
    ball = _ball()
    for seed in range(5):
        warped = RandWarpMask(scale=0.1, elastic_mm=0.0, threshold=0.5).set_random_state(seed)(ball)
        assert 0.9**3 * 0.97 < float(warped.sum() / ball.sum()) < 1.1**3 * 1.03


def test_nothing_drawn_leaves_the_mask():
    still = RandWarpMask(scale=0, rotation=0, elastic_mm=0, flip_prob=0, threshold=0.5).set_random_state(0)
    assert torch.equal(still(_ball()).as_tensor(), _ball().as_tensor())
    never = RandWarpMask(prob=0.0).set_random_state(0)
    assert torch.equal(never(_ball()).as_tensor(), _ball().as_tensor())


def test_flip_is_left_right():
    mask = torch.zeros(1, 8, 8, 8)
    mask[0, 1, 3, 5] = 1
    flip = RandWarpMask(scale=0, rotation=0, elastic_mm=0, flip_prob=1).set_random_state(0)
    assert torch.equal(flip(mask), mask.flip(1))


def test_rotation_is_in_millimetres_on_anisotropic_voxels():
    # A ball stays a ball under rotation, whatever the voxel's shape.
    ball = _ball((1.5, 1.5, 3.0))
    turned = RandWarpMask(scale=0, rotation=45, elastic_mm=0, flip_prob=0, threshold=0.5).set_random_state(3)(
        ball
    )
    both = (turned.as_tensor() & ball.as_tensor()).sum()
    assert float(2 * both / (turned.sum() + ball.sum())) > 0.97


def test_dictionary_version_warps_all_keys_alike():
    data = RandWarpMaskd(["a", "b"]).set_random_state(5)({"a": _ball(), "b": _ball()})
    assert torch.equal(data["a"].as_tensor(), data["b"].as_tensor())
    assert not torch.equal(data["a"].as_tensor(), _ball().as_tensor())
    np.testing.assert_allclose(data["a"].affine, _ball().affine)


def test_the_end_of_a_scan_stays_level():
    cut_off = _ball()[..., :28]
    for seed in range(5):
        warp = RandWarpMask(crop_end=True).set_random_state(seed)
        warped = warp(cut_off)
        whole, end = warp.deform(cut_off)
        assert warped.shape[1:3] == cut_off.shape[1:3] and warped.shape[-1] == end < 28
        assert torch.equal(whole.as_tensor()[..., :end], warped.as_tensor())
        # Where it ends there is bone all over the cut: a disc as wide as that of the slice below.
        last, below = (int(warped[..., z].sum()) for z in (-1, -2))
        assert last > 0.8 * below  # a ball narrows
        assert torch.equal(warped.affine, cut_off.affine)


def test_a_head_that_ends_below_the_last_slice_is_not_cropped():
    warped = RandWarpMask(crop_end=True).set_random_state(0)(_ball())
    assert warped.shape == _ball().shape
    assert RandWarpMask().set_random_state(0)(_ball()[..., :28]).shape[-1] == 28


def test_dictionary_version_crops_all_keys_as_the_first():
    first, second = _ball()[..., :28], _ball()[..., :28]
    second[..., 10:] = 0
    out = RandWarpMaskd(["a", "b"], crop_end=True).set_random_state(5)({"a": first, "b": second})
    assert out["a"].shape == out["b"].shape and out["a"].shape[-1] < 28


def test_a_coarse_mask_keeps_its_voxels_and_changes_its_grid():
    mask = torch.zeros(1, 6, 6, 6, dtype=torch.uint8)
    mask[0, 1, 3, 5] = 1
    coarse = MetaTensor(mask, affine=torch.diag(torch.tensor([4.0, 4.0, 2.5, 1.0])))
    warp = RandWarpMask(scale=0.1, flip_prob=1, coarse_mm=3.0).set_random_state(0)
    warped = warp(coarse)
    assert torch.equal(warped.as_tensor(), mask.flip(1))
    ratio = (warped.affine.diagonal() / coarse.affine.diagonal())[:3].numpy()
    np.testing.assert_allclose(ratio, np.abs(warp.factors))
    assert not np.allclose(ratio, 1) and (np.abs(ratio - 1) <= 0.1).all()
    middle = torch.tensor([2.5, 2.5, 2.5, 1.0], dtype=torch.float64)
    torch.testing.assert_close(warped.affine @ middle, coarse.affine.double() @ middle)
    fine = MetaTensor(mask, affine=torch.eye(4))
    assert torch.equal(warp(fine, randomize=False).affine, fine.affine)
