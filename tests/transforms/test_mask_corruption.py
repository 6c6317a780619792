"""Faults of segmentation masks: each does what it says, in mm, and none empties a mask."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor
from scipy import ndimage

from monai_sparse_refine.errors import InputError
from monai_sparse_refine.transforms import (
    CORRUPTION_KINDS,
    RandMaskCorruption,
    RandMaskCorruptionD,
    RandMaskCorruptiond,
    RandMaskCorruptionDict,
)
from monai_sparse_refine.transforms.mask_damage import DAMAGE

MM = np.array([1.0, 1.0, 2.5])


def tube() -> np.ndarray:
    """A tube of 10 mm radius along the last axis, 75 mm long, in a roomy volume."""
    x, y, z = np.ogrid[:70, :70, :60]
    return ((x - 35) ** 2 + (y - 35) ** 2 <= 100) & (z >= 15) & (z < 45)


def damaged(kind: str, seed: int = 0, mask: np.ndarray | None = None) -> np.ndarray:
    return DAMAGE[kind](tube() if mask is None else mask, MM, np.random.RandomState(seed))


@pytest.mark.parametrize("kind", ["holes", "missing_slices", "missing_end", "erosion", "lost_component"])
def test_what_is_lost_is_only_lost(kind):
    for seed in range(5):
        out = damaged(kind, seed)
        assert out.any() and out.sum() < tube().sum() and not (out & ~tube()).any()


@pytest.mark.parametrize("kind", ["blobs", "leaks", "stumps", "prolonged_end", "dilation"])
def test_what_is_added_is_only_added(kind):
    for seed in range(5):
        out = damaged(kind, seed)
        assert out.sum() > tube().sum() and (out & tube()).sum() == tube().sum()


def test_sizes_are_in_mm():
    away = ndimage.distance_transform_edt(~tube(), sampling=MM)
    deep = ndimage.distance_transform_edt(tube(), sampling=MM)
    for seed in range(10):
        assert away[damaged("dilation", seed)].max() <= 4
        assert away[damaged("blobs", seed)].max() <= 30 + 8
        assert away[damaged("leaks", seed)].max() <= 25 + 6
        assert 6 - 2 <= away[damaged("stumps", seed)].max() <= 14
        longer = damaged("prolonged_end", seed)
        assert 30 + 4 <= longer.any((0, 1)).sum() <= 30 + 16  # 10 to 40 mm, or to the end of the volume
        assert away[longer].max() <= 40 * 1.5
        kept = damaged("erosion", seed)
        assert deep[tube() & ~kept].max() <= 4
        slices = damaged("missing_end", seed).any((0, 1)).sum()
        assert 15 <= slices <= 30 - 2  # 5 mm at least, half of the length at most


def test_missing_slices_lie_across_the_thick_axis():
    out = damaged("missing_slices")
    whole = out.sum((0, 1)) == tube().sum((0, 1))
    assert (whole | (out.sum((0, 1)) == 0)).all() and not whole.all()
    turned = DAMAGE["missing_slices"](tube().transpose(2, 0, 1), MM[[2, 0, 1]], np.random.RandomState(0))
    np.testing.assert_array_equal(turned, out.transpose(2, 0, 1))


def test_a_prolonged_end_is_like_the_tube():
    for seed in range(5):
        out = damaged("prolonged_end", seed)
        areas = out.sum((0, 1))
        assert set(areas[areas > 0]) == {tube().sum((0, 1)).max()}


def test_steps_keep_the_volume_about_and_change_the_surface():
    ratios = [damaged("steps", seed).sum() / tube().sum() for seed in range(10)]
    assert 0.9 < np.mean(ratios) < 1.1
    assert (damaged("steps") != tube()).any()


def test_of_several_components_a_small_one_is_lost():
    mask = tube()
    mask[2:6, 2:6, 2:6] = True
    np.testing.assert_array_equal(damaged("lost_component", mask=mask), tube())


@pytest.mark.parametrize("kind", CORRUPTION_KINDS)
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**31 - 1), voxels=st.integers(1, 30))
def test_no_fault_fails_or_empties_a_tiny_mask(kind, seed, voxels):
    random = np.random.RandomState(seed)
    mask = np.zeros((9, 8, 7), np.uint8)
    mask.ravel()[random.choice(mask.size, voxels, replace=False)] = 1
    corrupt = RandMaskCorruption(kinds=[kind], spacing=(1, 2, 3)).set_random_state(seed)
    out = corrupt(mask[None])
    assert out.shape == (1, 9, 8, 7) and out.dtype == np.uint8 and out.any()
    assert set(np.unique(out)) <= {0, 1}


def test_a_seed_decides_everything():
    source = MetaTensor(torch.from_numpy(tube()[None].astype(np.uint8)), affine=np.diag([*MM, 1]))
    first = RandMaskCorruption().set_random_state(3)(source)
    again = RandMaskCorruption().set_random_state(3)(source)
    other = RandMaskCorruption().set_random_state(4)(source)
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert isinstance(first, MetaTensor) and first.dtype == torch.uint8
    torch.testing.assert_close(first.affine, source.affine)
    assert source.sum() == tube().sum()


def test_as_many_faults_as_asked_for():
    corrupt = RandMaskCorruption(count=(2, 3)).set_random_state(0)
    seen = set()
    for _ in range(30):
        corrupt.randomize()
        assert len(set(corrupt.chosen)) == len(corrupt.chosen)
        seen.add(len(corrupt.chosen))
    assert seen == {2, 3}


def test_empty_masks_and_probability_zero_pass():
    empty = np.zeros((1, 5, 5, 5), np.float32)
    assert not RandMaskCorruption(spacing=1)(empty).any()
    mask = tube()[None]
    assert RandMaskCorruption(prob=0)(mask) is mask


def test_every_key_gets_the_same_faults():
    data = {"a": tube()[None], "b": tube()[None], "c": 1}
    out = RandMaskCorruptiond(["a", "b"], spacing=MM.tolist()).set_random_state(1)(data)
    np.testing.assert_array_equal(out["a"], out["b"])
    assert (out["a"] != data["a"]).any() and out["c"] == 1
    assert RandMaskCorruptionD is RandMaskCorruptionDict is RandMaskCorruptiond


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kinds": ["holes", "moths"]}, "moths"),
        ({"kinds": []}, "nothing"),
        ({"count": (0, 2)}, "count"),
        ({"count": (3, 2)}, "count"),
    ],
)
def test_bad_options_are_told(options, message):
    with pytest.raises(InputError, match=message):
        RandMaskCorruption(**options)


def test_an_unknown_spacing_is_told():
    with pytest.raises(InputError, match="spacing is not known"):
        RandMaskCorruption()(tube()[None])
