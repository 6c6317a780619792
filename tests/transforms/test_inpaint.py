import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monai_sparse_refine.transforms.inpaint import inpaint_tension


def _map(size: int = 31) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Coordinates of a map's pixels, and a hole in it."""
    x, y = np.meshgrid(np.arange(size, dtype=float), np.arange(size, dtype=float), indexing="ij")
    return x, y, np.hypot(x - 14, y - 16) < 8


def _spoilt(values: np.ndarray, hole: np.ndarray) -> np.ndarray:
    return np.where(hole, np.nan_to_num(values, nan=0) + 1e6, values)


@pytest.mark.parametrize("length", [0.0, 2.0, 50.0])
def test_a_plane_is_carried_on_whatever_the_unknown_pixels_held(length):
    x, y, hole = _map()
    plane = 0.5 * x - 0.2 * y + 3
    np.testing.assert_allclose(inpaint_tension(_spoilt(plane, hole), hole, length=length), plane, atol=1e-8)


def test_a_stiff_plate_carries_on_a_dome_that_a_membrane_cuts_off():
    x, y, hole = _map()
    dome = -0.01 * ((x - 14) ** 2 + (y - 16) ** 2)
    plate, membrane = (inpaint_tension(_spoilt(dome, hole), hole, length=length) for length in (100.0, 0.0))
    assert abs(plate - dome)[hole].max() < 0.02
    assert membrane[14, 16] < dome[14, 16] - 0.5


@given(st.integers(0, 2**32 - 1))
def test_a_membrane_stays_within_the_values_around(seed):
    _, _, hole = _map()
    values = np.random.default_rng(seed).uniform(1.0, 2.0, hole.shape)
    filled = inpaint_tension(_spoilt(values, hole), hole)
    assert np.array_equal(filled[~hole], values[~hole])
    assert values[~hole].min() <= filled[hole].min() and filled[hole].max() <= values[~hole].max()


def test_a_map_without_unknown_pixels_stays_as_it_is():
    x, _, hole = _map()
    assert np.array_equal(inpaint_tension(x, np.zeros_like(hole)), x)
