"""Surface distances, components and volume of organs, against hand-computed and MONAI's values."""

import numpy as np
import pytest
import torch
from monai.metrics import compute_average_surface_distance, compute_surface_dice

from monai_sparse_refine.errors import InputError
from monai_sparse_refine.metrics import assd, components, surface_dice, volume_error

MM = (0.8, 1.1, 2.5)


def block(start: int, stop: int) -> np.ndarray:
    mask = np.zeros((20, 18, 16), bool)
    mask[start:stop, 4:12, 4:12] = True
    return mask


def blobs(seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=(24, 22, 20))
    x, y, z = np.ogrid[:24, :22, :20]
    return (x - 12) ** 2 + (y - 11) ** 2 + (z - 10) ** 2 + 12 * noise < 49


def one_hot(mask: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.stack([~mask, mask])[None].astype(np.float32))


def test_two_plates_have_the_distance_between_them():
    first, second = np.zeros((2, 12, 9, 9), bool)
    first[3], second[6] = True, True
    assert assd(first, second, spacing=(2, 1, 1)) == pytest.approx(6)
    assert surface_dice(first, second, tolerance=6, spacing=(2, 1, 1)) == 1
    assert surface_dice(first, second, tolerance=5.9, spacing=(2, 1, 1)) == 0


@pytest.mark.parametrize("seed", range(3))
def test_as_monai_computes_them(seed):
    a, b = blobs(seed), blobs(seed + 10)
    expected = compute_average_surface_distance(one_hot(a), one_hot(b), symmetric=True, spacing=MM)
    assert assd(a, b, spacing=MM) == pytest.approx(float(expected), rel=1e-5)
    expected = compute_surface_dice(one_hot(a), one_hot(b), [2.0], spacing=MM)
    assert surface_dice(a, b, tolerance=2.0, spacing=MM) == pytest.approx(float(expected), abs=1e-6)


def test_equal_and_empty_masks():
    empty = np.zeros((20, 18, 16), bool)
    whole = block(3, 9)
    assert assd(whole, whole, spacing=1) == assd(empty, empty, spacing=1) == 0
    assert (
        surface_dice(whole, whole, tolerance=2, spacing=1)
        == surface_dice(empty, empty, tolerance=2, spacing=1)
        == 1
    )
    assert assd(whole, empty, spacing=2) == pytest.approx(2 * np.linalg.norm([20, 18, 16]))
    assert surface_dice(empty, whole, tolerance=2, spacing=1) == 0


def test_components_and_volume():
    mask = block(2, 5) | block(9, 12)
    assert components(mask) == 2 and components(mask * 0) == 0
    diagonal = np.zeros((3, 3, 3), bool)
    diagonal[0, 0, 0] = diagonal[1, 1, 1] = True
    assert components(diagonal) == 1
    assert volume_error(block(2, 6), block(2, 12)) == pytest.approx(-60)
    assert volume_error(mask, mask) == volume_error(mask * 0, mask * 0) == 0
    assert volume_error(mask, mask * 0) == np.inf


def test_mistakes_are_told():
    with pytest.raises(InputError, match="shapes differ"):
        assd(block(1, 2), np.zeros((3, 3, 3)), spacing=1)
    with pytest.raises(InputError, match="spacing"):
        surface_dice(block(1, 2), block(1, 3), tolerance=2)
    with pytest.raises(InputError, match="tolerance"):
        surface_dice(block(1, 2), block(1, 3), tolerance=-1, spacing=1)
