import math

import pytest
import torch

from monai_sparse_refine.losses import LevelwiseGenerativeLoss, soft_dice_loss
from monai_sparse_refine.networks import LevelPrediction, SparsePrediction


def _level(stride: int, logits: list[float], truth: list[bool]) -> LevelPrediction:
    coordinates = torch.arange(4 * len(logits)).reshape(-1, 4).int()
    return LevelPrediction(stride, coordinates, torch.tensor(logits, requires_grad=True), torch.tensor(truth))


@pytest.fixture
def prediction() -> SparsePrediction:
    return SparsePrediction([_level(2, [0.0, 0.0], [True, False]), _level(1, [2.0], [True])])


def test_sum_over_levels_of_the_mean_cross_entropy(prediction):
    expected = math.log(2) + math.log(1 + math.exp(-2))
    assert LevelwiseGenerativeLoss()(prediction).item() == pytest.approx(expected)


def test_normalised_and_weighted(prediction):
    a, b = math.log(2), math.log(1 + math.exp(-2))
    assert float(LevelwiseGenerativeLoss(normalize=True)(prediction)) == pytest.approx((a + b) / 2)
    weighted = LevelwiseGenerativeLoss(normalize=True, level_weights=(1, 3))
    assert float(weighted(prediction)) == pytest.approx((a + 3 * b) / 4)


def test_dice_term_of_the_finest_level(prediction):
    level = prediction.levels[-1]
    p = 1 / (1 + math.exp(-2))
    assert float(soft_dice_loss(level)) == pytest.approx(1 - (2 * p + 1) / (p**2 + 1 + 1), rel=1e-4)
    plain, with_dice = LevelwiseGenerativeLoss(), LevelwiseGenerativeLoss(dice_weight=0.5)
    assert float(with_dice(prediction) - plain(prediction)) == pytest.approx(
        0.5 * float(soft_dice_loss(level)), rel=1e-4
    )


def test_dice_is_that_of_what_was_not_known_and_best_at_a_soft_target():
    level = _level(1, [0.0, 5.0], [True, True])._replace(target=torch.tensor([0.5, 1.0]))
    known = level._replace(known=torch.tensor([False, True]))
    assert float(soft_dice_loss(known, smooth=0.0)) == pytest.approx(0.0, abs=1e-6)
    off = known._replace(logits=torch.tensor([3.0, 5.0]))
    assert float(soft_dice_loss(off, smooth=0.0)) > 0.05


def test_known_cells_count_less():
    level = _level(1, [0.0, 2.0], [True, False])._replace(known=torch.tensor([False, True]))
    a, b = math.log(2), math.log(1 + math.exp(2))
    loss = LevelwiseGenerativeLoss(known_weight=0.25)(SparsePrediction([level]))
    assert loss.item() == pytest.approx((a + 0.25 * b) / 1.25)
    assert LevelwiseGenerativeLoss()(SparsePrediction([level])).item() == pytest.approx((a + b) / 2)


def test_levels_without_voxels_cost_nothing():
    empty = SparsePrediction([_level(2, [1.0], [True]), _level(1, [], [])])
    loss = LevelwiseGenerativeLoss()(empty)
    loss.backward()
    assert float(loss) == pytest.approx(math.log(1 + math.exp(-1)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_sums_over_many_voxels_do_not_overflow_half_precision(dtype):
    count = 200_000
    zeros = torch.zeros(count, dtype=torch.bool)
    level = LevelPrediction(1, torch.zeros(count, 4).int(), torch.zeros(count, dtype=dtype), zeros, zeros)
    loss = LevelwiseGenerativeLoss(known_weight=0.1, dice_weight=0.5)(SparsePrediction([level]))
    assert float(loss) == pytest.approx(math.log(2) + 0.5, rel=1e-3)


def test_errors_say_what_to_do(prediction):
    with pytest.raises(TypeError, match="PrepareBatchExtraInput"):
        LevelwiseGenerativeLoss()(torch.zeros(1, 1, 2, 2, 2))
    with pytest.raises(ValueError, match="level_weights"):
        LevelwiseGenerativeLoss(level_weights=(1.0,))(prediction)
    with pytest.raises(ValueError, match="known_weight"):
        LevelwiseGenerativeLoss(known_weight=2.0)
    blind = SparsePrediction([level._replace(target=None) for level in prediction.levels])
    with pytest.raises(ValueError, match="target"):
        LevelwiseGenerativeLoss()(blind)
