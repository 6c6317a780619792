"""Averaging with answers on other grids: around the implant, and nowhere else."""

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, Flip, Orientationd, SpatialCropd
from torch import nn

from monai_sparse_refine.data import skull_phantom
from monai_sparse_refine.errors import InputError
from monai_sparse_refine.inferers import FlipAverageInferer
from monai_sparse_refine.transforms import (
    AverageGrids,
    AverageGridsd,
    RandCranialDefect,
    ResampleToSpacingd,
)


class Filler(nn.Module):
    """A network that knows the complete skull, which is the input's second channel, and remembers what it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.sharpness = nn.Parameter(torch.tensor(20.0))
        self.shapes: list[tuple[int, ...]] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert not self.training and not torch.is_grad_enabled()
        self.shapes.append(tuple(x.shape))
        return self.sharpness * (x[:, 1:2] - 0.5)


@pytest.fixture(scope="module")
def skull() -> MetaTensor:
    return skull_phantom(4, spacing=2.0)


@pytest.fixture(scope="module")
def holed(skull) -> MetaTensor:
    return RandCranialDefect("parietotemporal", size_mm=(30.0, 30.0)).set_random_state(1)(skull)


@pytest.fixture(scope="module")
def truth(skull, holed) -> torch.Tensor:
    return (skull.as_tensor() > 0) & (holed.as_tensor() == 0)


@pytest.fixture(scope="module")
def guesses(skull, holed) -> MetaTensor:
    """The holed skull and the complete one, on a grid of 1.5 mm in RAS over a box."""
    steps = Compose(
        [
            SpatialCropd("image", roi_slices=[slice(2, None), slice(None, -3), slice(1, None)]),
            Orientationd("image", axcodes="RAS", labels=None),
            ResampleToSpacingd("image", spacing=1.5, threshold=None),
        ]
    )
    both = MetaTensor(torch.cat([holed.as_tensor(), skull.as_tensor()]).float(), affine=holed.affine)
    return steps({"image": both})["image"]


@pytest.fixture(scope="module")
def timid(skull, holed) -> MetaTensor:
    """An answer that holds the implant for barely likely enough."""
    values = 0.6 * skull.as_tensor().float()
    return MetaTensor(values.maximum(holed.as_tensor().float()), affine=skull.affine)


def _near(mask: torch.Tensor, voxels: int) -> torch.Tensor:
    return torch.nn.functional.max_pool3d(mask.float()[None], 2 * voxels + 1, 1, voxels)[0] > 0


def test_every_answer_counts_as_much_as_the_first(holed, guesses, timid, truth):
    network = Filler()
    three = AverageGrids(network, spacings=[1.5, 1.5, 1.5], margin_mm=6.0)
    with pytest.raises(InputError, match="guesses_key"):
        three(timid, holed)
    one = AverageGrids(network, spacings=[1.5], margin_mm=6.0)(timid, holed, guesses)
    before, once, often = (torch.as_tensor(p) for p in (timid, one, three(timid, holed, guesses)))
    # 1/2 and 3/4 of the same other answer.
    torch.testing.assert_close((often - before) / 3, (once - before) / 2, atol=1e-5, rtol=0)
    assert float(once[truth].mean()) > 0.7 > float(before[truth].mean())
    changed = once != before
    assert bool(changed[truth].all()) and not bool((changed & ~_near(truth, 4)).any())


def test_the_network_sees_the_surroundings_on_each_grid(holed, guesses, timid, truth):
    network = Filler()
    AverageGrids(network, spacings=[3.0, 1.5, 1.0], context_mm=9.0, inferer=FlipAverageInferer())(
        timid, holed, guesses
    )
    assert len(network.shapes) == 6  # each, and its flip
    extent = [
        2.0 * np.ptp(np.flatnonzero(truth.numpy().any(axis=tuple({0, 1, 2, 3} - {a})))) for a in (1, 2, 3)
    ]
    for shape, spacing in zip(network.shapes[::2], [3.0, 1.5, 1.0], strict=True):
        sides = spacing * np.asarray(shape[2:])
        assert shape[:2] == (1, 2) and np.all(sides >= np.asarray(extent) + 9.0)
        assert np.all(sides <= np.asarray(extent) + 2 * 9.0 + 8.0)


def test_a_box_too_large_for_a_grid_gets_a_coarser_one(holed, guesses, timid):
    free, bounded = Filler(), Filler()
    AverageGrids(free, spacings=[3.0, 1.0])(timid, holed, guesses)
    coarse, fine = (int(np.prod(shape[2:])) for shape in free.shapes)
    limit = (coarse + fine) // 2
    AverageGrids(bounded, spacings=[3.0, 1.0], max_box_voxels=limit)(timid, holed, guesses)
    assert bounded.shapes[0] == free.shapes[0]  # it fits
    # But for the whole voxels that a side is rounded to.
    assert 0.9 * limit < np.prod(bounded.shapes[1][2:]) < 1.1 * limit < fine


def test_orientation_does_not_matter_and_keys_are_read(holed, guesses, timid):
    average = AverageGridsd("pred", Filler(), "skull", spacings=[1.5, 1.0], guesses_key="seen")
    expected = average({"pred": timid, "skull": holed, "seen": guesses})["pred"]
    assert not torch.equal(torch.as_tensor(expected), torch.as_tensor(timid))
    flip = Flip(spatial_axis=1)
    turned = average({"pred": flip(timid), "skull": flip(holed), "seen": guesses})["pred"]
    torch.testing.assert_close(torch.as_tensor(turned).flip(2), torch.as_tensor(expected), atol=1e-4, rtol=0)
    assert isinstance(expected, MetaTensor) and torch.equal(expected.affine, timid.affine)


def test_no_other_grid_and_no_implant_change_nothing(holed, guesses, timid):
    network = Filler()
    assert AverageGrids(network, spacings=())(timid, holed, guesses) is timid
    nothing = MetaTensor(holed.as_tensor().float(), affine=holed.affine)
    assert AverageGrids(network)(nothing, holed, guesses) is nothing
    assert not network.shapes


@pytest.mark.parametrize("spacing", [0.0, -1.0, float("nan")])
def test_an_impossible_spacing_is_refused(spacing):
    with pytest.raises(InputError, match="each above 0"):
        AverageGrids(Filler(), spacings=[1.0, spacing])


def test_a_box_without_voxels_is_refused():
    with pytest.raises(InputError, match="max_box_voxels"):
        AverageGrids(Filler(), max_box_voxels=0)
