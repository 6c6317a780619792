"""Training on a budget: every network learns, a killed run ends as an uninterrupted one, other settings are refused."""

import itertools

import pytest
import torch

from benchmarks.paper_training import _mark_known, make_network, predict, train
from monai_sparse_refine.errors import InputError
from monai_sparse_refine.networks import DenseTwin, MaskRefiner


class Boxes:
    """Hollow boxes of two sizes with an open side."""

    name = "boxes"

    def __init__(self, fails_at=None):
        self.fails_at = fails_at
        self.seen = []

    def training_pair(self, size, *, seed):
        self.seen.append((size, seed))
        if len(self.seen) == self.fails_at:
            raise KeyboardInterrupt
        complete = torch.zeros(1, size, size, size, dtype=torch.uint8)
        a, b = 1 + seed % 3, size - 2
        complete[:, a:b, a:b, a:b] = 1
        complete[:, a + 1 : b - 1, a + 1 : b - 1, a + 1 : b - 1] = 0
        defective = complete.clone()
        defective[..., : size // 3] = 0
        return defective, complete


def ticks():
    """A clock that moves one second from the beginning of a step to its end."""
    return itertools.count().__next__


STAGES = {12: 3.0, 16: 2.0}  # with such a clock: steps


WIDTHS = (4, 8, 8)


def small(kind="sparse"):
    torch.manual_seed(0)
    return DenseTwin(channels=WIDTHS) if kind == "dense" else MaskRefiner(channels=WIDTHS, engine="native")


def test_networks_are_made_by_name_and_seed():
    first, same, other = (make_network("sparse ch1", engine="native", seed=seed) for seed in (0, 0, 1))
    values = [torch.cat([p.flatten() for p in network.parameters()]) for network in (first, same, other)]
    assert torch.equal(values[0], values[1]) and not torch.equal(values[0], values[2])
    twin = make_network("dense ch1", engine="native", seed=0)
    assert isinstance(twin, DenseTwin)
    assert sum(p.numel() for p in twin.parameters()) == len(values[0]) == 434_686


def test_a_killed_run_ends_as_an_uninterrupted_one(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.paper_training.SAVE_EVERY_SECONDS", -1.0)
    whole = small()
    assert train(whole, Boxes(), STAGES, tmp_path / "a", seed=5, clock=ticks()) == {12: 3, 16: 2}
    with pytest.raises(KeyboardInterrupt):
        train(small(), Boxes(fails_at=3), STAGES, tmp_path / "b", seed=5, clock=ticks())
    resumed, skulls = small(), Boxes()
    assert train(resumed, skulls, STAGES, tmp_path / "b", seed=5, clock=ticks()) == {12: 3, 16: 2}
    assert skulls.seen[0] == (12, 7)  # the third step of seed 5
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    again = Boxes()
    train(small(), again, STAGES, tmp_path / "b", seed=5, clock=ticks())
    assert not again.seen
    assert {file.name for file in (tmp_path / "b").iterdir()} == {
        "checkpoint.pt",
        "weights_12.pt",
        "weights_16.pt",
    }


def test_a_run_may_be_prolonged_at_the_fine_end(tmp_path):
    train(small(), Boxes(), {12: 3.0}, tmp_path / "a", seed=5, clock=ticks())
    prolonged, whole = small(), small()
    assert train(prolonged, Boxes(), STAGES, tmp_path / "a", seed=5, clock=ticks()) == {12: 3, 16: 2}
    train(whole, Boxes(), STAGES, tmp_path / "b", seed=5, clock=ticks())
    for name, value in whole.state_dict().items():
        assert torch.equal(value, prolonged.state_dict()[name]), name
    assert train(small(), Boxes(), {12: 3.0}, tmp_path / "a", seed=5, clock=ticks()) == {12: 3}


def test_other_settings_are_refused(tmp_path):
    train(small(), Boxes(), {12: 1.0}, tmp_path, seed=0, clock=ticks())
    with pytest.raises(InputError, match="other settings"):
        train(small(), Boxes(), {12: 2.0}, tmp_path, seed=0, clock=ticks())


@pytest.mark.parametrize("kind", ["sparse", "dense"])
def test_a_network_learns(tmp_path, kind):
    network, losses = small(kind), {}

    def keep(text):
        losses[steps] = float(text.rsplit(" ", 1)[1])

    for steps in (1, 25):
        network = small(kind)
        train(network, Boxes(), {16: float(steps)}, tmp_path / str(steps), seed=0, clock=ticks(), report=keep)
    assert losses[25] < 0.7 * losses[1]
    defective, _ = Boxes().training_pair(16, seed=1)
    found = predict(network, defective)
    assert found.shape == defective.shape and found.dtype == torch.bool


@pytest.mark.parametrize("kind", ["sparse", "dense"])
def test_both_kinds_of_networks_know_the_cells_of_the_input(kind):
    image = torch.zeros(1, 1, 10, 10, 10)
    image[..., 2:5, 2:5, 7] = 1
    prediction = _mark_known(small(kind)(image, target=image), image)
    for level in prediction.iter_levels():
        assert bool(level.known.any()) and torch.equal(level.known, level.target), level.stride
