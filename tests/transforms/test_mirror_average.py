"""Averaging with the mirror image: where both agree on a fine scan, and nowhere else."""

import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Flip

from monai_sparse_refine.data import skull_phantom
from monai_sparse_refine.errors import InputError
from monai_sparse_refine.metrics import dice
from monai_sparse_refine.transforms import AverageMirror, AverageMirrord, MirrorImage, RandCranialDefect


@pytest.fixture(scope="module")
def skull() -> MetaTensor:
    """A phantom made symmetric, so that its mirror image is right."""
    phantom = skull_phantom(4, spacing=2.0)
    mask = phantom.as_tensor()
    return MetaTensor(torch.maximum(mask, mask.flip(1)), affine=phantom.affine)


@pytest.fixture(scope="module")
def holed(skull) -> MetaTensor:
    return RandCranialDefect("parietotemporal", size_mm=(30.0, 30.0)).set_random_state(1)(skull)


@pytest.fixture(scope="module")
def blurred(skull, holed) -> MetaTensor:
    """An answer that is right but too thick."""
    thick = torch.nn.functional.avg_pool3d(skull.as_tensor().float()[None], 3, 1, 1)[0]
    return MetaTensor((1.6 * thick).clamp(0, 1).maximum(holed.as_tensor().float()), affine=skull.affine)


def _implant(probability, holed):
    return (torch.as_tensor(probability) >= 0.5) & (holed.as_tensor() == 0)


def test_an_answer_that_agrees_gets_the_surfaces_of_the_other_side(skull, holed, blurred):
    truth = (skull.as_tensor() > 0) & (holed.as_tensor() == 0)
    near = torch.nn.functional.max_pool3d(truth.float(), 5, 1, 2) > 0
    average = AverageMirror(agreement=0.5, weight=0.5, spacing=2.0)
    before, after = (dice(_implant(p, holed) & near, truth) for p in (blurred, average(blurred, holed)))
    assert after > before + 0.05
    # Away from the implant nothing changes, and the mean is what it says.
    changed = torch.as_tensor(average(blurred, holed)) != blurred.as_tensor()
    far = torch.nn.functional.max_pool3d(truth.float()[None], 11, 1, 5)[0] == 0
    assert bool(changed.any()) and not bool((changed & far).any())
    light = torch.as_tensor(AverageMirror(agreement=0.5, weight=0.25, spacing=2.0)(blurred, holed))
    half = torch.as_tensor(average(blurred, holed))
    torch.testing.assert_close(
        light - blurred.as_tensor(), (half - blurred.as_tensor()) / 2, atol=1e-5, rtol=0
    )


def test_disagreement_coarse_scans_and_empty_answers_change_nothing(skull, holed, blurred):
    assert AverageMirror(agreement=2.0, spacing=2.0)(blurred, holed) is blurred
    assert AverageMirror(agreement=0.0, finest_mm=1.5)(blurred, holed) is blurred
    nothing = MetaTensor(holed.as_tensor().float(), affine=holed.affine)
    assert AverageMirror(agreement=0.0, spacing=2.0)(nothing, holed) is nothing
    # Where the other side lacks the same, the mirror image agrees with nobody.
    both = MetaTensor(holed.as_tensor() * holed.as_tensor().flip(1), affine=holed.affine)
    assert AverageMirror(spacing=2.0)(blurred, both) is blurred


def test_orientation_does_not_matter_and_keys_are_read(holed, blurred):
    average = AverageMirrord("pred", defective_key="skull", agreement=0.5, spacing=2.0)
    expected = average({"pred": blurred, "skull": holed})["pred"]
    flip = Flip(spatial_axis=2)
    turned = average({"pred": flip(blurred), "skull": flip(holed)})["pred"]
    torch.testing.assert_close(torch.as_tensor(turned).flip(3), torch.as_tensor(expected), atol=1e-4, rtol=0)
    assert AverageMirrord("pred", allow_missing_keys=True)({"skull": holed}).keys() == {"skull"}


@pytest.mark.parametrize("weight", [0.0, 1.0, -0.5])
def test_a_weight_that_is_none_is_refused(weight):
    with pytest.raises(InputError, match=f"weight is {weight}"):
        AverageMirror(weight=weight)


def test_guesses_that_were_made_before_are_not_made_again(holed, blurred, assert_takes_guesses):
    assert_takes_guesses(AverageMirrord, MirrorImage, blurred, holed, agreement=0.5, spacing=2.0)
