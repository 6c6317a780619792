"""Whether a phantom's voxels depend on how a processor rounds."""

import numpy as np

from monai_sparse_refine.data.phantom_head import Head
from monai_sparse_refine.data.phantom_volume import _solid


def _points_at_the_edge(head: Head, *, pores: bool) -> np.ndarray:
    """Single precision points (3, N) of random lines that lie as near to bone's edge as they can."""
    random = np.random.default_rng(0)
    low, high = (random.uniform(-90.0, 90.0, size=(3, 20_000)) for _ in range(2))
    inside = [head.solid(*end, voxel_mm=1.0, pores=pores) < 0 for end in (low, high)]
    crossing = inside[0] != inside[1]
    low, high, inside = low[:, crossing], high[:, crossing], inside[0][crossing]
    for _ in range(40):
        middle = 0.5 * (low + high)
        same = (head.solid(*middle, voxel_mm=1.0, pores=pores) < 0) == inside
        low, high = np.where(same, middle, low), np.where(same, high, middle)
    return low.astype(np.float32)


def test_voxels_at_the_edge_of_bone_do_not_turn_on_rounding() -> None:
    head = Head.draw(0)
    points = _points_at_the_edge(head, pores=True)
    exact = head.solid(*points.astype(np.float64), voxel_mm=1.0) < 0
    single = head.solid(*points, voxel_mm=1.0) < 0
    assert np.count_nonzero(single != exact) > 20  # single precision alone would not do
    assert np.array_equal(_solid(head, *points, voxel_mm=1.0, pores=True) < 0, exact)


def test_a_part_without_unsure_points_is_drawn() -> None:
    far = np.array([0.0], dtype=np.float32)
    assert _solid(Head.draw(0), far, far, far, voxel_mm=1.0, pores=True) > 0  # the middle of the brain
