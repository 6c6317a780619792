import contextlib

import pytest
import torch
from ignite.engine import Engine, Events
from monai.handlers import CheckpointSaver
from torch import nn

from monai_sparse_refine.data import load_weights
from monai_sparse_refine.errors import InputError
from monai_sparse_refine.training import BestWeights, export_weights, resume


def _trainer(network: nn.Module, optimizer: torch.optim.Optimizer) -> Engine:
    def step(engine, batch):
        optimizer.zero_grad()
        network(batch).sum().backward()
        optimizer.step()

    return Engine(step)


def _run(folder, epochs: int, *, stop_in: int | None = None) -> tuple[nn.Module, int, int]:
    torch.manual_seed(0)
    network = nn.Linear(2, 1)
    optimizer = torch.optim.Adam(network.parameters())
    objects = {"network": network, "optimizer": optimizer}
    trainer = _trainer(network, optimizer)
    trainer.state.epoch_length, trainer.state.max_epochs = 3, epochs
    CheckpointSaver(str(folder), objects, save_interval=1, n_saved=1).attach(trainer)
    done = resume(trainer, objects, folder)
    steps = 0

    def count(engine):
        nonlocal steps
        steps += 1
        if stop_in is not None and engine.state.epoch == stop_in:
            raise KeyboardInterrupt  # a kill in the middle of an epoch

    trainer.add_event_handler(Events.ITERATION_COMPLETED, count)
    with contextlib.suppress(KeyboardInterrupt):
        trainer.run([torch.ones(1, 2)] * 3, max_epochs=epochs)
    return network, done, steps


def test_resume_after_a_kill_gives_what_an_unbroken_run_gives(tmp_path):
    whole, _, steps = _run(tmp_path / "a", 4)
    assert steps == 12
    _run(tmp_path / "b", 4, stop_in=3)
    resumed, done, steps = _run(tmp_path / "b", 4)
    assert (done, steps) == (2, 6)
    torch.testing.assert_close(resumed.weight, whole.weight, rtol=0, atol=0)


def test_nothing_to_resume_from(tmp_path):
    assert _run(tmp_path / "none", 1)[1] == 0


def test_checkpoint_of_another_network_is_refused(tmp_path):
    _run(tmp_path, 1)
    other = nn.Linear(3, 1)
    with pytest.raises(InputError, match="does not fit"):
        resume(Engine(lambda e, b: None), {"network": other}, tmp_path)


def _validator(network: nn.Module, path, values: list[float]) -> None:
    evaluator = Engine(lambda engine, batch: None)
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


def test_export_writes_a_plain_state_dict(tmp_path):
    network = nn.Linear(2, 2)
    torch.save({"model": network.state_dict(), "metric": 1.0}, tmp_path / "best.pt")
    export_weights(tmp_path / "best.pt", tmp_path / "model.pt")
    assert set(torch.load(tmp_path / "model.pt", weights_only=True)) == {"weight", "bias"}
    load_weights(nn.Linear(2, 2), tmp_path / "model.pt")
    torch.save({"other": {}}, tmp_path / "bad.pt")
    with pytest.raises(InputError, match="no checkpoint"):
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
