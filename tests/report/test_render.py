from __future__ import annotations

import numpy as np
import pytest

from monai_sparse_refine.report.render import BACKGROUND, SIDES, at_hits, cast, occupancy, shade


@pytest.mark.parametrize("pitch", [0.5, 1.0, 1.7])
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.5, 0.9, 2.5)])
def test_resampling_keeps_place_and_volume(spacing, pitch):
    shape = [int(60 / mm) for mm in spacing]
    grid = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), axis=-1)
    centre = np.array([25.0, 30.0, 33.0])
    mask = np.linalg.norm((grid + 0.5) * spacing - centre, axis=-1) < 14
    field = occupancy(mask, spacing, pitch)
    assert field.dtype == np.float32 and field.min() >= 0 and field.max() <= 1 + 1e-5
    assert field[0].max() < 0.05 and field[:, :, -1].max() < 0.05
    volume = mask.sum() * np.prod(spacing)
    # The cubes are as nearly of the pitch as a whole number of them allows.
    cubes = [n * mm / (size - 2) for n, mm, size in zip(shape, spacing, field.shape, strict=True)]
    assert field.sum() * np.prod(cubes) == pytest.approx(volume, rel=0.02)
    weights = [field.sum(axis=tuple({0, 1, 2} - {axis})) for axis in range(3)]
    place = [
        np.average((np.arange(len(w)) - 0.5) * c, weights=w) for w, c in zip(weights, cubes, strict=True)
    ]
    np.testing.assert_allclose(place, centre, atol=0.3)


def test_nothing_gives_background():
    field = occupancy(np.zeros((4, 5, 6), dtype=bool), (1, 1, 1), 1.0)
    hits = cast(field, SIDES[1, 1])
    assert not hits.found.any() and np.isnan(hits.depth).all()
    picture = shade(hits, np.ones(3))
    assert picture.shape == (8, 6, 3)
    np.testing.assert_allclose(picture, np.broadcast_to(BACKGROUND, picture.shape))


# Where a mark at the right, front and top corner of the patient shows.
CORNERS = {
    "front": ("top", "left"),
    "back": ("top", "right"),
    "right": ("top", "right"),
    "left": ("top", "left"),
    "top": ("top", "right"),
    "below": ("top", "left"),
}


@pytest.mark.parametrize("side", SIDES.values(), ids=lambda side: side.name)
def test_a_viewer_sees_the_body_the_right_way_round(side):
    body = np.zeros((30, 30, 30), dtype=bool)
    body[22:27, 22:27, 22:27] = True
    hits = cast(occupancy(body, (1, 1, 1), 1.0), side)
    rows, columns = np.nonzero(hits.found)
    middle = (hits.found.shape[0] - 1) / 2
    assert (
        "top" if rows.mean() < middle else "bottom",
        "left" if columns.mean() < middle else "right",
    ) == CORNERS[side.name]
    near = side.name in ("front", "right", "top")
    assert (np.nanmin(hits.depth) < middle) == near
    letters = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1)}
    axis, sign = letters[side.edges[1]]
    assert side.right == (axis, sign)
    axis, sign = letters[side.edges[0]]
    assert side.right == (axis, -sign)
    # Right-handed: forward x up = right.
    vectors = [np.eye(3)[a] * s for a, s in (side.forward, side.up, side.right)]
    np.testing.assert_array_equal(np.cross(vectors[0], vectors[1]), vectors[2])


def test_normals_of_a_ball_point_away_from_its_centre():
    grid = np.indices((50, 50, 50)) - 24.5
    ball = np.linalg.norm(grid, axis=0) < 20
    hits = cast(occupancy(ball, (1, 1, 1), 1.0), SIDES[1, 1])
    rows, columns = np.nonzero(hits.found)
    centre = (np.array(hits.found.shape) - 1) / 2
    right, up = (columns - centre[1]) / 20, (centre[0] - rows) / 20
    inner = right**2 + up**2 < 0.7
    expected = np.stack([right, up, np.sqrt(np.maximum(0, 1 - right**2 - up**2))], axis=-1)[inner]
    found = hits.normal[rows, columns][inner]
    cosine = (found * expected).sum(axis=-1) / np.linalg.norm(expected, axis=-1)
    assert cosine.min() > 0.97


def test_the_nearer_of_two_plates_is_hit_and_can_be_looked_up():
    body, mark = np.zeros((20, 20, 20), dtype=bool), np.zeros((20, 20, 20), dtype=bool)
    body[4:16, 14:17, 4:16] = True  # in front
    mark[2:18, 4:7, 2:18] = True  # behind
    both = occupancy(body | mark, (1, 1, 1), 1.0)
    hits = cast(both, SIDES[1, 1])
    share = at_hits(occupancy(mark, (1, 1, 1), 1.0), SIDES[1, 1], hits)
    assert share[10, 10] < 0.1 and share[3, 10] > 0.3
    assert hits.depth[10, 10] < hits.depth[3, 10] - 8


def test_light_comes_from_the_upper_left():
    ball = np.linalg.norm(np.indices((40, 40, 40)) - 19.5, axis=0) < 16
    hits = cast(occupancy(ball, (1, 1, 1), 1.0), SIDES[1, 1])
    picture = shade(hits, np.ones(3) * 0.8)
    assert picture.min() >= 0 and picture.max() <= 1
    assert picture[12, 12].mean() > picture[30, 30].mean() + 0.15
