import contextlib

import pytest
import torch
from ignite.engine import Engine, Events
from monai.data import CacheDataset, DataLoader
from monai.engines import SupervisedTrainer
from monai.handlers import CheckpointSaver, LrScheduleHandler
from monai.transforms import RandLambda, Randomizable
from torch import nn

from monai_sparse_refine.errors import InputError
from monai_sparse_refine.training import resume


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
    CheckpointSaver(str(folder), objects, save_interval=1, n_saved=2).attach(trainer)
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


def _files(folder) -> list[str]:
    return sorted(path.name for path in folder.glob("*.pt"))


def test_resume_after_a_kill_gives_what_an_unbroken_run_gives(tmp_path):
    whole, _, steps = _run(tmp_path / "a", 4)
    assert steps == 12
    _run(tmp_path / "b", 4, stop_in=3)
    resumed, done, steps = _run(tmp_path / "b", 4)
    assert (done, steps) == (2, 6)
    torch.testing.assert_close(resumed.weight, whole.weight, rtol=0, atol=0)


def test_a_half_written_checkpoint_is_passed_over(tmp_path, capsys):
    whole, _, _ = _run(tmp_path / "a", 4)
    _run(tmp_path / "b", 3)
    last = tmp_path / "b" / "checkpoint_epoch=3.pt"
    last.write_bytes(last.read_bytes()[:500])
    resumed, done, _ = _run(tmp_path / "b", 4)
    assert done == 2 and "passing over" in capsys.readouterr().out
    torch.testing.assert_close(resumed.weight, whole.weight, rtol=0, atol=0)
    for path in (tmp_path / "b").glob("*.pt"):
        path.write_bytes(b"")
    with pytest.raises(InputError, match="none of the checkpoints"):
        _run(tmp_path / "b", 4)


def test_checkpoints_that_no_saver_remembers_are_removed(tmp_path):
    _run(tmp_path, 2)
    _run(tmp_path, 4)
    assert _files(tmp_path) == [f"checkpoint_epoch={n}.pt" for n in (2, 3, 4)]
    _run(tmp_path, 5)
    assert _files(tmp_path) == ["checkpoint_epoch=4.pt", "checkpoint_epoch=5.pt"]


def test_nothing_to_resume_from(tmp_path):
    assert _run(tmp_path / "none", 1)[1] == 0


def test_checkpoint_of_another_network_is_refused(tmp_path):
    _run(tmp_path, 1)
    other = nn.Linear(3, 1)
    with pytest.raises(InputError, match="does not fit"):
        resume(Engine(lambda e, b: None), {"network": other}, tmp_path)


def test_a_single_object_and_a_trainer_that_does_not_know_its_epochs(tmp_path):
    torch.manual_seed(0)
    network, other = nn.Linear(2, 1), nn.Linear(2, 1)
    trainer = Engine(lambda engine, batch: None)
    CheckpointSaver(str(tmp_path), {"network": network}, save_interval=1).attach(trainer)
    trainer.run([0], max_epochs=2)
    again = Engine(lambda engine, batch: None)
    with pytest.raises(InputError, match="MONAI trainer"):
        resume(again, {"network": other}, tmp_path)
    again.state.max_epochs, again.state.epoch_length = 3, 1
    assert resume(again, {"network": other}, tmp_path) == 2
    torch.testing.assert_close(other.weight, network.weight, rtol=0, atol=0)


class _Draw(RandLambda):
    """Notes a random number for every case that it sees."""

    def __init__(self, seen: list) -> None:
        super().__init__(func=lambda x: x)
        self.seen = seen

    def __call__(self, data, randomize=True, lazy=None):
        self.seen.append((int(data), float(self.R.uniform())))
        return data


class _Prepare(Randomizable):
    def __init__(self, seen: list) -> None:
        self.set_random_state(0)
        self.seen = seen

    def __call__(self, batch, device=None, non_blocking=False, **kwargs):
        self.seen.append(float(self.R.uniform()))
        return batch.float().reshape(-1, 1), torch.zeros(len(batch), 1)


