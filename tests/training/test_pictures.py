"""Validation pictures: colours of right, missing and surplus voxels, and what TensorBoard gets."""

import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from monai_sparse_refine.training import ValidationPictures
from monai_sparse_refine.training.pictures import BONE, MISSING, RIGHT, SURPLUS, slices_picture


def _case() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A plate with a hole of 2 x 2 voxels; one half of it is filled, and one voxel outside."""
    complete = np.zeros((6, 7, 8), dtype=bool)
    complete[1:5, 1:6, 3] = True
    defective = complete.copy()
    defective[2:4, 2:4, 3] = False
    completed = defective.copy()
    completed[2, 2:4, 3] = True
    completed[0, 0, 3] = True
    return defective, completed, complete


def test_colours_tell_right_missing_and_surplus():
    picture = slices_picture(*_case())
    assert picture.shape[2] == 3 and picture.dtype == np.float32
    axial = picture[:, -7:-1]  # 6 wide, the last column is the margin
    for colour, voxels in ((BONE, 16), (RIGHT, 2), (MISSING, 2), (SURPLUS, 1)):
        assert np.isclose(axial, colour).all(axis=-1).sum() == voxels


def test_an_intact_empty_case_gives_an_empty_picture():
    nothing = np.zeros((4, 5, 6), dtype=bool)
    assert slices_picture(nothing, nothing, nothing).max() == 0


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_gets_the_same_cases_at_every_validation(tmp_path):
    defective, completed, complete = (torch.from_numpy(mask)[None].float() for mask in _case())
    item = {"defective": defective, "pred": completed, "label": complete}
    evaluator = Engine(lambda engine, batch: [dict(item)])
    ValidationPictures(tmp_path, count=2).attach(evaluator)
    for epoch in (3, 6):
        evaluator.add_event_handler(
            Events.STARTED, lambda engine, epoch=epoch: setattr(engine.state, "epoch", epoch - 1)
        )
        evaluator.run([0, 0, 0], max_epochs=epoch)
    events = EventAccumulator(str(tmp_path)).Reload()
    assert events.Tags()["images"] == ["validation/case_0", "validation/case_1"]
    assert [image.step for image in events.Images("validation/case_0")] == [3, 6]
