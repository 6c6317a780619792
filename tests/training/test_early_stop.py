"""Early stopping: when it stops, and that a restart goes on counting."""

import pytest
from ignite.engine import Engine, Events

from monai_sparse_refine.training import EarlyStop


def _train(stop: EarlyStop, metrics: list[float], *, epochs: int = 20, first: int = 0) -> int:
    """Epochs that a training runs whose validations give these metrics."""
    trainer, evaluator = Engine(lambda engine, batch: None), Engine(lambda engine, batch: None)
    values = iter(metrics[first:] + metrics[-1:] * epochs)

    @evaluator.on(Events.EPOCH_COMPLETED)
    def _validate(engine: Engine) -> None:
        engine.state.key_metric_name = "dice"
        engine.state.metrics["dice"] = next(values)

    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda engine: evaluator.run([0]))
    stop.attach(evaluator)
    stop.set_trainer(trainer)
    trainer.run([0], max_epochs=epochs)
    return trainer.state.epoch


def test_stops_after_validations_without_a_better_one():
    assert _train(EarlyStop(3), [0.1, 0.5, 0.4, 0.3, 0.5, 0.6]) == 5


def test_goes_on_while_it_improves():
    assert _train(EarlyStop(3), [i / 100 for i in range(30)]) == 20


def test_a_smaller_rise_than_the_threshold_does_not_count():
    assert _train(EarlyStop(2, threshold=0.05), [0.1, 0.12, 0.13, 0.14]) == 3


def test_a_metric_that_should_fall():
    assert _train(EarlyStop(3, mode="min"), [9.0, 5.0, 2.0, 3.0, 2.0, 4.0, 1.0]) == 6
    assert _train(EarlyStop(3, mode="min"), [9.0 - i / 10 for i in range(30)]) == 20


def test_a_metric_that_is_no_number_is_no_better_one():
    nan = float("nan")
    assert _train(EarlyStop(3), [0.5, nan, 0.4, nan, 0.6]) == 4
    assert _train(EarlyStop(3, mode="min"), [nan, 5.0, nan, nan, nan]) == 5


def test_a_restart_goes_on_counting():
    trainer = Engine(lambda engine, batch: None)
    before, after = EarlyStop(3), EarlyStop(3)
    before.set_trainer(trainer)
    after.set_trainer(trainer)
    engine = Engine(lambda engine, batch: None)
    engine.state.key_metric_name = "dice"
    for value in (0.5, 0.4, 0.4):
        engine.state.metrics = {"dice": value}
        before(engine)
    after.load_state_dict(before.state_dict())
    assert not trainer.should_terminate and not after.done
    after(engine)
    assert trainer.should_terminate and after.done


def test_a_forgotten_trainer_is_told():
    with pytest.raises(RuntimeError, match="set_trainer"):
        EarlyStop(3).state_dict()
