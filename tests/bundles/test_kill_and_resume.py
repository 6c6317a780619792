"""A training that is killed in the middle of an epoch goes on after the last whole one, and nothing is lost."""

import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

EPOCHS = 4


def _wait_for(path: Path, process: subprocess.Popen, *, seconds: float = 240) -> None:
    end = time.monotonic() + seconds
    while not path.exists():
        if process.poll() is not None or time.monotonic() > end:
            process.kill()
            pytest.fail(f"{path} did not come:\n{process.communicate()[0]}")
        time.sleep(0.02)


@pytest.fixture(scope="module")
def runs(tmp_path_factory, start_training) -> tuple[Path, list[str]]:
    """Work folder, and what the restart and a start after the end printed."""
    work = tmp_path_factory.mktemp("work")
    options = {"work_dir": work, "max_epochs": EPOCHS, "batch_size": 1}
    first = start_training("train.json", **options)
    # An epoch has four steps of some tenths of a second: right after its checkpoint the next one is running.
    _wait_for(work / "checkpoints" / "checkpoint_epoch=2.pt", first)
    time.sleep(0.1)
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert not (work / "checkpoints" / f"checkpoint_epoch={EPOCHS}.pt").exists()
    printed = []
    for _ in range(2):
        process = start_training("train.json", **options)
        text = process.communicate(timeout=300)[0]
        assert process.returncode == 0, text
        printed.append(text)
    return work, printed


@pytest.mark.slow
def test_it_goes_on_after_the_last_whole_epoch(runs):
    work, (restart, _) = runs
    assert (
        f"resuming after epoch 2 of {EPOCHS}" in restart or f"resuming after epoch 3 of {EPOCHS}" in restart
    )
    assert (work / "checkpoints" / f"checkpoint_epoch={EPOCHS}.pt").is_file()


@pytest.mark.slow
def test_every_epoch_is_trained_and_validated_in_the_end(runs):
    work, _ = runs
    metrics = set()
    for folder in (work / "logs").glob("events.out.tfevents.*"):
        events = EventAccumulator(str(folder)).Reload()
        if "val_implant_dice" in events.Tags()["scalars"]:
            metrics |= {event.step for event in events.Scalars("val_implant_dice")}
    assert metrics == set(range(1, EPOCHS + 1))


@pytest.mark.slow
def test_optimiser_schedule_and_stopping_go_on(runs):
    work, _ = runs
    state = torch.load(work / "checkpoints" / f"checkpoint_epoch={EPOCHS}.pt", weights_only=True)
    assert state["lr_scheduler"]["last_epoch"] == EPOCHS
    steps = {int(entry["step"]) for entry in state["optimizer"]["state"].values()}
    assert steps == {4 * EPOCHS}
    assert state["early_stop"]["best_score"] is not None
    assert not list((work / "checkpoints").glob(".*"))


@pytest.mark.slow
def test_a_start_after_the_end_trains_no_more(runs):
    _, (_, after) = runs
    assert f"all {EPOCHS} epochs are done" in after and "Epoch[1]" not in after
