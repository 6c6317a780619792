"""Distances to a set of voxels are those of a distance transform, up to the limit."""

import numpy as np
from scipy import ndimage

from monai_sparse_refine.transforms.near_distance import distance_to


def test_they_are_those_of_a_distance_transform_up_to_the_limit():
    random = np.random.default_rng(0)
    targets = random.random((12, 9, 15)) < 0.01
    mm = np.array([0.7, 1.3, 2.0])
    points = np.argwhere(~targets)
    every = ndimage.distance_transform_edt(~targets, sampling=mm)[tuple(points.T)]
    found = distance_to(points, np.argwhere(targets), mm, 4.0)
    assert (every <= 4.0).any() and (every > 4.0).any()
    np.testing.assert_array_equal(np.isfinite(found), every <= 4.0)
    np.testing.assert_allclose(found[every <= 4.0], every[every <= 4.0])


def test_the_limit_itself_counts_and_nothing_is_near_no_target():
    points = np.array([[0, 0, 0], [0, 0, 1]])
    assert distance_to(points, np.array([[3, 4, 0]]), np.ones(3), 5.0).tolist() == [5.0, np.inf]
    assert np.isinf(distance_to(points, np.zeros((0, 3), dtype=int), np.ones(3), 5.0)).all()
