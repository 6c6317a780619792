"""The lower threshold at the rim: it closes gaps, and thickens nothing."""

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Flip
from scipy import ndimage

from monai_sparse_refine.data import skull_phantom
from monai_sparse_refine.errors import InputError
from monai_sparse_refine.metrics import border_gap
from monai_sparse_refine.transforms import MirrorImage, RandCranialDefect, ReachRim, ReachRimd
from monai_sparse_refine.transforms.vault import vault_of


@pytest.fixture(scope="module")
def skull() -> MetaTensor:
    return skull_phantom(4, spacing=2.0)


@pytest.fixture(scope="module")
def holed(skull) -> MetaTensor:
    return RandCranialDefect("parietotemporal", size_mm=(35.0, 35.0)).set_random_state(1)(skull)


@pytest.fixture(scope="module")
def truth(skull, holed) -> torch.Tensor:
    return (skull.as_tensor() > 0) & (holed.as_tensor() == 0)


@pytest.fixture(scope="module")
def unsure(holed, truth) -> MetaTensor:
    """Sure in the middle of the hole, unsure within 6 mm of the bone, and a little too thick, unsurely so."""
    bone = holed.as_tensor().float()
    near_bone = torch.nn.functional.max_pool3d(bone[None], 7, 1, 3)[0] > 0
    thicker = torch.nn.functional.max_pool3d(truth.float()[None], 3, 1, 1)[0] > 0
    probability = torch.where(thicker, 0.35, 0.0)
    probability = torch.where(truth, torch.where(near_bone, 0.35, 0.9), probability)
    return MetaTensor(torch.where(holed.as_tensor() > 0, 1.0, probability), affine=holed.affine)


def _implant(probability, holed):
    return (torch.as_tensor(probability) >= 0.5) & (holed.as_tensor() == 0)


def test_gaps_are_closed_and_nothing_gets_thicker(holed, truth, unsure):
    reached = ReachRim(threshold=0.5, rim_threshold=0.3)(unsure, holed)
    before, after = _implant(unsure, holed), _implant(reached, holed)
    gaps = [border_gap(implant, truth, holed) for implant in (before, after)]
    assert gaps[0] > 2 >= gaps[1]
    assert (after & ~before).sum() > 0.1 * truth.sum()
    # In and out of what was sure the lower threshold counts for nothing.
    near_bone = torch.nn.functional.max_pool3d(holed.as_tensor().float()[None], 11, 1, 5)[0] > 0
    thicker = (torch.as_tensor(unsure) >= 0.3) & ~near_bone & ~truth
    assert thicker.sum() > 100 and not (after & thicker).any()
    # What was raised passes both comparisons, and all else is as it was.
    raised = after & ~before
    assert bool((torch.as_tensor(reached)[raised] > 0.5).all())
    torch.testing.assert_close(torch.as_tensor(reached)[~raised], torch.as_tensor(unsure)[~raised])


def test_what_the_network_finds_improbable_the_mirror_image_closes(holed, truth, unsure):
    improbable = torch.where(torch.as_tensor(unsure) < 0.5, 0.01, torch.as_tensor(unsure))
    improbable = MetaTensor(improbable, affine=holed.affine)
    assert ReachRim(threshold=0.5, rim_threshold=0.3)(improbable, holed) is improbable
    reached = ReachRim(threshold=0.5, rim_threshold=0.3, mirror_threshold=0.3)(improbable, holed)
    before, after = _implant(improbable, holed), _implant(reached, holed)
    raised = after & ~before
    gaps = [border_gap(implant, truth, holed) for implant in (before, after)]
    assert gaps[0] > 2 and gaps[1] < gaps[0] - 0.5
    # The phantom is nearly symmetric, so that the other side is right; a mirror image is no exact one.
    assert raised.sum() > 0.1 * truth.sum() and (raised & truth).sum() > 0.7 * raised.sum()
    torch.testing.assert_close(torch.as_tensor(reached)[~raised], torch.as_tensor(improbable)[~raised])


def test_where_nothing_is_open_the_mirror_image_adds_nothing(holed, truth):
    sure = torch.where(truth | (holed.as_tensor() > 0), 1.0, 0.0)
    reached = ReachRim(threshold=0.5, mirror_threshold=0.3)(MetaTensor(sure, affine=holed.affine), holed)
    added = _implant(reached, holed) & ~truth
    assert added.sum() < 0.02 * truth.sum()


@pytest.fixture(scope="module")
def forehead(skull) -> MetaTensor:
    """A skull with a hole across the midline: where it lacks bone, so does its mirror image."""
    return RandCranialDefect("bilateral", size_mm=(40.0, 40.0)).set_random_state(0)(skull)


def test_high_up_the_vault_closes_what_the_mirror_image_lacks(skull, forehead):
    truth = (skull.as_tensor() > 0) & (forehead.as_tensor() == 0)
    near_bone = torch.nn.functional.max_pool3d(forehead.as_tensor().float()[None], 9, 1, 4)[0] > 0
    sure = truth & ~near_bone
    short = MetaTensor(torch.where(sure | (forehead.as_tensor() > 0), 1.0, 0.01), affine=skull.affine)
    mirrored = ReachRim(threshold=0.5, mirror_threshold=0.3)(short, forehead)
    closed = ReachRim(threshold=0.5, mirror_threshold=0.3, vault_threshold=0.7)(short, forehead)
    before, after = _implant(mirrored, forehead), _implant(closed, forehead)
    assert border_gap(after, truth, forehead) <= 2 < border_gap(before, truth, forehead)
    added = after & ~before
    assert (added & truth).sum() > 0.8 * added.sum() > 0
    # No hole lies higher than the vertex.
    too_high = ReachRim(threshold=0.5, mirror_threshold=0.3, vault_threshold=0.7, vault_above_mm=200.0)
    torch.testing.assert_close(torch.as_tensor(too_high(short, forehead)), torch.as_tensor(mirrored))


