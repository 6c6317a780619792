from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis.extra import numpy as hnp
from monai.data import MetaTensor
from monai.transforms import LoadImage

from monai_sparse_refine.data import skull_phantom
from monai_sparse_refine.errors import InputError
from monai_sparse_refine.transforms.binary_mask import (
    ToBinaryMask,
    ToBinaryMaskD,
    ToBinaryMaskd,
    ToBinaryMaskDict,
    largest_component,
)


def ct_with_two_bones() -> np.ndarray:
    ct = np.full((1, 8, 8, 8), -1000, dtype=np.int16)
    ct[0, 1:4, 1:4, 1:4] = 700
    ct[0, 6:8, 6:8, 6:8] = 500
    return ct


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, bool])
def test_a_mask_passes_through_with_all_its_parts(dtype):
    mask = np.zeros((1, 5, 5, 5), dtype=dtype)
    mask[0, 1, 1, 1] = mask[0, 3, 3, 2:4] = 1
    for container in (np.asarray, torch.as_tensor):
        result = ToBinaryMask()(container(mask))
        assert type(result) is type(container(mask))
        assert str(result.dtype).endswith("uint8")
        np.testing.assert_array_equal(np.asarray(result), mask.astype(np.uint8))


def test_a_ct_becomes_its_largest_bone_with_the_affine_kept():
    affine = torch.diag(torch.tensor([0.5, 0.5, 2.0, 1.0], dtype=torch.float64))
    image = MetaTensor(torch.as_tensor(ct_with_two_bones()), affine=affine)
    result = ToBinaryMask()(image)
    assert isinstance(result, MetaTensor) and result.dtype == torch.uint8
    assert torch.equal(result.affine, affine)
    assert result.sum() == 27 and result[0, 1:4, 1:4, 1:4].all()


def test_a_ct_becomes_its_skull_beside_a_larger_table():
    skull = skull_phantom(3, spacing=4.0)
    bone = skull.as_tensor().numpy() > 0
    ct = np.where(np.pad(bone, ((0, 0), (30, 30), (12, 0), (0, 20))), 700, -1000).astype(np.int16)
    alone = ct > 0
    ct[:, :, :4] = 500
    assert (ct > 300).sum() > 2 * bone.sum()
    result = ToBinaryMask()(MetaTensor(torch.as_tensor(ct), affine=skull.affine))
    skull_alone = ToBinaryMask(largest_component=True)(torch.as_tensor(alone.astype(np.uint8)))
    np.testing.assert_array_equal(result.numpy(), skull_alone.numpy())
    # Where nothing tells up from down, the largest part it is.
    assert ToBinaryMask()(ct)[:, :, :4].all()


def test_threshold_and_component_are_options():
    ct = ct_with_two_bones()
    assert ToBinaryMask(largest_component=False)(ct).sum() == 27 + 8
    assert ToBinaryMask(hu_threshold=600, largest_component=False)(ct).sum() == 27
    mask = (ct > 300).astype(np.uint8)
    assert ToBinaryMask(largest_component=True)(mask).sum() == 27
    with pytest.raises(InputError, match=r"largest_component is 'biggest'"):
        ToBinaryMask(largest_component="biggest")


def test_spatial_shape_without_channel_is_kept():
    assert ToBinaryMask()(ct_with_two_bones()[0]).shape == (8, 8, 8)


def test_the_error_names_the_case():
    labels = MetaTensor(torch.tensor([0, 1, 2]).reshape(1, 1, 1, 3), meta={"filename_or_obj": "/a/p7.nii.gz"})
    with pytest.raises(InputError, match=r"^p7 has the values 0, 1, 2"):
        ToBinaryMask()(labels)


def test_dictionary_version_and_its_names():
    assert ToBinaryMaskD is ToBinaryMaskDict is ToBinaryMaskd
    data = {"image": ct_with_two_bones(), "other": 1}
    result = ToBinaryMaskd(["image", "truth"], allow_missing_keys=True)(data)
    assert result["image"].sum() == 27 and result["other"] == 1
    assert data["image"].min() == -1000
    with pytest.raises(KeyError):
        ToBinaryMaskd("truth")(data)


@given(hnp.arrays(bool, (4, 4, 4)))
def test_largest_component_is_a_subset_and_stable(mask):
    part = largest_component(mask)
    assert not (part & ~mask).any()
    assert part.any() == mask.any()
    np.testing.assert_array_equal(largest_component(part), part)


def test_parts_that_meet_at_an_edge_are_two():
    mask = np.zeros((4, 4, 1), dtype=bool)
    mask[:2, :2] = mask[2, 2] = True
    assert largest_component(mask).sum() == 4


def test_real_head_ct_gives_the_reference_skull(shared_data):
    ct = LoadImage(ensure_channel_first=True, dtype=None)(
        shared_data / "head_ct/invesalius_cranium_ct.nii.gz"
    )
    reference = nib.load(shared_data / "skull_masks/invesalius_cranium_skull.nii.gz")
    np.testing.assert_array_equal(ToBinaryMask()(ct)[0].numpy(), np.asarray(reference.dataobj))
