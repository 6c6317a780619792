import pytest
import torch

from monai_sparse_refine.errors import InputError
from monai_sparse_refine.training import PrepareCoarseBatch


@pytest.fixture
def batch() -> dict:
    generator = torch.Generator().manual_seed(0)
    return {"label": (torch.rand(1, 1, 16, 16, 16, generator=generator) > 0.5).to(torch.uint8)}


def test_factors_and_rules_are_drawn_and_targets_go_to_the_network(batch):
    prepare = PrepareCoarseBatch(weights=(1, 1, 1), other_rules=0.5, seed=0)
    factors = set()
    for _ in range(40):
        coarse, fine, arguments, options = prepare(batch)
        assert arguments == () and options["target"] is fine and fine.dtype == coarse.dtype == torch.float32
        assert set(coarse.unique().tolist()) <= {0.0, 1.0}
        factor = fine.shape[2] // coarse.shape[2]
        factors.add((factor, len(fine), fine.shape[2]))
    # Half as large crops, eight times as many, where the factor is 2.
    assert factors == {(2, 8, 8), (4, 1, 16), (8, 1, 16)}


def test_the_usual_coarse_mask_is_half_full_cells(batch):
    coarse, fine, *_ = PrepareCoarseBatch((2,), other_rules=0, seed=0)(batch)
    share = torch.nn.functional.avg_pool3d(fine, 4)
    assert torch.equal(coarse, (share >= 0.5).float())


def test_split_crops_are_the_parts_of_the_whole(batch):
    _, fine, *_ = PrepareCoarseBatch((1,), seed=0)(batch)
    assert int(fine.sum()) == int(batch["label"].sum())
    assert torch.equal(fine[0, 0], batch["label"][0, 0, :8, :8, :8].float())
    _, whole, *_ = PrepareCoarseBatch((1,), split=False, seed=0)(batch)
    assert torch.equal(whole, batch["label"].float())


def test_given_steps_are_not_random(batch):
    coarse, fine, arguments, options = PrepareCoarseBatch()({**batch, "steps": torch.tensor([3])})
    assert coarse.shape[2:] == (2, 2, 2) and options == {"steps": 3} and arguments == ()
    assert torch.equal(fine, batch["label"].float())


def test_wrong_weights_are_named():
    with pytest.raises(InputError, match="weights"):
        PrepareCoarseBatch((1, 2), weights=(1, 0, 0))


def test_given_steps_of_one_batch_are_equal():
    batch = {"label": torch.ones(2, 1, 8, 8, 8), "steps": torch.tensor([1, 2])}
    with pytest.raises(InputError, match=r"cases of \[1, 2\] steps"):
        PrepareCoarseBatch((1, 2), seed=0)(batch)
