"""The interpolated vault: a hole in an egg-shaped shell and in a phantom is filled where the wall was."""

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from monai_sparse_refine.data import skull_phantom
from monai_sparse_refine.metrics import dice
from monai_sparse_refine.transforms import (
    InterpolateVault,
    InterpolateVaultd,
    RandCranialDefect,
    ResampleToSpacing,
    interpolate_vault,
)
from monai_sparse_refine.transforms.vault import vault_of


@pytest.fixture(scope="module")
def skull() -> MetaTensor:
    return skull_phantom(11, spacing=2.0)


@pytest.fixture(scope="module")
def holed(skull) -> MetaTensor:
    return RandCranialDefect("bilateral").set_random_state(1)(skull)


def test_a_large_hole_in_the_vault_is_filled(skull, holed):
    fill = InterpolateVault()(holed)
    implant = (skull > 0) & (holed == 0)
    assert fill.shape == skull.shape and fill.dtype == torch.float32
    assert float(fill.min()) >= 0 and float(fill.max()) == 1.0
    assert not bool((fill.as_tensor()[holed.as_tensor() > 0] > 0).any())
    reach = torch.nn.functional.max_pool3d(implant.as_tensor().float(), 5, 1, 2) > 0
    assert dice((fill >= 0.5) & reach, implant) > 0.85


def test_a_hole_over_most_of_a_vertex_that_is_flatter_than_the_model_is_filled():
    skull = skull_phantom(10, spacing=2.0)
    holed = RandCranialDefect("bilateral", size_mm=(55.0, 55.0)).set_random_state(1)(skull)
    implant = (skull > 0) & (holed == 0)
    reach = torch.nn.functional.max_pool3d(implant.as_tensor().float(), 5, 1, 2) > 0
    assert dice((InterpolateVault()(holed) >= 0.5) & reach, implant) > 0.84


def test_below_the_base_it_is_filled_on_request_only(skull):
    fill, low = (InterpolateVault(below_mm=mm)(skull).as_tensor()[0].numpy() for mm in (0.0, 20.0))
    affine = skull.affine.numpy()
    vault = vault_of(skull.as_tensor()[0].numpy() > 0, affine)
    index = np.indices(fill.shape).reshape(3, -1).T
    above = vault.above_base(vault.local(index @ affine[:3, :3].T + affine[:3, 3])).reshape(fill.shape)
    assert not (fill[above < 0] > 0).any() and not (low[above < -20] > 0).any()
    assert (low[above < 0] > 0).sum() > 100  # the orbits
    np.testing.assert_array_equal(low[above > 0], fill[above > 0])


def test_fractions_at_the_surfaces_lie_between(holed):
    fill = InterpolateVault()(holed).as_tensor()
    between = ((fill > 0.05) & (fill < 0.95)).sum()
    assert 0.2 < float(between / (fill > 0).sum()) < 0.9


def test_it_appends_to_fractions_and_other_channels(holed):
    soft = ResampleToSpacing(2.5, threshold=None)(holed)
    two = MetaTensor(torch.cat([soft.as_tensor(), soft.as_tensor()]), affine=soft.affine)
    out = InterpolateVaultd("image", append=True)({"image": two})["image"]
    assert out.shape[0] == 3 and torch.equal(out[:2].as_tensor(), two.as_tensor())
    torch.testing.assert_close(out.affine, soft.affine)
    assert bool((out[2] > 0).any())


def test_without_a_vault_there_is_nothing_to_fill():
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    assert not interpolate_vault(np.zeros((20, 20, 20), dtype=bool), affine).any()
    bar = np.zeros((20, 20, 20), dtype=bool)
    bar[8:12, 8:12, :] = True
    assert not interpolate_vault(bar, affine).any()


def test_wrong_shape_is_told():
    with pytest.raises(ValueError, match="3D skull"):
        InterpolateVault()(torch.zeros(4, 4, 4))
