import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor
from monai.transforms import Spacing

from monai_sparse_refine.errors import InputError
from monai_sparse_refine.transforms import average_onto, target_grid
from monai_sparse_refine.transforms.target_grids import reversed_grid


def _affine(spacing=(1.0, 2.0, 3.0), turn=0.3) -> torch.Tensor:
    matrix = np.eye(4)
    matrix[:2, :2] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    matrix[:3, 3] = (11.0, -5.0, 7.0)
    return torch.from_numpy(matrix @ np.diag([*spacing, 1.0]))


@pytest.mark.parametrize("scale_extent", [True, False])
@pytest.mark.parametrize("spacing", [(0.5, 1.0, 1.5), (0.5, 0.5, 0.75)])
def test_grids_are_those_of_monai_spacing(scale_extent, spacing):
    volume = MetaTensor(torch.rand(1, 6, 8, 10), affine=_affine(turn=0.0))
    resampled = Spacing(spacing, scale_extent=scale_extent, align_corners=scale_extent)(volume)
    grid = target_grid(volume.shape[1:], volume.affine, spacing=spacing, scale_extent=scale_extent)
    assert grid.shape == tuple(resampled.shape[1:])
    if scale_extent:  # its offset drops signs, so only the matrix and our own box can be compared
        np.testing.assert_allclose(grid.affine[:3, :3], resampled.affine[:3, :3])
    else:
        np.testing.assert_allclose(grid.affine, resampled.affine)


def test_edges_stay_with_scale_extent_and_centres_without():
    shape, affine = (6, 8, 10), _affine()
    for factor in (2, 2.5, (1, 3, 4)):
        grid = target_grid(shape, affine, factor=factor)
        for ends in (lambda n: [-0.5] * 3, lambda n: [k - 0.5 for k in n]):
            old, new = (np.array([*ends(s), 1.0]) for s in (shape, grid.shape))
            np.testing.assert_allclose(grid.affine.numpy() @ new, affine.numpy() @ old)
    centred = target_grid(shape, affine, factor=2, scale_extent=False)
    assert centred.shape == (11, 15, 19)
    np.testing.assert_allclose(centred.affine[:, 3], affine[:, 3])
    both = target_grid(shape, affine, target_shape=(12, 9, 30), scale_extent=False)
    for ends in (lambda n: [0] * 3, lambda n: [k - 1 for k in n]):
        np.testing.assert_allclose(
            both.affine.numpy() @ np.array([*ends(both.shape), 1.0]),
            affine.numpy() @ np.array([*ends(shape), 1.0]),
        )


def test_doublings_reach_the_finest_axis():
    for factor, expected in ((1, 0), (0.5, 0), (2, 1), (2.1, 2), (3.59, 2), (8, 3), ((1, 1, 3), 2)):
        assert target_grid((8, 8, 8), torch.eye(4), factor=factor).doublings == expected
    assert target_grid((64, 64, 18), torch.eye(4), target_shape=(512, 512, 140)).doublings == 3


def test_impossible_grids_are_named():
    for options, words in (
        ({}, "no size"),
        ({"factor": 2, "spacing": 1}, "factor and spacing"),
        ({"factor": 0}, "factor is 0"),
        ({"spacing": (1, 2)}, "spacing is"),
        ({"target_shape": (1, -2, 3)}, "target_shape is"),
        ({"factor": float("nan")}, "positive"),
    ):
        with pytest.raises(InputError, match=words):
            target_grid((4, 4, 4), torch.eye(4), **options)


@settings(deadline=None, max_examples=25)
@given(
    shape=st.tuples(*[st.integers(1, 6)] * 3),
    target=st.tuples(*[st.integers(1, 9)] * 3),
    seed=st.integers(0, 99),
)
def test_averages_keep_the_total(shape, target, seed):
    values = torch.rand(*(2 * n for n in shape), generator=torch.Generator().manual_seed(seed))
    grid = target_grid(shape, torch.eye(4), target_shape=target)
    out = average_onto(values, grid, doublings=1)
    assert out.shape == target
    torch.testing.assert_close(out.mean(), values.mean())


def test_averages_of_blocks_and_of_the_same_grid():
    values = torch.rand(8, 6, 4)
    blocks = target_grid((8, 6, 4), torch.eye(4), factor=0.5)
    expected = torch.nn.functional.avg_pool3d(values[None], 2)[0]
    torch.testing.assert_close(average_onto(values, blocks, doublings=0), expected)
    same = target_grid((4, 3, 2), torch.eye(4), factor=2)
    assert torch.equal(average_onto(values, same, doublings=1), values)


def test_centres_of_first_voxels_lie_in_a_grid_of_halves():
    """A centred grid starts inside the box: half of its first voxel lies in each of two halves."""
    values = torch.arange(8.0).reshape(8, 1, 1).expand(8, 2, 2)
    grid = target_grid((4, 1, 1), torch.eye(4), factor=2, scale_extent=False)
    assert grid.shape == (7, 1, 1)
    # In halves the first centre lies at the edge between values 0 and 1.
    torch.testing.assert_close(average_onto(values, grid, doublings=1)[:, 0, 0], torch.arange(7.0) + 0.5)


def test_a_cut_and_a_reversed_grid():
    values = torch.rand(8, 6, 4)
    grid = target_grid((8, 6, 4), torch.eye(4), factor=0.5)
    back = reversed_grid((8, 6, 4), torch.eye(4), step=grid.step, first=grid.first)
    assert back.doublings == 1
    repeated = average_onto(values[::2, ::2, ::2], back, doublings=0)
    torch.testing.assert_close(repeated[::2, ::2, ::2], values[::2, ::2, ::2])
    whole = average_onto(values, grid, doublings=0)
    cut = average_onto(values[2:], grid.seen_from((2, 0, 0)), doublings=0)
    torch.testing.assert_close(cut[1:], whole[1:])


def test_slabs_do_not_show(monkeypatch):
    values = torch.rand(9, 5, 7)
    grid = target_grid((9, 5, 7), torch.eye(4), target_shape=(4, 3, 5))
    whole = average_onto(values, grid, doublings=0)
    monkeypatch.setattr("monai_sparse_refine.transforms.target_grids._SLAB", 1)
    torch.testing.assert_close(average_onto(values, grid, doublings=0), whole)
