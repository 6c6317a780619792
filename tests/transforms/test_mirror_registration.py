import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

from monai_sparse_refine.transforms.mirror_registration import register_mirror
from tests.transforms.test_mirror import SPACING, _head


def _bent(head: np.ndarray, mm: float) -> np.ndarray:
    """The head with its right half made broader by up to ``mm``, smoothly."""
    x, y, z = np.meshgrid(*(np.arange(n, dtype=float) for n in head.shape), indexing="ij")
    shift = mm / SPACING[0] * np.clip((x - head.shape[0] / 2) / (head.shape[0] / 2), 0, 1)
    return map_coordinates(head.astype(np.float32), [x - shift, y, z], order=1) >= 0.5


def _fractions(mask: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(mask[None]).float()


def _dice(first: np.ndarray, second: np.ndarray) -> float:
    return float(2 * (first & second).sum() / (first.sum() + second.sum()))


@pytest.fixture
def crooked() -> np.ndarray:
    return _bent(_head(), 8.0)


def test_the_mirror_image_comes_to_lie_on_the_bone(crooked):
    mirror = crooked[::-1].copy()
    moved = register_mirror(_fractions(mirror), _fractions(crooked), spacing=SPACING)[0].numpy() >= 0.5
    assert _dice(mirror, crooked) < 0.75 < 0.88 < _dice(moved, crooked)


def test_a_hole_is_filled_better_and_does_not_pull(crooked):
    holed = crooked.copy()
    holed[38:, 22:48, 22:] = False
    hole = crooked & ~holed
    mirror = holed[::-1].copy()
    moved = register_mirror(_fractions(mirror), _fractions(holed), spacing=SPACING)[0].numpy() >= 0.5
    near = np.zeros_like(hole)
    near[38:, 22:48, 22:] = True
    assert _dice(mirror & near, hole) < 0.7 < 0.8 < _dice(moved & near, hole)


def test_a_mirror_image_that_fits_stays_and_is_repeatable():
    head = _fractions(_head())
    first, second = (register_mirror(head, head, spacing=SPACING) for _ in range(2))
    assert torch.equal(first, second)
    assert first.shape == head.shape and first.dtype == torch.float32
    assert float((first - head).abs().mean()) < 0.005


def test_without_shared_bone_the_mirror_image_stays_as_it_is():
    mask, mirror = torch.zeros(1, 40, 40, 40), torch.zeros(1, 40, 40, 40)
    mask[:, :10], mirror[:, 30:] = 1, 1
    assert torch.equal(register_mirror(mirror, mask, spacing=(1, 1, 1)), mirror)
    assert torch.equal(register_mirror(mirror, torch.zeros_like(mask), spacing=(1, 1, 1)), mirror)


def test_gradients_are_not_asked_of_the_caller(crooked):
    mirror = crooked[::-1].copy()
    with torch.no_grad():
        moved = register_mirror(_fractions(mirror), _fractions(crooked), spacing=SPACING)
    assert not moved.requires_grad
