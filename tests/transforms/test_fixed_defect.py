import pytest
import torch

from monai_sparse_refine.data import skull_phantom
from monai_sparse_refine.transforms import FixedCranialDefectd


@pytest.fixture(scope="module")
def skull():
    return skull_phantom(2, spacing=4.0)


def test_same_seed_same_hole_in_any_order(skull):
    cut = FixedCranialDefectd("image", implant_key="implant")
    first = cut({"image": skull, "kind": "random", "seed": 7})
    cut({"image": skull, "kind": "cube", "seed": 8})
    again = cut({"image": skull, "kind": "random", "seed": 7})
    assert torch.equal(first["image"].as_tensor(), again["image"].as_tensor())
    assert torch.equal((first["image"] + first["implant"]).as_tensor(), skull.as_tensor())
    assert 0.005 < float(first["implant"].sum() / skull.sum()) < 0.3
    assert first["implant"].affine.equal(skull.affine)


def test_kind_and_seed_matter(skull):
    cut = FixedCranialDefectd("image")
    holes = [
        cut({"image": skull, "kind": kind, "seed": seed})["image"].as_tensor()
        for kind, seed in (("random", 7), ("random", 9), ("bilateral", 7))
    ]
    assert not torch.equal(holes[0], holes[1]) and not torch.equal(holes[0], holes[2])


def test_the_size_that_was_drawn_is_told_and_its_range_may_differ_by_kind(skull):
    cut = FixedCranialDefectd("image", size_mm={"random": (20.0, 21.0)}, size_key="size_mm")
    assert 20 <= cut({"image": skull, "kind": "random", "seed": 7})["size_mm"] <= 21
    assert 42 <= cut({"image": skull, "kind": "bilateral", "seed": 7})["size_mm"] <= 60
