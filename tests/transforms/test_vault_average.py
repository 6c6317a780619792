"""Averaging with the interpolated vault: where it is right on a fine scan, and nowhere else."""

import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Flip

from monai_sparse_refine.data import skull_phantom
from monai_sparse_refine.metrics import dice
from monai_sparse_refine.transforms import AverageVault, AverageVaultd, InterpolateVault, RandCranialDefect


@pytest.fixture(scope="module")
def skull() -> MetaTensor:
    return skull_phantom(4, spacing=2.0)


@pytest.fixture(scope="module")
def holed(skull) -> MetaTensor:
    return RandCranialDefect("bilateral").set_random_state(1)(skull)


@pytest.fixture(scope="module")
def blurred(skull) -> MetaTensor:
    """An answer that is right but too thick."""
    thick = torch.nn.functional.avg_pool3d(skull.as_tensor().float()[None], 3, 1, 1)[0]
    return MetaTensor((1.6 * thick).clamp(0, 1), affine=skull.affine)


def _implant(probability, holed):
    return (torch.as_tensor(probability) >= 0.5) & (holed.as_tensor() == 0)


def test_an_answer_that_agrees_gets_the_surfaces_of_the_vault(skull, holed, blurred):
    truth = (skull.as_tensor() > 0) & (holed.as_tensor() == 0)
    near = torch.nn.functional.max_pool3d(truth.float(), 5, 1, 2) > 0
    average = AverageVault(agreement=0.5, spacing=2.0)
    before, after = (dice(_implant(p, holed) & near, truth) for p in (blurred, average(blurred, holed)))
    assert after > before + 0.02


def test_disagreement_coarse_scans_and_empty_answers_change_nothing(holed, blurred):
    assert AverageVault(agreement=1.01, spacing=2.0)(blurred, holed) is blurred
    assert AverageVault(agreement=0.0, finest_mm=1.5)(blurred, holed) is blurred
    nothing = MetaTensor(holed.as_tensor().float(), affine=holed.affine)
    assert AverageVault(agreement=0.0, spacing=2.0)(nothing, holed) is nothing


def test_a_vault_that_does_not_repeat_the_bone_around_the_hole_is_not_trusted(holed, blurred):
    average = AverageVault(agreement=1.01, repetition=0.7, least_agreement=0.0, spacing=2.0)
    assert average(blurred, holed) is not blurred
    # Ridges of 4 mm on half of the head: no smooth surface passes through its bone.
    grown = torch.nn.functional.max_pool3d(holed.as_tensor().float()[None], 5, 1, 2)[0] > 0
    hole = (blurred.as_tensor() >= 0.5) & (holed.as_tensor() == 0)
    blocks = (
        torch.arange(holed.shape[1])[:, None, None] // 6 + torch.arange(holed.shape[2])[:, None] // 6
    ) % 2 == 1
    ridged = ((holed.as_tensor() > 0) | (grown & ~hole & blocks)).to(torch.uint8)
    rough = MetaTensor(ridged, affine=holed.affine)
    assert average(blurred, rough) is blurred
    assert AverageVault(agreement=0.0, repetition=0.7, spacing=2.0)(blurred, rough) is not blurred
    too_little = AverageVault(agreement=1.01, repetition=0.7, least_agreement=1.01, spacing=2.0)
    assert too_little(blurred, holed) is blurred


def test_orientation_does_not_matter_and_keys_are_read(holed, blurred):
    average = AverageVaultd("pred", defective_key="skull", agreement=0.5, spacing=2.0)
    expected = average({"pred": blurred, "skull": holed})["pred"]
    flip = Flip(spatial_axis=2)
    turned = average({"pred": flip(blurred), "skull": flip(holed)})["pred"]
    torch.testing.assert_close(torch.as_tensor(turned).flip(3), torch.as_tensor(expected), atol=1e-4, rtol=0)


def test_guesses_that_were_made_before_are_not_made_again(holed, blurred, assert_takes_guesses):
    assert_takes_guesses(AverageVaultd, InterpolateVault, blurred, holed, agreement=0.5, spacing=2.0)
