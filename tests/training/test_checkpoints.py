import operator

import pytest
import torch
from ignite.engine import Engine, Events
from torch import nn

from monai_sparse_refine.data import load_weights
from monai_sparse_refine.errors import InputError
from monai_sparse_refine.training import BestWeights, export_weights


def _validator(network: nn.Module, path, values: list[float], better=None) -> None:
    evaluator = Engine(lambda engine, batch: None)
    if better is not None:
        evaluator.metric_cmp_fn = better
    BestWeights(network, path).attach(evaluator)
    for value in values:
        evaluator.state.metrics = {"dice": value}
        evaluator.state.key_metric_name = "dice"
        with torch.no_grad():
            network.weight.fill_(value)
        evaluator.fire_event(Events.COMPLETED)


def test_best_weights_survive_a_worse_run(tmp_path):
    path = tmp_path / "best.pt"
    _validator(nn.Linear(1, 1), path, [0.2, 0.7, 0.5])
    assert torch.load(path, weights_only=True)["metric"] == 0.7
    _validator(nn.Linear(1, 1), path, [0.6])  # a new run that never gets as good
    best = torch.load(path, weights_only=True)
    assert best["metric"] == 0.7 and float(best["model"]["weight"]) == pytest.approx(0.7)
    _validator(nn.Linear(1, 1), path, [0.8])
    assert torch.load(path, weights_only=True)["metric"] == 0.8


def test_a_metric_that_should_fall_and_one_that_is_no_number(tmp_path):
    path = tmp_path / "best.pt"
    _validator(nn.Linear(1, 1), path, [9.0, 2.0, 5.0], operator.lt)
    assert torch.load(path, weights_only=True)["metric"] == 2.0
    _validator(nn.Linear(1, 1), path, [float("nan"), 3.0], operator.lt)
    assert torch.load(path, weights_only=True)["metric"] == 2.0
    other = tmp_path / "other.pt"
    _validator(nn.Linear(1, 1), other, [0.9, float("nan"), 0.1])
    assert torch.load(other, weights_only=True)["metric"] == pytest.approx(0.9)
    _validator(nn.Linear(1, 1), tmp_path / "never.pt", [float("nan")])
    assert not (tmp_path / "never.pt").exists()


def test_export_writes_a_plain_state_dict(tmp_path):
    network = nn.Linear(2, 2)
    torch.save({"model": network.state_dict(), "metric": 1.0}, tmp_path / "best.pt")
    export_weights(tmp_path / "best.pt", tmp_path / "model.pt")
    assert set(torch.load(tmp_path / "model.pt", weights_only=True)) == {"weight", "bias"}
    load_weights(nn.Linear(2, 2), tmp_path / "model.pt")
    torch.save({"other": {}}, tmp_path / "bad.pt")
    with pytest.raises(InputError, match="expected a state dict"):
        export_weights(tmp_path / "bad.pt", tmp_path / "model2.pt")


def test_export_averages_checkpoints_of_one_network(tmp_path):
    paths = []
    for number in (1.0, 3.0):
        network = nn.BatchNorm1d(1)
        nn.init.constant_(network.weight, number)
        network.num_batches_tracked += int(number)
        paths.append(tmp_path / f"{number}.pt")
        torch.save({"network": network.state_dict(), "optimizer": {}}, paths[-1])
    export_weights(paths, tmp_path / "model.pt")
    mean = torch.load(tmp_path / "model.pt", weights_only=True)
    assert float(mean["weight"]) == 2.0 and int(mean["num_batches_tracked"]) == 3
    # What it wrote can be averaged again, as the weights that a training started from.
    export_weights([tmp_path / "model.pt", paths[0]], tmp_path / "again.pt")
    assert float(torch.load(tmp_path / "again.pt", weights_only=True)["weight"]) == 1.5
    torch.save({"network": nn.Linear(1, 1).state_dict()}, tmp_path / "other.pt")
    with pytest.raises(InputError, match="another network"):
        export_weights([*paths, tmp_path / "other.pt"], tmp_path / "never.pt")
    assert not (tmp_path / "never.pt").exists()
