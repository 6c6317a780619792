"""Closing an implant and the bone by a ball: corners and slits fill, hollows of either one do not."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor
from scipy import ndimage

from monai_sparse_refine.errors import InputError
from monai_sparse_refine.metrics import border_gap
from monai_sparse_refine.transforms import CloseGaps, CloseGapsd

SHAPE = (60, 60, 24)


def _masks(spacing=(0.5, 0.5, 1.0)):
    """A plate of bone 6 mm thick with a square hole, the true implant, and one whose rim is rounded off."""
    bone = torch.zeros(1, *SHAPE, dtype=torch.uint8)
    bone[..., 10:16] = 1
    truth = torch.zeros_like(bone)
    truth[:, 15:45, 15:45, 10:16] = 1
    rounded = truth.clone()
    for x in range(15, 45):
        for y in range(15, 45):
            inset = 6 - min(x - 15, 44 - x) - min(y - 15, 44 - y)
            if inset > 0:  # the corners of the square, 3 mm of each side
                rounded[:, x, y] = 0
    rounded[:, 15:45, 15:18, 14:] = 0  # and a step at one side
    affine = torch.diag(torch.tensor([*spacing, 1.0], dtype=torch.float64))
    defective = bone * (1 - truth)
    return (MetaTensor(mask, affine=affine) for mask in (rounded, truth, defective))


def test_corners_and_steps_are_filled_and_little_else():
    rounded, truth, defective = _masks()
    closed = CloseGaps()(rounded, defective)
    assert isinstance(closed, MetaTensor) and closed.dtype == torch.uint8 and closed.shape == rounded.shape
    assert border_gap(rounded, truth, defective) > 2
    assert border_gap(closed, truth, defective) <= 2
    assert bool((closed >= rounded).all()) and not bool((closed * defective).any())
    added = (closed > rounded).as_tensor()
    assert added[truth.as_tensor() == 1].float().sum() > 0.9 * added.sum()


def test_hollows_of_the_bone_and_of_the_implant_stay():
    rounded, _, defective = _masks()
    # A groove in the bone, 2 mm from the hole, and a slit in the middle of the implant: both 1 mm wide.
    defective[:, 9:11, :, 13:16] = 0
    rounded[:, 30:32, 20:40, 10:16] = 0
    added = (CloseGaps()(rounded, defective) > rounded).as_tensor()
    assert not bool(added[:, 9:11].any()) and not bool(added[:, 30:32, 24:36].any())
    assert bool(added.any())


def test_what_is_far_from_the_implant_is_none_of_its_business():
    rounded, _, defective = _masks()
    rounded[:, :, 30:] = 0  # half of the hole stays open: no ball may bridge 7 mm
    added = (CloseGaps()(rounded, defective) > rounded).as_tensor()
    assert not bool(added[:, 22:38, 38:].any())


@pytest.mark.parametrize("options", [{"radius_mm": 0.0}, {"below_mm": 0.5}])
def test_it_can_be_off(options):
    rounded, _, defective = _masks()
    assert torch.equal(CloseGaps(**options)(rounded, defective).as_tensor(), rounded.as_tensor())


def test_grids_as_coarse_as_the_networks_own_are_left_alone():
    rounded, _, defective = _masks((1.5, 1.5, 2.0))
    assert torch.equal(CloseGaps()(rounded, defective).as_tensor(), rounded.as_tensor())


def test_an_empty_implant_stays_empty_and_one_at_the_border_is_closed():
    rounded, _, defective = _masks()
    assert not bool(CloseGaps()(rounded * 0, defective).any())
    # Half of all cut away at the volume's end: the same as before within.
    half = [MetaTensor(mask.as_tensor()[:, :30], affine=mask.affine) for mask in (rounded, defective)]
    whole = CloseGaps()(rounded, defective).as_tensor()[:, :20]
    assert torch.equal(CloseGaps()(*half).as_tensor()[:, :20], whole)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.8, 3.0))
def test_it_is_the_closing_by_a_ball_where_both_are_near(seed, radius):
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.normal(size=(20, 18, 16)), 1.5)
    bone = noise > np.quantile(noise, 0.75)
    implant = ~bone & (ndimage.gaussian_filter(rng.normal(size=bone.shape), 1.5) > 0.05)
    mm = np.array([1.0, 0.8, 1.2])
    affine = torch.diag(torch.tensor([*mm, 1.0], dtype=torch.float64))
    pair = [
        MetaTensor(torch.from_numpy(mask)[None].to(torch.uint8), affine=affine) for mask in (implant, bone)
    ]
    closed = CloseGaps(radius_mm=radius)(*pair)[0].numpy() > 0

    def distance(mask):
        return (
            ndimage.distance_transform_edt(~mask, sampling=mm) if mask.any() else np.full(mask.shape, np.inf)
        )

    def closing(mask):  # the mask and what no ball outside of it reaches
        free = distance(mask) > radius * (1 + 1e-9)
        return ~(distance(free) <= radius * (1 + 1e-9))

    near = (distance(bone) <= radius) & (distance(implant) <= radius)
    allowed = closing(bone | implant) & ~closing(bone) & near & ~bone
    expected = ndimage.binary_propagation(implant, structure=np.ones((3, 3, 3)), mask=implant | allowed)
    np.testing.assert_array_equal(closed, expected)


def test_the_dictionary_version_and_clear_errors():
    rounded, _, defective = _masks()
    out = CloseGapsd("implant", "skull")({"implant": rounded, "skull": defective})
    assert torch.equal(out["implant"].as_tensor(), CloseGaps()(rounded, defective).as_tensor())
    assert CloseGapsd("implant", allow_missing_keys=True)({"image": defective}).keys() == {"image"}
    with pytest.raises(InputError, match="radius_mm is -1"):
        CloseGaps(radius_mm=-1)
    with pytest.raises(InputError, match="shape"):
        CloseGaps()(rounded, defective[:, :-1])
