import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from monai_sparse_refine.networks.occupancy import OccupiedCells, within_bounds

rows = st.lists(st.tuples(st.integers(0, 1), *[st.integers(-6, 6)] * 3), min_size=0, max_size=20)


def _tensor(values: list[tuple[int, ...]]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.int32).reshape(-1, 4)


@settings(deadline=None)  # the first one compiles
@given(rows, rows, st.sampled_from([1, 2, 4]))
def test_occupied_agrees_with_a_set(queries, members, stride):
    cells = {(b, x // stride, y // stride, z // stride) for b, x, y, z in members}
    queries = [(b, x * stride, y * stride, z * stride) for b, x, y, z in queries]
    expected = [(b, x // stride, y // stride, z // stride) in cells for b, x, y, z in queries]
    assert OccupiedCells(_tensor(members)).at(_tensor(queries), stride=stride).tolist() == expected


def test_within_bounds_excludes_the_upper_edge_and_negative_rows():
    coordinates = _tensor([(0, 0, 0, 0), (0, 3, 4, 5), (0, 4, 0, 0), (0, 0, -1, 0), (7, 1, 1, 5)])
    assert within_bounds(coordinates, (4, 5, 6)).tolist() == [True, True, False, False, True]
