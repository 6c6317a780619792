import pytest
import torch
from monai.data import MetaTensor

from monai_sparse_refine.errors import InputError
from monai_sparse_refine.transforms import RandCropHoled


def _pair() -> dict:
    label = MetaTensor(torch.zeros(1, 30, 30, 30), affine=torch.diag(torch.tensor([2.0, 2.0, 2.0, 1.0])))
    label[:, 5:25, 5:25, 5:25] = 1
    image = label.clone()
    image[:, 10:14, 12:16, 20:25] = 0
    return {"label": label, "image": torch.cat([image, image])}


def test_the_hole_stays_with_its_margin():
    out = RandCropHoled(["image", "label"], margin=(3, 3), prob=1).set_random_state(0)(_pair())
    assert out["label"].shape == (1, 10, 10, 11) and out["image"].shape == (2, 10, 10, 11)
    assert float((out["label"] - out["image"][:1]).sum()) == 4 * 4 * 5
    assert out["label"].affine[:3, 3].tolist() == [14.0, 18.0, 34.0]


def test_margins_end_at_the_volume_and_vary():
    crop = RandCropHoled(["image", "label"], margin=(0, 20), prob=1).set_random_state(0)
    shapes = {tuple(crop(_pair())["label"].shape) for _ in range(5)}
    assert len(shapes) > 1 and all(4 <= shape[1] <= 30 for shape in shapes)


def test_whole_skulls_stay_whole():
    intact = _pair()
    intact["image"] = intact["label"]
    assert RandCropHoled(["image", "label"], prob=1)(intact)["label"].shape == (1, 30, 30, 30)
    assert RandCropHoled(["image", "label"], prob=0)(_pair())["label"].shape == (1, 30, 30, 30)


def test_a_margin_that_is_none_is_told():
    with pytest.raises(InputError, match="margin"):
        RandCropHoled("image", margin=(5, 2))
