"""The overall shape of a vault: polynomials are found, outliers count little, both sides are the same."""

import numpy as np
import pytest

from monai_sparse_refine.transforms.vault_trend import mean_trend, wall_trend


@pytest.fixture(scope="module")
def directions() -> np.ndarray:
    """Unit vectors of a map of 41 x 41 pixels of 4 degrees."""
    x, y = np.meshgrid(np.arange(-20, 21), np.arange(-20, 21), indexing="ij")
    distance = np.hypot(x, y)
    angle = np.deg2rad(4.0) * distance
    away = np.stack([x, y], axis=-1) / np.maximum(distance, 1e-6)[..., None]
    return np.concatenate([np.sin(angle)[..., None] * away, np.cos(angle)[..., None]], axis=-1)


@pytest.fixture(scope="module")
def known(directions) -> np.ndarray:
    """All of the upper half but a large hole around the vertex."""
    up = directions[..., 2]
    return (up > 0.05) & (up < 0.85)


@pytest.mark.parametrize("degree", [2, 4])
def test_a_flat_vertex_is_found_from_the_walls_around(directions, known, degree):
    right, front, up = np.moveaxis(directions, -1, 0)
    flat = 1.02 + 0.02 * front - 0.12 * up * front + 0.05 * right**2 - 0.04 * up
    trend = wall_trend(np.where(known, flat, 7.0), known, directions, degree=degree)
    assert np.abs(trend - flat)[directions[..., 2] > 0.05].max() < 0.012


def test_a_burr_hole_or_a_plate_moves_it_little(directions, known):
    share = np.ones(known.shape)
    share[8:12, 18:23] = 1.25
    share[30:33, 18:23] = 0.8
    trend = wall_trend(share, known, directions, degree=2)
    plain = np.abs(trend - 1.0)[directions[..., 2] > 0.05]
    assert plain.max() < 0.02


def test_both_sides_are_the_same(directions, known):
    share = 1.0 + 0.1 * directions[..., 0] + 0.05 * directions[..., 1]
    trend = wall_trend(share, known, directions, degree=4)
    np.testing.assert_allclose(trend, trend[::-1], atol=1e-9)


def test_the_mean_of_an_ordinary_vault_is_the_model(directions, known):
    np.testing.assert_allclose(mean_trend(np.ones(known.shape), known, directions), 1.0, atol=1e-9)
