"""Training samples of a refiner: one organ, a patch of it, with or without what else the refiner is told."""

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from monai_sparse_refine.errors import InputError
from monai_sparse_refine.transforms import RandOrganSampleD, RandOrganSampled

AFFINE = np.diag([1.0, 1.0, 2.0, 1.0])


def case(organs=(1, 2, 3, 4)) -> dict:
    """Cubes as organs; the dense network saw each of them shifted by two voxels."""
    labels = torch.zeros(1, 60, 30, 20)
    soft = torch.zeros(5, 60, 30, 20, dtype=torch.uint8)
    for number in organs:
        start = 12 * (number - 1) + 2
        labels[0, start : start + 8, 8:20, 5:15] = number
        soft[number, start + 2 : start + 10, 8:20, 5:15] = 200
    soft[0] = 255 - soft[1:].sum(0)
    dense = soft.argmax(0, keepdim=True).to(torch.uint8)
    hu = torch.arange(60.0).reshape(1, 60, 1, 1).expand(1, 60, 30, 20).clone()
    return {
        key: MetaTensor(value, affine=AFFINE)
        for key, value in (("label", labels), ("probability", soft), ("intensity", hu), ("dense", dense))
    }


def draw(seed: int, **options) -> dict:
    return RandOrganSampled(**{"patch": (60, 30, 20), **options}).set_random_state(seed)(case())


def test_the_dense_networks_mask_comes_with_its_probability():
    for seed in range(8):
        out = draw(seed, mask_only=0, without_intensity=0)
        number = ("esophagus", "heart", "trachea", "aorta").index(out["organ"]) + 1
        assert torch.equal(out["label"], (case()["label"] == number).float())
        assert torch.equal(out["image"] > 0, out["probability"] > 127)
        assert (out["image"] != out["label"]).any()
        torch.testing.assert_close(out["intensity"].as_tensor(), case()["intensity"].as_tensor())
        torch.testing.assert_close(out["image"].affine, case()["label"].affine)
        # Of the whole mask, and not of the patch.
        small = draw(seed, mask_only=0, without_intensity=0, patch=(6, 6, 6))
        assert small["reference"] == out["reference"] == float(np.median(out["intensity"][out["image"] > 0]))


def test_every_organ_comes():
    assert {draw(seed)["organ"] for seed in range(30)} == {"esophagus", "heart", "trachea", "aorta"}
    assert {draw(seed, weights=[0, 1, 0, 0])["organ"] for seed in range(5)} == {"heart"}


def test_masks_alone_are_corrupted_and_have_no_probability():
    changed = 0
    for seed in range(12):
        out = draw(seed, mask_only=1, corrupted=1, without_intensity=1)
        assert not {"probability", "intensity", "reference"} & out.keys()
        changed += bool((out["image"] != out["label"]).any())
    assert changed >= 10
    plain = [draw(seed, mask_only=1, corrupted=0) for seed in range(12)]
    assert any(torch.equal(out["image"].float(), out["label"]) for out in plain)


def test_some_masks_are_the_truth_as_it_is():
    for seed in range(6):
        out = draw(seed, untouched=1, corrupted=1)
        assert torch.equal(out["image"].float(), out["label"]) and "probability" not in out
    kept = sum(
        torch.equal(o["image"].float(), o["label"]) for o in (draw(s, untouched=0.5) for s in range(40))
    )
    assert 10 < kept < 32


def test_a_patch_lies_in_the_volume_and_holds_some_of_the_organ():
    for seed in range(10):
        out = draw(seed, patch=(16, 50, 8))
        assert out["image"].shape == out["label"].shape == (1, 16, 30, 8)
        assert out["image"].any() or out["label"].any()


def test_absent_organs_are_not_drawn():
    sample = RandOrganSampled(patch=(60, 30, 20)).set_random_state(0)
    assert {sample(case((2, 4)))["organ"] for _ in range(12)} == {"heart", "aorta"}
    with pytest.raises(InputError, match="none of the organs"):
        sample(case(()))


def test_a_seed_decides():
    first, again = draw(5), draw(5)
    assert first.keys() == again.keys() and torch.equal(first["image"], again["image"])


def test_mistakes_are_told():
    with pytest.raises(InputError, match="mask_only"):
        RandOrganSampled(mask_only=2)
    assert RandOrganSampleD is RandOrganSampled
