from __future__ import annotations

import numpy as np
import pytest
import torch
import trimesh
from hypothesis import given, settings
from hypothesis.extra import numpy as hnp
from monai.data import MetaTensor

from monai_sparse_refine.errors import InputError
from monai_sparse_refine.report.mesh import mask_to_mesh, write_mesh


def rotation(*degrees: float) -> np.ndarray:
    a, b = np.radians(degrees)
    about_z = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    return about_z @ about_x


def affine_of(spacing, turn=None, offset=(0, 0, 0)) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = (np.eye(3) if turn is None else turn) @ np.diag(spacing)
    affine[:3, 3] = offset
    return affine


AFFINES = {
    "identity": np.eye(4),
    "anisotropic": affine_of((0.5, 0.75, 2.0), offset=(-40, 7, 900)),
    "mirrored": affine_of((-0.5, -0.75, 2.0), offset=(40, -7, 1)),
    "left-handed": affine_of((-1.0, 1.0, 1.0)),
    "oblique": affine_of((0.6, 0.8, 1.5), rotation(25, -40), (12, -30, 55)),
    "oblique, left-handed": affine_of((-0.6, 0.8, 1.5), rotation(25, -40), (12, -30, 55)),
}


def ball(affine, radius=12.0):
    """A ball in the world, as a mask on the affine's grid, and its centre in mm."""
    size = np.ceil(2 * radius / np.linalg.norm(affine[:3, :3], axis=0)).astype(int) + 6
    middle = affine @ [*((size - 1) / 2), 1]
    index = np.stack(np.meshgrid(*[np.arange(n) for n in size], indexing="ij"), axis=-1)
    world = index @ affine[:3, :3].T + affine[:3, 3]
    return np.linalg.norm(world - middle[:3], axis=-1) <= radius, middle[:3]


@pytest.mark.parametrize("name", AFFINES)
def test_a_ball_is_closed_in_place_and_of_its_volume(tmp_path, name):
    affine = AFFINES[name]
    mask, centre = ball(affine)
    write_mesh(mask[None].astype(np.uint8), affine=affine, path=tmp_path / "ball.stl")
    mesh = trimesh.load(tmp_path / "ball.stl")
    assert mesh.is_watertight and mesh.is_winding_consistent
    voxels = mask.sum() * abs(np.linalg.det(affine[:3, :3]))
    assert mesh.volume == pytest.approx(voxels, rel=0.03)  # positive: the triangles face outwards
    np.testing.assert_allclose(mesh.center_mass, centre, atol=0.05)
    np.testing.assert_allclose(mesh.bounds, [centre - 12, centre + 12], atol=1.1)


def test_the_surface_is_smooth_where_the_voxels_are_not():
    mask, _ = ball(np.eye(4))
    sphere = 4 * np.pi * 12**2
    rough = mask_to_mesh(mask, affine=np.eye(4), smooth_mm=0)
    smooth = mask_to_mesh(mask, affine=np.eye(4), smooth_mm=1.0)
    assert abs(smooth.area - sphere) < 0.5 * abs(rough.area - sphere)


def test_no_terraces_where_the_surface_runs_along_the_voxels():
    """The vertex of a skull: a cap of a shell of 75 mm radius, 6 mm thick, on voxels of 1 mm."""
    x, y, z = np.ogrid[-35:36, -35:36, 0:80]
    radius = np.sqrt(x**2 + y**2 + z**2)
    cap = (radius < 75) & (radius >= 69) & (np.hypot(x, y) < 30)
    mesh = mask_to_mesh(cap, affine=affine_of((1, 1, 1), offset=(-35, -35, 0)))
    assert mesh.is_watertight and mesh.volume == pytest.approx(cap.sum(), rel=0.01)
    distance = np.linalg.norm(mesh.vertices, axis=1)
    outside = (distance > 72) & (np.hypot(*mesh.vertices[:, :2].T) < 20)
    assert (distance[outside] - 75).std() < 0.13
    edges = mesh.edges_unique[outside[mesh.edges_unique].all(axis=1)]
    steps = np.abs(np.diff(distance[edges], axis=1)) / mesh.edges_unique_length.mean()
    assert steps.max() < 0.2


@pytest.mark.parametrize("shape", [(8, 8, 8), (30, 30, 6)])
def test_edges_stay_and_faces_stay_in_place(shape):
    mask = np.pad(np.ones(shape, dtype=bool), 2)
    mesh = mask_to_mesh(mask, affine=affine_of((1.0, 1.0, 2.0)))
    voxels = mesh.vertices / (1.0, 1.0, 2.0)
    np.testing.assert_allclose(np.ptp(voxels, axis=0), shape, atol=0.4)
    to_edge = np.linalg.norm((voxels - np.add(shape, 1.5))[:, [0, 2]], axis=1)
    assert to_edge.min() < 0.9  # 0.5 before vertices move, 1.0 where edges are not kept


def test_a_mask_up_to_the_edge_of_the_volume_is_closed():
    mesh = mask_to_mesh(np.ones((5, 6, 7)), affine=np.eye(4))
    assert mesh.is_watertight
    assert mesh.volume == pytest.approx(210, rel=0.08)
    np.testing.assert_allclose(mesh.bounds, [[-0.5, -0.5, -0.5], [4.5, 5.5, 6.5]], atol=0.3)


@settings(max_examples=40, deadline=None)
@given(hnp.arrays(bool, (4, 5, 4)))
def test_any_mask_gives_a_closed_surface(mask):
    if mask.any():
        mesh = mask_to_mesh(mask, affine=affine_of((0.5, 0.8, 2.0)))
        assert len(mesh.faces) and mesh.is_watertight and mesh.volume > 0


def test_the_affine_of_a_metatensor_is_used():
    mask, centre = ball(AFFINES["oblique"])
    image = MetaTensor(torch.as_tensor(mask[None]), affine=torch.as_tensor(AFFINES["oblique"]))
    np.testing.assert_allclose(mask_to_mesh(image).center_mass, centre, atol=0.05)


def test_bad_input_leaves_no_file(tmp_path):
    mask = np.ones((3, 3, 3))
    with pytest.raises(InputError, match="mask is empty"):
        write_mesh(mask * 0, affine=np.eye(4), path=tmp_path / "a.stl")
    with pytest.raises(InputError, match="affine is not known"):
        write_mesh(mask, path=tmp_path / "a.stl")
    with pytest.raises(InputError, match="cannot be inverted"):
        write_mesh(mask, affine=np.diag([1, 1, 0, 1]), path=tmp_path / "a.stl")
    with pytest.raises(InputError, match=r"saved as \.stl"):
        write_mesh(mask, affine=np.eye(4), path=tmp_path / "a.obj")
    assert list(tmp_path.iterdir()) == []
