import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from monai_sparse_refine.errors import InputError
from monai_sparse_refine.transforms import RandCoarseScan, RandCoarseScand


def _plate(thickness: int = 4) -> MetaTensor:
    mask = torch.zeros(1, 24, 24, 24, dtype=torch.uint8)
    mask[:, :, :, 10 : 10 + thickness] = 1
    return MetaTensor(mask, affine=torch.eye(4))


def test_grid_is_coarser_over_the_same_box_and_volume_is_kept():
    scan = RandCoarseScan(prob=1, in_plane_mm=(3, 3), slice_mm=(2, 2), fraction=(0.5, 0.5)).set_random_state(
        0
    )
    coarse = scan(_plate())
    assert coarse.shape == (1, 8, 8, 12) and coarse.dtype == torch.uint8
    np.testing.assert_allclose(coarse.affine.diagonal()[:3], [3, 3, 2])
    corner = torch.tensor([-0.5, -0.5, -0.5, 1.0], dtype=torch.float64)
    torch.testing.assert_close(coarse.affine @ corner, corner)
    assert int(coarse.sum()) * 18 == int(_plate().sum())


def test_a_lower_fraction_keeps_thin_bone():
    thin = _plate(1)
    kept = [
        int(RandCoarseScan(prob=1, slice_mm=(2, 2), fraction=(f, f)).set_random_state(0)(thin).sum())
        for f in (0.4, 0.6)
    ]
    assert kept[0] > 0 and kept[1] == 0


def test_never_finer_and_the_same_for_a_seed():
    plate = _plate()
    plate.affine = torch.diag(torch.tensor([5.0, 5.0, 5.0, 1.0]))
    scan = RandCoarseScan(prob=1).set_random_state(1)
    assert torch.equal(scan(plate).as_tensor(), plate.as_tensor())
    first, again = (RandCoarseScan(prob=1).set_random_state(3)(_plate()) for _ in range(2))
    assert torch.equal(first.as_tensor(), again.as_tensor()) and torch.equal(first.affine, again.affine)
    assert RandCoarseScan(prob=0).set_random_state(3)(plate) is plate


def test_dictionary_version_gives_all_keys_one_grid():
    out = RandCoarseScand(["a", "b"], prob=1).set_random_state(2)({"a": _plate(), "b": _plate(8)})
    assert out["a"].shape == out["b"].shape and torch.equal(out["a"].affine, out["b"].affine)


@pytest.mark.parametrize("bad", [{"in_plane_mm": (3, 2)}, {"slice_mm": (0, 2)}, {"fraction": (0.5,)}])
def test_a_range_that_is_none_is_told(bad):
    with pytest.raises(InputError, match=next(iter(bad))):
        RandCoarseScan(**bad)


def test_the_file_of_the_mask_stays_known():
    plate = _plate()
    plate.meta["filename_or_obj"] = "a.nii.gz"
    coarse = RandCoarseScan(prob=1.0).set_random_state(0)(plate)
    assert coarse.shape != plate.shape and coarse.meta["filename_or_obj"] == "a.nii.gz"
