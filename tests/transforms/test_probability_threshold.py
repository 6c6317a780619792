import numpy as np
import pytest
import torch

from monai_sparse_refine.errors import InputError
from monai_sparse_refine.transforms import dice_threshold
from monai_sparse_refine.transforms.probability_threshold import checked_threshold, raised_over


def _expected_dice(probability: torch.Tensor, threshold: float) -> float:
    chosen = probability >= threshold
    return float(2 * probability[chosen].sum() / (chosen.sum() + probability.sum()))


def test_it_is_half_of_the_best_expected_dice():
    probability = torch.rand(4000, generator=torch.Generator().manual_seed(0), dtype=torch.float64) ** 3
    threshold = dice_threshold(probability, lowest=0.01)
    best = max(_expected_dice(probability, t / 1000) for t in range(10, 600))
    assert threshold == pytest.approx(best / 2, abs=2e-3)
    assert _expected_dice(probability, threshold) == pytest.approx(best, abs=1e-4)


def test_sure_probabilities_keep_a_half_and_guesses_the_lower_bound():
    assert dice_threshold(torch.tensor([0.0, 0.0, 1.0, 1.0])) == 0.5
    guesses = torch.cat([torch.full((100,), 0.1), torch.full((9,), 0.45), torch.ones(1)])
    assert dice_threshold(guesses) == 0.4
    assert dice_threshold(guesses, lowest=0.46) == 0.46


@pytest.mark.parametrize("values", [[], [0.0, 0.0], [0.1, 0.3]])
def test_without_anything_likely_it_is_a_half(values):
    assert dice_threshold(torch.tensor(values)) == 0.5


def test_what_is_no_threshold_is_refused():
    for threshold in (0.3, "auto", None):
        assert checked_threshold(threshold) == threshold
    for threshold in (0, 1, -0.5, "half"):
        with pytest.raises(InputError, match="threshold"):
            checked_threshold(threshold)


def test_raised_is_just_over_the_threshold_and_nothing_falls():
    probability = torch.tensor([0.1, 0.45, 0.8, 0.2]).reshape(1, 4, 1, 1)
    where = np.array([True, True, True, False]).reshape(4, 1, 1)
    out = raised_over(probability, where, threshold=0.45).flatten()
    assert bool((out[:2] > 0.45).all()) and bool((out[:2] < 0.450001).all())
    assert out[2:].tolist() == probability.flatten()[2:].tolist()