def _monai_trainer(folder, epochs, *, schedule=None, rate=1.0, cases=6):
    torch.manual_seed(0)
    network = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(network.parameters(), lr=rate)
    lr_scheduler = schedule(optimizer, epochs) if schedule else None
    drawn: list = []
    prepared: list = []
    dataset = CacheDataset(list(range(cases)), _Draw(drawn), cache_rate=0, progress=False)
    rates: list[float] = []
    trainer = SupervisedTrainer(
        device="cpu",
        max_epochs=epochs,
        train_data_loader=DataLoader(dataset, batch_size=1, shuffle=True, num_workers=0),
        network=network,
        optimizer=optimizer,
        loss_function=nn.MSELoss(),
        prepare_batch=_Prepare(prepared),
        decollate=False,
        epoch_length=3,
    )
    trainer.add_event_handler(Events.EPOCH_STARTED, lambda _: rates.append(optimizer.param_groups[0]["lr"]))
    objects = {"network": network, "optimizer": optimizer}
    if lr_scheduler is not None:
        LrScheduleHandler(lr_scheduler, print_lr=False).attach(trainer)
        objects["lr_scheduler"] = lr_scheduler
    CheckpointSaver(str(folder), objects, save_interval=1, n_saved=2).attach(trainer)
    resume(trainer, objects, folder)
    trainer.run()
    return drawn, prepared, rates


def test_a_restart_draws_other_cases_and_numbers_than_the_first_epoch(tmp_path):
    whole = _monai_trainer(tmp_path / "whole", 2)
    first = _monai_trainer(tmp_path / "broken", 1)
    second = _monai_trainer(tmp_path / "broken", 2)
    assert first[0] == whole[0][:3] and len(second[0]) == 3
    assert [case for case, _ in second[0]] != [case for case, _ in first[0]]
    assert {number for _, number in second[0]}.isdisjoint(number for _, number in first[0])
    assert set(second[1]).isdisjoint(first[1])


def _cosine(optimizer, epochs):
    return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs, eta_min=0.01)


def test_an_unchanged_schedule_goes_on(tmp_path):
    whole = _monai_trainer(tmp_path / "whole", 4, schedule=_cosine)[2]

    def of_four(optimizer, epochs):
        return _cosine(optimizer, 4)

    first = _monai_trainer(tmp_path / "broken", 2, schedule=of_four)[2]
    assert first + _monai_trainer(tmp_path / "broken", 4, schedule=of_four)[2] == whole


def test_more_epochs_and_another_rate_take_the_new_schedule(tmp_path, capsys):
    whole = _monai_trainer(tmp_path / "whole", 8, schedule=_cosine)[2]
    _monai_trainer(tmp_path / "longer", 4, schedule=_cosine)
    longer = _monai_trainer(tmp_path / "longer", 8, schedule=_cosine)[2]
    assert longer == pytest.approx(whole[4:]) and longer == sorted(longer, reverse=True)
    assert "schedule has changed; it goes on at 0.5" in capsys.readouterr().out
    slower = _monai_trainer(tmp_path / "longer", 9, schedule=_cosine, rate=0.1)[2]
    assert slower == pytest.approx([_rate(0.1, 8, 9)])


def _rate(first: float, epoch: int, epochs: int) -> float:
    half = (1 + torch.cos(torch.tensor(torch.pi * epoch / epochs, dtype=torch.float64))) / 2
    return 0.01 + (first - 0.01) * float(half)


def test_a_schedule_that_follows_the_metric_keeps_its_rate(tmp_path):
    network = nn.Linear(1, 1)

    def objects(rate):
        optimizer = torch.optim.SGD(network.parameters(), lr=rate)
        schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.1, patience=0)
        return {"network": network, "optimizer": optimizer, "lr_scheduler": schedule}

    saved, again = objects(1.0), objects(1.0)
    for value in (1.0, 2.0):
        saved["lr_scheduler"].step(value)
    trainer = Engine(lambda engine, batch: None)
    CheckpointSaver(str(tmp_path), saved, save_interval=1).attach(trainer)
    trainer.run([0], max_epochs=1)
    fresh = Engine(lambda engine, batch: None)
    fresh.state.max_epochs, fresh.state.epoch_length = 2, 1
    resume(fresh, again, tmp_path)
    assert again["optimizer"].param_groups[0]["lr"] == pytest.approx(0.1)
    assert again["lr_scheduler"].best == 1.0
