import numpy as np
import pytest
import torch
import torch.nn.functional as F
from monai.data import MetaTensor
from monai.data.utils import collate_meta_tensor, decollate_batch
from monai.transforms import Compose, Invertd
from torch import nn

from monai_sparse_refine.errors import InputError
from monai_sparse_refine.inferers import SuperResolutionInferer
from monai_sparse_refine.networks import MaskSuperResolver
from monai_sparse_refine.transforms import (
    CoarsenMask,
    CoarsenMaskd,
    SuperResolve,
    SuperResolved,
    check_whole_factor,
    dice_threshold,
)


@pytest.fixture
def network() -> nn.Module:
    """Untrained: linear interpolation."""
    return MaskSuperResolver(channels=(4, 6), step_channels=(4, 4, 4), engine="native")


@pytest.fixture
def mask() -> MetaTensor:
    """A box in an oblique volume [1, 14, 12, 10] of 1 x 1 x 2 mm."""
    data = torch.zeros(1, 14, 12, 10, dtype=torch.uint8)
    data[:, 3:11, 2:9, 3:8] = 1
    affine = np.diag([1.0, 1.0, 2.0, 1.0])
    affine[:2, :2] = [[0.8, -0.6], [0.6, 0.8]]
    affine[:3, 3] = (3.0, -9.0, 4.0)
    return MetaTensor(data, affine=torch.from_numpy(affine), meta={"filename_or_obj": "case.nii.gz"})


def _centroid(mask: MetaTensor) -> np.ndarray:
    index = torch.nonzero(mask.as_tensor()[0]).double().mean(0).numpy()
    affine = mask.affine.numpy()
    return affine[:3, :3] @ index + affine[:3, 3]


@pytest.mark.parametrize("scale_extent", [True, False])
@pytest.mark.parametrize("size", [{"factor": 2}, {"factor": 3}, {"spacing": 0.6}, {"factor": (1, 2, 4)}])
def test_the_mask_stays_in_its_place_in_the_world(network, mask, size, scale_extent):
    fine = SuperResolve(network, scale_extent=scale_extent, **size)(mask)
    assert fine.dtype == torch.uint8 and fine.meta["filename_or_obj"] == "case.nii.gz"
    np.testing.assert_allclose(_centroid(fine), _centroid(mask), atol=0.1)
    volume = float(fine.sum()) * abs(float(torch.linalg.det(fine.affine)))
    assert volume == pytest.approx(8 * 7 * 5 * 2, rel=0.12)


def test_beyond_the_networks_steps_it_is_run_again(network, mask):
    fine = SuperResolve(network, factor=16)(mask[:, 2:8, 1:6, 2:6])
    assert fine.shape == (1, 96, 80, 64) and bool(fine.any())


def test_a_factor_of_one_and_below_needs_no_network(mask):
    same = SuperResolve(nn.Identity(), factor=1)(mask)
    assert torch.equal(same.as_tensor(), mask.as_tensor())
    half = SuperResolve(nn.Identity(), factor=0.5)(mask)
    assert torch.equal(half.as_tensor(), CoarsenMask(2)(mask).as_tensor())


class _Uneven(nn.Module):
    """Linear logits of a constant that grows along the first axis: not symmetric under a flip."""

    def forward(self, x, *, steps):
        fine = x.repeat_interleave(2, 2).repeat_interleave(2, 3).repeat_interleave(2, 4)
        return fine + torch.linspace(-2, 2, fine.shape[2]).view(1, 1, -1, 1, 1)


def test_flips_are_averaged_as_probabilities(mask):
    plain = SuperResolve(_Uneven(), factor=2, threshold=None)(mask)
    mirrored = SuperResolve(_Uneven(), factor=2, threshold=None)(mask.flip(1)).flip(1)
    mean = SuperResolve(_Uneven(), factor=2, threshold=None, flip_axes=(0,))(mask)
    torch.testing.assert_close(mean.as_tensor(), (plain.as_tensor() + mirrored.as_tensor()) / 2)
    batch = SuperResolutionInferer(factor=2, flip_axes=(0,))(mask[None].float(), _Uneven())
    torch.testing.assert_close(batch[0].as_tensor(), mean.as_tensor())
    for make in (SuperResolutionInferer, lambda **options: SuperResolve(_Uneven(), **options)):
        with pytest.raises(InputError, match="flip_axes"):
            make(factor=2, flip_axes=(3,))


def test_an_empty_mask_stays_empty(network, mask):
    fine = SuperResolve(network, factor=2)(mask * 0)
    assert fine.shape == (1, 28, 24, 20) and not bool(fine.any())


def test_the_inverse_brings_back_grid_and_mask(network, mask):
    for scale_extent in (True, False):
        transform = SuperResolved("image", network, factor=2, scale_extent=scale_extent)
        back = transform.inverse(transform({"image": mask}))["image"]
        assert back.dtype == mask.dtype and not back.applied_operations
        assert back.shape == mask.shape
        np.testing.assert_allclose(back.affine, mask.affine)
        assert int((back != mask).sum()) <= 8  # the box's corners, which interpolation rounds


def test_monai_inverts_a_prediction_made_on_the_fine_grid(network, mask):
    preprocessing = Compose([SuperResolved("image", network, factor=2)])
    item = preprocessing({"image": mask})
    item["pred"] = MetaTensor(torch.ones_like(item["image"].as_tensor()).float(), meta=item["image"].meta)
    invert = Invertd("pred", transform=preprocessing, orig_keys="image", nearest_interp=False)
    pred = invert(item)["pred"]
    assert pred.shape == mask.shape and bool((pred == 1).all())
    np.testing.assert_allclose(pred.affine, mask.affine)


