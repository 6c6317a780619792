import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.data import MetaTensor
from monai.transforms import Compose, Invertd, Orientationd

from monai_sparse_refine.transforms.resample import ResampleToSpacing, ResampleToSpacingd, resample_to_shape


def _volume(shape=(12, 10, 6), spacing=(1.0, 2.0, 4.0)) -> MetaTensor:
    data = torch.zeros(1, *shape, dtype=torch.uint8)
    data[:, 2:8, 2:8, 1:5] = 1
    affine = torch.diag(torch.tensor([*spacing, 1.0], dtype=torch.float64))
    affine[:3, 3] = torch.tensor([5.0, -7.0, 11.0])
    return MetaTensor(data, affine=affine)


def _box_corners(affine, shape) -> np.ndarray:
    low, high = np.array([-0.5] * 3 + [1.0]), np.array([n - 0.5 for n in shape] + [1.0])
    return np.stack([np.asarray(affine) @ low, np.asarray(affine) @ high])


def test_area_down_and_linear_up_keep_the_box_and_the_affine():
    volume = _volume()
    out = ResampleToSpacing(2.0)(volume)
    assert out.shape == (1, 6, 10, 12)
    assert out.dtype == torch.uint8
    np.testing.assert_allclose(
        _box_corners(out.affine, out.shape[1:]), _box_corners(volume.affine, volume.shape[1:])
    )
    # 6 x 6 x 4 voxels of 8 mm3; a working voxel has 8 mm3, too.
    assert int(out.sum()) == 6 * 6 * 4


def test_native_grid_when_no_spacing_is_asked_for():
    volume = _volume()
    out = ResampleToSpacing(None)(volume)
    assert torch.equal(out.as_tensor(), volume.as_tensor())


@given(
    st.tuples(*[st.integers(1, 9)] * 3),
    st.tuples(*[st.sampled_from([0.5, 1.0, 2.5, 5.0])] * 3),
    st.sampled_from([0.8, 2.0, 7.0]),
)
def test_inverse_restores_shape_and_affine(shape, spacing, working):
    affine = torch.diag(torch.tensor([*spacing, 1.0], dtype=torch.float64))
    volume = MetaTensor(torch.ones(1, *shape), affine=affine)
    resample = ResampleToSpacing(working)
    back = resample.inverse(resample(volume))
    assert back.shape == volume.shape
    torch.testing.assert_close(back.affine, affine)
    torch.testing.assert_close(back.as_tensor(), volume.as_tensor())


def test_invertd_brings_a_prediction_back_through_orientation_and_resampling():
    volume = _volume()
    volume.affine = volume.affine @ torch.diag(torch.tensor([-1.0, 1, 1, 1], dtype=torch.float64))
    preprocessing = Compose([Orientationd("image", "RAS", labels=None), ResampleToSpacingd("image", 2.0)])
    data = preprocessing({"image": volume})
    data["pred"] = MetaTensor(data["image"].as_tensor().float(), affine=data["image"].affine)
    restored = Invertd("pred", preprocessing, "image", nearest_interp=False)(data)["pred"]
    assert restored.shape == volume.shape
    overlap = (restored.as_tensor() > 0.5) == (volume.as_tensor() > 0)
    assert float(overlap.float().mean()) == 1.0


def test_resample_to_shape_averages_and_interpolates():
    ramp = torch.tensor([[0.0, 2.0, 4.0, 6.0]])
    assert resample_to_shape(ramp, (2,)).tolist() == [[1.0, 5.0]]
    assert resample_to_shape(torch.tensor([[1.0, 5.0]]), (4,)).tolist() == [[1.0, 2.0, 4.0, 5.0]]


def test_spacing_must_be_positive():
    with pytest.raises(ValueError, match="positive"):
        ResampleToSpacing(0.0)


def test_fractions_are_floats_on_the_native_grid_too():
    mask = torch.ones(1, 4, 4, 4, dtype=torch.uint8)
    assert ResampleToSpacing(None, threshold=None)(mask).dtype == torch.float32
    assert ResampleToSpacing(None)(mask).dtype == torch.uint8


@pytest.mark.parametrize(("spacing", "edge"), [((1.0, 2.0, 2.0), 3.0), ((1.0, 1.0, 2.5), 5.0)])
def test_a_fine_scan_gets_its_own_grid_and_comes_back(spacing, edge):
    volume = _volume((30, 30, 24), spacing)
    given_key = {"image": volume, "skull": volume.clone()}
    # The first step hides how fine the scan was; the reference tells the second.
    steps = Compose(
        [
            ResampleToSpacingd("image", 2.0, threshold=None),
            ResampleToSpacingd("image", 5.0, threshold=None, fine_spacing=3.0, reference_key="skull"),
        ]
    )
    out = steps(given_key)
    np.testing.assert_allclose(np.linalg.norm(out["image"].affine[:3, :3], axis=0), edge, rtol=0.1)
    back = Invertd("image", steps, nearest_interp=False)(out)["image"]
    assert back.shape == volume.shape
    torch.testing.assert_close(back.affine, volume.affine)


def test_without_a_grid_for_fine_scans_every_case_has_the_same():
    volume = _volume((12, 10, 8), (1.0, 1.0, 1.0))
    out = ResampleToSpacingd("image", 2.0)({"image": volume})["image"]
    assert out.shape == (1, 6, 5, 4)
    own = ResampleToSpacingd("image", 2.0, fine_spacing=1.0)({"image": volume})["image"]
    assert own.shape == volume.shape
