"""Closing by a ball at chosen voxels: what a plain morphological closing of the whole volume says of them."""

import numpy as np
import pytest
from scipy import ndimage

from monai_sparse_refine.transforms.ball_closing import closed_by_ball, joined_to, near_both

MM = np.array([1.0, 1.0, 2.0])


def _masks(seed=0):
    """Blobs of bone and, outside it, of an implant, clear of the volume's border."""
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.normal(size=(26, 24, 16)), 1.5)
    other = ndimage.gaussian_filter(rng.normal(size=(26, 24, 16)), 1.5)
    inner = np.zeros(noise.shape, dtype=bool)
    inner[6:-6, 6:-6, 4:-4] = True
    bone = (noise > 0.1) & inner
    return (other > 0.1) & inner & ~bone, bone


def _closing(mask, radius):
    """Erosion of the dilation by a ball, by distances."""
    free = ndimage.distance_transform_edt(~mask, sampling=MM) > radius * (1 + 1e-9)
    return ndimage.distance_transform_edt(~free, sampling=MM) > radius * (1 + 1e-9)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("radius", [2.0, 3.0])
def test_it_is_what_the_implant_adds_to_a_closing(seed, radius):
    implant, bone = _masks(seed)
    points = near_both(implant, bone, mm=MM, radius=radius)
    closed = closed_by_ball(points, implant, bone, mm=MM, radius=radius)
    expected = _closing(implant | bone, radius) & ~_closing(bone, radius) & ~implant & ~bone
    assert expected.any()
    found = np.zeros_like(bone)
    found[tuple(points[closed].T)] = True
    for mask in (implant, bone):  # others are not looked at
        expected &= ndimage.distance_transform_edt(~mask, sampling=MM) <= radius
    np.testing.assert_array_equal(found, expected)


def test_points_are_near_both_and_among_the_chosen():
    implant, bone = _masks()
    points = near_both(implant, bone, mm=MM, radius=2.0)
    near = np.ones_like(bone)
    for mask in (implant, bone):
        near &= ndimage.distance_transform_edt(~mask, sampling=MM) <= 2.0
    np.testing.assert_array_equal(points, np.argwhere(near & ~bone & ~implant))
    chosen = np.zeros_like(bone)
    chosen[:13] = True
    np.testing.assert_array_equal(
        near_both(implant, bone, mm=MM, radius=2.0, among=chosen), points[points[:, 0] < 13]
    )
    nothing = np.zeros_like(bone)
    assert near_both(nothing, bone, mm=MM, radius=2.0).shape == (0, 3)
    assert near_both(implant, nothing, mm=MM, radius=2.0).shape == (0, 3)


def test_fewer_balls_close_at_least_as_much_and_little_more():
    implant, bone = _masks()
    points = near_both(implant, bone, mm=MM, radius=3.0)
    all_balls = closed_by_ball(points, implant, bone, mm=MM, radius=3.0)
    few = closed_by_ball(points, implant, bone, mm=MM, radius=3.0, step_mm=2.0)
    one_each = closed_by_ball(points, implant, bone, mm=MM, radius=3.0, step_mm=1.0)
    np.testing.assert_array_equal(one_each, all_balls)
    assert 0 < all_balls.sum() <= few.sum() < 2 * all_balls.sum()
    none = np.zeros((0, 3), dtype=int)
    assert closed_by_ball(none, implant, bone, mm=MM, radius=3.0).shape == (0,)


def test_joined_is_what_a_path_leads_to():
    implant = np.zeros((8, 3, 3), dtype=bool)
    added = implant.copy()
    implant[0, 0, 0] = True
    added[1, 1, 1] = added[2, 1, 1] = added[5, 1, 1] = True  # over a corner, over a face, over none
    joined = joined_to(implant, added)
    assert np.argwhere(joined).tolist() == [[1, 1, 1], [2, 1, 1]]
    assert not joined_to(np.zeros_like(implant), np.zeros_like(implant)).any()
