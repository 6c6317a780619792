import torch
from ignite.engine import Engine
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from monai_sparse_refine.networks import LevelPrediction, SparsePrediction
from monai_sparse_refine.training import LevelStats


def _prediction() -> SparsePrediction:
    truth = torch.tensor([True, True, False, False, False])
    coordinates = torch.zeros(5, 4, dtype=torch.int32)
    return SparsePrediction(
        [LevelPrediction(stride, coordinates, torch.zeros(5), truth) for stride in (2, 1)]
    )


def test_loss_and_generated_voxels_per_level(tmp_path):
    trainer = Engine(lambda engine, batch: {"pred": _prediction()})
    LevelStats(tmp_path, interval=2).attach(trainer)
    trainer.run([0] * 4, max_epochs=1)
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    names = {
        f"{kind}/stride_{stride:02d}" for kind in ("level_loss", "voxels_over_target") for stride in (1, 2)
    }
    assert set(events.Tags()["scalars"]) == names
    ratio = events.Scalars("voxels_over_target/stride_01")
    assert [entry.step for entry in ratio] == [2, 4]
    assert ratio[0].value == 2.5


def test_dense_predictions_are_passed_over(tmp_path):
    trainer = Engine(lambda engine, batch: {"pred": torch.zeros(1)})
    LevelStats(tmp_path, interval=1).attach(trainer)
    trainer.run([0], max_epochs=1)
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert events.Tags()["scalars"] == []
