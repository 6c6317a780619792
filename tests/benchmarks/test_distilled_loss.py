import pytest
import torch

from benchmarks.distilled_loss import DistilledLoss, distillation
from monai_sparse_refine.losses import LevelwiseGenerativeLoss
from monai_sparse_refine.networks import MaskRefiner
from monai_sparse_refine.networks.sparse_unet import LevelPrediction


def level(stride, coordinates, logits, known=None):
    rows = torch.tensor([[0, *c] for c in coordinates], dtype=torch.int32)
    values = torch.tensor(logits, requires_grad=True)
    known = None if known is None else torch.tensor(known)
    return LevelPrediction(stride, rows, values, torch.zeros(len(logits), dtype=torch.bool), known)


@pytest.fixture
def levels():
    coarse = level(2, [(0, 0, 0), (2, 0, 0), (4, 0, 0)], [1.0, -2.0, 0.5], [False, False, True])
    fine = level(1, [(0, 0, 0), (1, 1, 1), (3, 0, 1), (4, 0, 0), (9, 9, 9)], [0.2, 0.7, -1.0, 3.0, 5.0])
    return coarse, fine


def test_a_cell_is_compared_with_the_largest_of_its_children(levels):
    coarse, fine = levels
    loss = distillation(coarse, fine, teacher="coarse")
    taught = torch.tensor([1.0, -2.0]).sigmoid()
    answer = torch.tensor([0.7, -1.0])
    by_hand = -(taught * answer.sigmoid().log() + (1 - taught) * (-answer).sigmoid().log()).mean()
    torch.testing.assert_close(loss, by_hand)
    loss.backward()
    assert coarse.logits.grad is None  # the teacher learns nothing
    assert fine.logits.grad.nonzero().flatten().tolist() == [1, 2]


def test_the_finer_level_may_teach(levels):
    coarse, fine = levels
    distillation(coarse, fine, teacher="fine").backward()
    assert fine.logits.grad is None
    assert coarse.logits.grad.nonzero().flatten().tolist() == [0, 1]  # the third is known


def test_levels_without_common_cells_add_nothing(levels):
    coarse, _ = levels
    empty = level(1, [(0, 0, 0)], [0.0])
    empty = empty._replace(coordinates=empty.coordinates[:0], logits=empty.logits[:0])
    for other in (empty, level(1, [(9, 9, 9)], [1.0])):
        loss = distillation(coarse, other, teacher="coarse")
        assert loss.item() == 0
        loss.backward()


def test_a_network_learns_from_it():
    torch.manual_seed(0)
    network = MaskRefiner(channels=(4, 4, 4), engine="native")
    mask = torch.zeros(1, 1, 12, 12, 12)
    mask[:, :, 3:9, 3:9, 3:9] = 1
    target = torch.zeros_like(mask)
    target[:, :, 3:12, 3:9, 3:9] = 1
    prediction = network(mask, target=target)
    plain = LevelwiseGenerativeLoss(normalize=True)(prediction)
    loss = DistilledLoss(normalize=True, distil_weight=0.5)(prediction)
    assert loss > plain
    loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)