def test_probabilities_where_no_threshold_is_given(network, mask):
    values = SuperResolve(network, factor=2, threshold=None)(mask)
    assert values.dtype == torch.float32 and float(values.min()) >= 0 and float(values.max()) <= 1
    expected = F.interpolate(mask.as_tensor()[None].float(), scale_factor=2, mode="trilinear")[0]
    for threshold in (0.5, 0.3):
        fine = SuperResolve(network, factor=2, threshold=threshold)(mask).as_tensor()
        assert torch.equal(values.as_tensor() >= threshold, fine > 0)
    torch.testing.assert_close(values.as_tensor(), expected, atol=0.05, rtol=0)


def test_the_threshold_follows_how_sure_the_network_is(network, mask):
    values = SuperResolve(network, factor=2, threshold=None)(mask).as_tensor()
    threshold = dice_threshold(values)
    assert 0.4 <= threshold < 0.5
    fine = SuperResolve(network, factor=2, threshold="auto")(mask)
    assert torch.equal(values >= threshold, fine.as_tensor() > 0)
    batch = SuperResolutionInferer(factor=2, threshold="auto")(mask[None].float(), network)
    assert torch.equal(batch[0].as_tensor(), fine.as_tensor().float())


def test_bad_options_and_masks_are_named(network, mask):
    with pytest.raises(InputError, match="give one of"):
        SuperResolve(network)
    with pytest.raises(InputError, match="threshold"):
        SuperResolve(network, factor=2, threshold=1.5)
    with pytest.raises(InputError, match="one binary mask"):
        SuperResolve(network, factor=2)(mask[0])
    with pytest.raises(InputError, match="one binary mask"):
        SuperResolve(network, factor=2)(torch.cat([mask, mask]))


def test_coarse_masks_are_at_least_half_full():
    fine = MetaTensor(
        torch.zeros(1, 4, 4, 4, dtype=torch.uint8), affine=torch.diag(torch.tensor([1.0, 2, 3, 1]))
    )
    fine[0, :2, :2, 0] = 1  # 4 of the 8 voxels of a block
    fine[0, 2, 2:, 2] = 1  # 2 of 8
    coarse = CoarsenMaskd("image", 2)({"image": fine})["image"]
    assert coarse.dtype == torch.uint8 and coarse[0].nonzero().tolist() == [[0, 0, 0]]
    np.testing.assert_allclose(coarse.affine.diagonal(), [2, 4, 6, 1])
    np.testing.assert_allclose(coarse.affine[:3, 3], [0.5, 1, 1.5])
    shares = CoarsenMask(target_shape=(2, 2, 2), threshold=None)(fine)
    assert float(shares[0, 1, 1, 1]) == 0.25
    with pytest.raises(InputError, match="give one of"):
        CoarsenMask()
    with pytest.raises(InputError, match="one case"):
        CoarsenMask(2)(fine[0])


def test_the_inferer_gives_a_batch_with_affines_and_names(network, mask):
    pred = SuperResolutionInferer(factor=2)(collate_meta_tensor([mask, mask.clone()]), network)
    assert pred.shape == (2, 1, 28, 24, 20)
    direct = SuperResolve(network, factor=2, threshold=None)(mask)
    for item in decollate_batch(pred):
        torch.testing.assert_close(item.as_tensor(), direct.as_tensor())
        np.testing.assert_allclose(item.affine, direct.affine)
        assert item.meta["filename_or_obj"] == "case.nii.gz"
    assert SuperResolutionInferer(spacing=0.5)(mask.as_tensor()[None], network).shape == (1, 1, 28, 24, 20)
    with pytest.raises(InputError, match="binary masks"):
        SuperResolutionInferer(factor=2)(mask, network)
    with pytest.raises(InputError, match="give one of"):
        SuperResolutionInferer()


def test_the_inverse_is_a_mask_whatever_its_type(network, mask):
    resolve = SuperResolve(network, factor=1.5)
    back = resolve.inverse(resolve(MetaTensor(mask.float(), meta=mask.meta)))
    assert back.dtype == torch.float32 and set(back.unique().tolist()) <= {0.0, 1.0}


def test_a_grid_too_large_on_the_way_is_refused(network, mask):
    with pytest.raises(InputError, match="billion on the way"):
        SuperResolve(network, factor=(1, 1, 4000))(mask)


def test_a_case_that_was_not_collated_keeps_its_name(network, mask):
    mask.meta["filename_or_obj"] = "/data/a.nii.gz"
    pred = SuperResolutionInferer(factor=2)(MetaTensor(mask[None].float(), meta=mask.meta), network)
    assert pred.meta["filename_or_obj"] == ["/data/a.nii.gz"]


def test_cases_of_one_batch_whose_grids_differ_are_told(network, mask):
    other = MetaTensor(
        mask.as_tensor(), affine=mask.affine * torch.tensor([2.0, 1, 1, 1], dtype=torch.float64)
    )
    with pytest.raises(InputError, match="which no batch can hold"):
        SuperResolutionInferer(spacing=0.5)(collate_meta_tensor([mask.float(), other.float()]), network)


@pytest.mark.parametrize("factor", [2, 4.0, [2, 2, 4], (1, 2, 2)])
def test_whole_factors_pass(factor):
    assert check_whole_factor(factor) == factor


@pytest.mark.parametrize("factor", [None, 1.5, [2, 2.5, 2], 0, "2"])
def test_other_factors_are_refused(factor):
    with pytest.raises(InputError, match="whole factors"):
        check_whole_factor(factor)