def test_high_up_small_openings_stay(skull, forehead):
    truth = (skull.as_tensor() > 0) & (forehead.as_tensor() == 0)
    near_bone = torch.nn.functional.max_pool3d(forehead.as_tensor().float()[None], 9, 1, 4)[0] > 0
    ring = truth & near_bone
    # The ring's rightmost voxels: a small opening, while the ring itself is much of the implant.
    right = torch.nonzero(ring)[:, 1].max()
    notch = ring.clone()
    notch[:, : int(right) - 2] = False
    for gap, least, closed in ((notch, 0.0, True), (notch, 1.0, False), (ring, 1000.0, True)):
        sure = (truth & ~gap) | (forehead.as_tensor() > 0)
        short = MetaTensor(torch.where(sure, 1.0, 0.01), affine=skull.affine)
        reached = ReachRim(vault_threshold=0.7, vault_least_ml=least)(short, forehead)
        assert bool((_implant(reached, forehead) & ~sure).any()) == closed, (int(gap.sum()), least)


def test_at_the_glabella_the_vault_closes_what_lies_low(skull):
    bone = skull.as_tensor()[0].numpy() > 0
    affine = skull.affine.numpy()
    vault = vault_of(bone, affine)
    local = vault.local(np.argwhere(bone) @ affine[:3, :3].T + affine[:3, 3])
    above = vault.above_base(local)
    front = (np.abs(local[:, 0]) < 30) & (local[:, 1] > 30)
    in_wall = np.linalg.norm(local, axis=1) > 0.8 * vault.model_radius(local)
    cut, sure = (
        tuple(np.argwhere(bone)[front & in_wall & (above > low) & (above < 40)].T) for low in (-4, 14)
    )
    truth = np.zeros_like(bone)
    truth[cut] = True
    holed = MetaTensor(torch.from_numpy((bone & ~truth)[None].astype(np.uint8)), affine=skull.affine)
    probability = (bone & ~truth).astype(np.float32)
    probability[sure] = 1.0
    short = MetaTensor(torch.from_numpy(probability[None]), affine=skull.affine)
    open_, closed = (
        _implant(ReachRim(threshold=0.5, vault_threshold=0.7, midline_mm=width)(short, holed), holed)[
            0
        ].numpy()
        for width in (0.0, 6.0)
    )
    added = np.argwhere(closed & ~open_)
    assert len(added) > 20
    # The phantom's wall departs from its vault's shape there: a voxel off counts as right.
    assert ndimage.binary_dilation(truth, np.ones((3, 3, 3)))[tuple(added.T)].mean() > 0.6
    where = vault.local(added @ affine[:3, :3].T + affine[:3, 3])
    assert np.abs(where[:, 0]).max() < 8 and vault.above_base(where).max() < 14


def test_unsure_voxels_far_from_an_implant_and_answers_without_one_stay(holed, truth, unsure):
    nothing = torch.where(truth, 0.35, torch.as_tensor(unsure))
    assert ReachRim(threshold=0.5)(MetaTensor(nothing, affine=holed.affine), holed).max() == 1
    assert not _implant(ReachRim(threshold=0.5)(nothing, holed), holed).any()
    same = ReachRim(threshold=0.5, rim_threshold=0.5)(unsure, holed)
    assert same is unsure


def test_a_mask_without_a_vault_changes_nothing(unsure):
    no_skull = MetaTensor(torch.zeros(unsure.shape, dtype=torch.uint8), affine=unsure.affine)
    assert ReachRim()(unsure, no_skull) is unsure


def test_orientation_does_not_matter_and_keys_are_read(holed, unsure):
    reach = ReachRimd("pred", defective_key="skull")
    expected = torch.as_tensor(reach({"pred": unsure, "skull": holed})["pred"])
    flip = Flip(spatial_axis=2)
    turned = torch.as_tensor(reach({"pred": flip(unsure), "skull": flip(holed)})["pred"]).flip(3)
    # The middle is fitted to voxels drawn in another order.
    assert (turned != expected).sum() < 0.05 * (expected != torch.as_tensor(unsure)).sum()


@pytest.mark.parametrize("pair", [(0.5, 0.6), (0.5, 0.0), (1.0, 0.3)])
def test_thresholds_that_make_no_sense_are_refused(pair):
    with pytest.raises(InputError, match="rim_threshold"):
        ReachRim(threshold=pair[0], rim_threshold=pair[1])


@pytest.mark.parametrize("name", ["mirror_threshold", "vault_threshold"])
@pytest.mark.parametrize("fraction", [0.0, 1.0])
def test_a_fraction_of_a_guess_that_makes_no_sense_is_refused(name, fraction):
    with pytest.raises(InputError, match=name):
        ReachRim(**{name: fraction})


def test_guesses_that_were_made_before_are_not_made_again(holed, unsure, assert_takes_guesses):
    improbable = torch.where(torch.as_tensor(unsure) < 0.5, 0.01, torch.as_tensor(unsure))
    improbable = MetaTensor(improbable, affine=holed.affine)
    assert_takes_guesses(ReachRimd, MirrorImage, improbable, holed, mirror_threshold=0.3, guess_spacing=2.0)
