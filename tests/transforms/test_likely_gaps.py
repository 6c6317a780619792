"""Closing gaps that implant and bone enclose: a lower threshold counts there, and nowhere else."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor

from monai_sparse_refine.errors import InputError
from monai_sparse_refine.metrics import border_gap
from monai_sparse_refine.transforms import CloseLikelyGaps, CloseLikelyGapsd, ExtractImplant

SHAPE = (60, 60, 12)
EXTRACT = ExtractImplant(core_mm=0, min_volume_ml=0, min_relative_volume=0)


def _affine(spacing):
    return torch.diag(torch.tensor([spacing, spacing, spacing, 1.0], dtype=torch.float64))


def _case(gap=0.3, *, spacing=1.0, width=5):
    """A plate of bone with a square hole; a network is sure of it but for a strip along one side.

    Returns the probability, the defective mask, the true implant and the strip, all [1, *SHAPE].
    """
    bone = torch.zeros(1, *SHAPE)
    bone[..., 4:8] = 1
    truth = torch.zeros_like(bone)
    truth[:, 15:45, 15:45, 4:8] = 1
    strip = torch.zeros_like(bone)
    strip[:, 15 : 15 + width, 20:28, 4:8] = 1
    defective = bone * (1 - truth)
    probability = 0.9 * (defective + truth * (1 - strip)) + gap * strip
    affine = _affine(spacing)
    masks = [MetaTensor(mask.to(torch.uint8), affine=affine) for mask in (defective, truth, strip)]
    return MetaTensor(probability, affine=affine), *masks


def _mask(probability, threshold=0.5):
    return (probability.as_tensor() >= threshold).to(torch.uint8)


def test_a_likely_gap_is_closed_just_over_the_threshold():
    probability, defective, truth, strip = _case()
    close = CloseLikelyGaps(extract=EXTRACT)
    out = close(probability, defective)
    assert isinstance(out, MetaTensor) and out.dtype == probability.dtype
    torch.testing.assert_close(out.affine, probability.affine)
    before, after = (_mask(p) * (1 - defective.as_tensor()) for p in (probability, out))
    assert border_gap(before[0], truth[0], defective[0]) > 2
    assert border_gap(after[0], truth[0], defective[0]) == 0
    assert torch.equal(after, truth.as_tensor())
    raised = out.as_tensor()[strip.as_tensor() == 1]
    assert bool((raised > 0.5).all()) and bool((raised < 0.5001).all())
    same = strip.as_tensor() == 0
    assert torch.equal(out.as_tensor()[same], probability.as_tensor()[same])
    data = CloseLikelyGapsd("pred", "skull", extract=EXTRACT)({"pred": probability, "skull": defective})
    assert torch.equal(data["pred"].as_tensor(), out.as_tensor())


@pytest.mark.parametrize(
    ("case", "options"),
    [
        ({"gap": 0.2}, {}),  # not likely
        ({}, {"gap_threshold": None}),
        ({}, {"threshold": 0.25, "gap_threshold": 0.25}),
        ({}, {"radius_mm": 1.0}),  # the ball enters
        ({"width": 1}, {}),  # no wider than a voxel
        ({"spacing": 2.5}, {}),  # too coarse
    ],
)
def test_the_probability_stays_where_there_is_nothing_to_close(case, options):
    probability, defective, _, _ = _case(**case)
    assert CloseLikelyGaps(extract=EXTRACT, **options)(probability, defective) is probability


@pytest.mark.parametrize("between", [0.15, 0.05])
def test_what_is_likely_at_the_bone_is_joined_by_a_path(between):
    probability, defective, _, _ = _case()
    probability[:, 15:20, 18:30, 4:8] = between  # around what is likely, at the bone
    probability[:, 15:18, 20:28, 4:8] = 0.3
    out = CloseLikelyGaps(extract=EXTRACT)(probability, defective)
    raised = (out > probability).as_tensor()[0]
    island, around = raised[15:18, 20:28, 4:8], raised.clone()
    around[15:18, 20:28, 4:8] = False
    if between < 0.1:  # no way there
        assert not bool(island.any())
    else:
        assert bool(island.all())
        # A path of two voxels and what lies beside it, not all that lies between.
        assert 2 <= int(around.sum()) <= 2 * 5


def test_a_wide_opening_is_no_gap():
    probability, defective, _, _ = _case()
    # Half of the hole is only likely: no ball of 5 mm bridges 15.
    probability[:, 30:45, 15:45, 4:8] = 0.3
    out = CloseLikelyGaps(radius_mm=5.0, extract=EXTRACT)(probability, defective)
    assert bool((out[:, 15:20, 20:28, 4:8] > 0.5).all())
    assert not bool((out[:, 34:44, 20:40, 4:8] > 0.5).any())


def test_a_hollow_of_the_bone_stays():
    probability, defective, _, _ = _case()
    # A slot in the bone, beside the hole: a ball does not enter it whether there is an implant or not.
    defective[:, 5:11, 20:40, 5:7] = 0
    probability[:, 5:11, 20:40, 5:7] = 0.3
    out = CloseLikelyGaps(extract=EXTRACT)(probability, defective)
    assert not bool((out[:, 5:11, 20:40, 5:7] > 0.5).any())
    assert bool((out[:, 15:20, 20:28, 4:8] > 0.5).all())


def test_without_an_implant_there_is_no_gap():
    probability, defective, _, _ = _case()
    alone = MetaTensor(0.9 * defective.as_tensor().float(), affine=defective.affine)
    assert CloseLikelyGaps()(alone, defective) is alone
    plain = CloseLikelyGaps(extract=EXTRACT)(probability.as_tensor(), defective)
    assert not isinstance(plain, MetaTensor) and bool((plain[:, 15:20, 20:28, 4:8] > 0.5).all())


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), low=st.floats(0.05, 0.45))
def test_it_only_raises_and_only_what_is_likely(seed, low):
    probability, defective, _, _ = _case()
    noise = torch.rand(probability.shape, generator=torch.Generator().manual_seed(seed))
    given_probability = MetaTensor((probability.as_tensor() * 0.5 + noise * 0.5), affine=probability.affine)
    out = CloseLikelyGaps(gap_threshold=low, extract=EXTRACT)(given_probability, defective).as_tensor()
    before = given_probability.as_tensor()
    changed = out != before
    assert bool((out >= before).all())
    assert bool((before[changed] >= min(low, 0.1)).all()) and bool((before[changed] < 0.5).all())
    assert not bool((changed & (defective.as_tensor() == 1)).any())


@pytest.mark.parametrize(
    "options", [{"threshold": 1.0}, {"gap_threshold": 0.0}, {"radius_mm": 0.0}, {"path_threshold": 1.5}]
)
def test_impossible_numbers_are_refused(options):
    with pytest.raises(InputError, match=next(iter(options))):
        CloseLikelyGaps(**options)
