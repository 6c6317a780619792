"""What a refiner of several organs gets: a band around the mask, prior, intensities, which organ."""

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from monai_sparse_refine.errors import InputError
from monai_sparse_refine.transforms import OrganFeatures, OrganFeaturesd

AFFINE = np.diag([1.0, 1.0, 2.0, 1.0])


def mask() -> MetaTensor:
    volume = torch.zeros(1, 24, 20, 16, dtype=torch.uint8)
    volume[0, 10:14, 8:12, 7:9] = 1
    return MetaTensor(volume, affine=AFFINE)


def test_the_band_reaches_as_many_mm_along_every_axis():
    band = OrganFeatures(band_mm=4)(mask(), "heart")[0] > 0
    expected = torch.zeros(24, 20, 16, dtype=torch.bool)
    expected[6:18, 4:16, 5:11] = True
    assert torch.equal(band, expected)


def test_the_core_is_no_part_of_the_band():
    whole = MetaTensor(torch.zeros(1, 24, 20, 16, dtype=torch.uint8), affine=AFFINE)
    whole[0, 4:20, 4:16, :12] = 1  # up to the end of the scan
    features = OrganFeatures(band_mm=4)(whole, "heart")
    core = torch.zeros(24, 20, 16, dtype=torch.bool)
    core[8:16, 8:12, :10] = True
    assert torch.equal(features[1] == 0.5, core)
    assert not features[0][core].any() and not features[2:, core].any()
    assert torch.equal(features[1] > 0, whole[0] > 0)


def test_channels_without_intensity_and_probability():
    features = OrganFeatures()(mask(), "trachea")
    assert features.shape == (12, 24, 20, 16) and features.dtype == torch.float32
    torch.testing.assert_close(features.affine, mask().affine)
    assert torch.equal(features[1], mask()[0].float())
    assert not features[3:7].any()
    assert torch.equal(features[9], features[0]) and not features[[7, 8, 10, 11]].any()
    prior = features[2]
    assert 0.2 < prior.max() < 1 and prior[12, 10, 8] > prior[12, 10, 10] > 0


def test_intensity_is_windowed_and_probability_scaled_within_the_band():
    hu = torch.full((1, 24, 20, 16), 100.0)
    hu[0, :12] = -2000
    soft = torch.full((1, 24, 20, 16), 204, dtype=torch.uint8)
    features = OrganFeatures(windows=((-200, 400), (-1000, 200)))(mask(), "aorta", hu, soft)
    band = features[0] > 0
    assert features[3][band].unique().tolist() == [-1, 0]
    assert features[4][band].unique().tolist() == pytest.approx([-1, 1100 / 600 - 1])
    assert features[2][band].unique().tolist() == pytest.approx([0.8])
    assert torch.equal(features[5], features[0]) and torch.equal(features[6], features[0])
    assert not features[:, ~band].any()
    same = OrganFeatures()(mask(), "aorta", hu, soft.float() / 255)
    torch.testing.assert_close(same.as_tensor(), features.as_tensor())


def test_the_last_channel_is_relative_to_the_organs_own_intensity():
    hu = torch.full((1, 24, 20, 16), -50.0)
    hu[mask() > 0] = 150
    hu[0, 10, 8, 7] = 3000  # a clip in the vessel does not count
    hu[0, 15] = 120
    features = OrganFeatures(own_hu=60)(mask(), "aorta", hu)
    band = features[0] > 0
    expected = ((hu[0] - 150) / 60).clamp(-1, 1) * band
    torch.testing.assert_close(features[11].as_tensor(), expected)
    assert expected[15].any() and expected[10, 8, 7] == 1
    given = OrganFeatures(own_hu=60)(mask(), "aorta", hu, reference=120)
    assert not given[11, 15].any()


def test_an_organ_of_several_tissues_has_no_intensity_of_its_own():
    hu = torch.arange(24.0).reshape(1, 24, 1, 1).expand(1, 24, 20, 16) * 20
    assert not OrganFeatures()(mask(), "heart", hu)[11].any()
    assert OrganFeatures(mixed=["trachea"])(mask(), "heart", hu)[11].any()


def test_a_band_beyond_the_volume_ends_with_it():
    for band_mm in (0, 1, 2, 3, 8, 13, 100):
        features = OrganFeatures(band_mm=band_mm)(mask(), "heart")
        reach = [int(band_mm), int(band_mm), int(band_mm / 2)]
        expected = np.zeros((24, 20, 16), bool)
        low, high = (10, 8, 7), (14, 12, 9)
        expected[tuple(slice(max(0, a - r), b + r) for a, b, r in zip(low, high, reach, strict=True))] = True
        np.testing.assert_array_equal((features[:2] > 0).any(0).numpy(), expected)


def test_dictionary_takes_what_there_is():
    data = {"image": mask(), "label": "esophagus", "intensity": torch.zeros(1, 24, 20, 16)}
    features = OrganFeaturesd("image")(data)["image"]
    moved = OrganFeaturesd("image")({**data, "reference": 50.0})["image"]
    assert not features[11].any() and moved[11][moved[0] > 0].unique().tolist() == [-0.5]
    assert features[5].any() and not features[6].any() and features[7].any()


def test_an_empty_mask_has_no_band():
    assert not OrganFeatures()(mask() * 0, "heart").any()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: OrganFeatures()(mask(), "7"), "label_preset"),
        (lambda: OrganFeatures()(mask(), "heart", torch.zeros(1, 3, 3, 3)), "intensity has shape"),
        (lambda: OrganFeatures(organs=[]), "organs is empty"),
        (lambda: OrganFeatures(band_mm=-1), "band_mm"),
        (lambda: OrganFeatures(windows=[(0, 1)]), "windows"),
        (lambda: OrganFeatures(own_hu=0), "own_hu"),
    ],
)
def test_mistakes_are_told(call, message):
    with pytest.raises(InputError, match=message):
        call()
