"""One case at several in-plane resolutions: shapes, affines and what is kept."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor

from monai_sparse_refine.errors import InputError
from monai_sparse_refine.transforms import MakeMultiResolution, MakeMultiResolutiond
from monai_sparse_refine.transforms.multi_resolution import in_plane_shape


def _ball(shape=(32, 32, 20), spacing=(1.0, 1.0, 1.6)) -> MetaTensor:
    grid = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), axis=-1)
    offset = (grid - (np.array(shape) - 1) / 2) * spacing
    mask = (np.linalg.norm(offset, axis=-1) < 12).astype(np.uint8)
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = [-5.0, 7.0, 2.0]
    return MetaTensor(torch.from_numpy(mask)[None], affine=affine)


def _corners(mask: MetaTensor) -> torch.Tensor:
    """The two outer corners of the box in mm, half a voxel beyond the centres of the outermost voxels."""
    last = [n - 0.5 for n in mask.shape[1:]]
    return torch.tensor([[-0.5] * 3 + [1.0], [*last, 1.0]], dtype=torch.float64) @ mask.affine.T


def test_every_resolution_has_its_in_plane_size_and_covers_the_same_box():
    mask = _ball()
    for size, low in MakeMultiResolution((8, 16, 64))(mask).items():
        assert max(low.shape[1:3]) == size
        assert low.dtype == torch.uint8 and set(low.unique().tolist()) == {0, 1}
        torch.testing.assert_close(_corners(low), _corners(mask))


def test_volume_in_millilitres_is_kept():
    mask = _ball()
    whole = float(mask.sum()) * 1.6
    for low in MakeMultiResolution((16, 64))(mask).values():
        volume = float(low.sum()) * abs(float(torch.linalg.det(low.affine[:3, :3])))
        assert volume == pytest.approx(whole, rel=0.05)


def test_slices_are_merged_but_never_interpolated():
    assert in_plane_shape((512, 512, 140), (0.45, 0.45, 1.0), 512) == (512, 512, 140)
    assert in_plane_shape((512, 512, 140), (0.45, 0.45, 1.0), 256) == (256, 256, 140)
    assert in_plane_shape((512, 512, 140), (0.45, 0.45, 1.0), 64) == (64, 64, 39)


def test_a_narrow_plane_keeps_its_shape():
    assert in_plane_shape((100, 50, 40), (2.0, 2.0, 2.0), 50) == (50, 25, 20)


def test_the_native_resolution_is_the_mask_itself():
    mask = _ball()
    same = MakeMultiResolution((32,))(mask)[32]
    torch.testing.assert_close(same.as_tensor(), mask.as_tensor())
    torch.testing.assert_close(same.affine, mask.affine)


def test_fractions_can_be_kept():
    low = MakeMultiResolution((8,), threshold=None)(_ball())[8]
    assert low.dtype == torch.float32 and 0 < float(low[(low > 0) & (low < 1)].mean()) < 1


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), size=st.sampled_from([6, 12, 40]))
def test_a_subset_stays_a_subset(seed, size):
    random = torch.Generator().manual_seed(seed)
    whole = torch.rand(1, 16, 20, 9, generator=random) > 0.5
    part = whole & (torch.rand(1, 16, 20, 9, generator=random) > 0.3)
    make = MakeMultiResolution((size,))
    small, large = (make(MetaTensor(m.to(torch.uint8)))[size] for m in (part, whole))
    assert bool((small <= large).all())


def test_dictionary_version_adds_one_key_per_resolution():
    data = {"image": _ball(), "label": _ball(), "name": "x"}
    out = MakeMultiResolutiond(["image", "label"], (8, 16))(data)
    assert set(out) == {"image", "label", "name", "image_8", "image_16", "label_8", "label_16"}
    assert out["image"].shape == data["image"].shape
    with pytest.raises(InputError, match="key_format"):
        MakeMultiResolutiond("image", (8, 16), key_format="{key}")(data)


@pytest.mark.parametrize("bad", [(), (0,), (64, 64)])
def test_bad_resolutions_are_told(bad):
    with pytest.raises(InputError, match="in_plane"):
        MakeMultiResolution(bad)


def test_a_mask_without_channel_is_told():
    with pytest.raises(InputError, match=r"\[C, X, Y, Z\]"):
        MakeMultiResolution((8,))(torch.zeros(4, 4, 4))
