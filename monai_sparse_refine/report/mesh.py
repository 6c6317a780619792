"""A mask's surface as an STL mesh in world millimetres."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import trimesh
from scipy import ndimage, sparse
from skimage.measure import marching_cubes

from monai_sparse_refine.errors import InputError
from monai_sparse_refine.files import atomic_path
from monai_sparse_refine.volume import as_mask, bounding_box

__all__ = ["mask_to_mesh", "write_mesh"]


# How far the values of a smoothed mask keep from the level of its surface: a hundredth of a voxel or two.
CLEARANCE = 0.01
# A voxel does not tell where in it the surface runs, so that a vertex may go half a voxel to make the surface even.
FREEDOM = 0.5
STEPS = 20  # of at most half the way to the mean of the neighbours
SAMENESS = 24  # power of the cosine between two normals: neighbours across an edge do not pull, or it would be worn off


def mask_to_mesh(mask: Any, *, affine: Any = None, smooth_mm: float = 0.6) -> trimesh.Trimesh:
    """Surface of a mask: closed, facing outwards, in world millimetres.

    The mask is smoothed before its surface is taken, so that the steps of the voxels go. Where the surface runs
    nearly along the voxels, as at the vertex of a skull, the steps are too wide for that and leave terraces. So
    vertices move towards their neighbours, by half a voxel at most and not across edges (after constrained elastic
    surface nets, Gibson 1998, doi 10.1007/BFb0056277). The surface is taken at the level at which it then encloses
    the voxels' own volume, so that smoothing neither shrinks nor swells it.

    Args:
        mask: [X, Y, Z] or [1, X, Y, Z], not empty.
        affine: voxel to world mm, RAS, [4, 4]; None takes that of a MetaTensor.
        smooth_mm: standard deviation of the mask's smoothing along each axis, in mm, held between 0.4 and 1 voxel;
            0 for the bare surface of the voxels.

    Returns:
        The mesh.

    Raises:
        InputError: an empty mask, or an affine that is unknown or not invertible.
    """
    volume = as_mask(mask, name="mask")
    if affine is None:
        affine = getattr(mask, "affine", None)
    if affine is None:
        raise InputError("affine is not known: pass affine=, or a MetaTensor that carries one")
    matrix = np.asarray(affine, dtype=float).reshape(4, 4)
    turned = float(np.linalg.det(matrix[:3, :3])) if np.isfinite(matrix).all() else 0.0
    if turned == 0:
        raise InputError(f"affine {matrix[:3].tolist()} cannot be inverted; pass the volume's own")
    box = bounding_box(volume)
    if box is None:
        raise InputError("mask is empty, so it has no surface; write a mesh only where there is an implant")
    # Wide enough for the smoothed mask to fall to zero, so that the surface closes.
    margin = 4
    field = np.pad(volume[box], margin).astype(np.float32)
    if smooth_mm > 0:
        spacing = np.linalg.norm(matrix[:3, :3], axis=0)
        field = ndimage.gaussian_filter(field, np.clip(smooth_mm / spacing, 0.4, 1.0), truncate=3.0)
        vertices, faces = _surface_of_volume(field, float(np.count_nonzero(volume[box])))
    else:
        vertices, faces = _surface(field, 0.5)
    if turned < 0:
        # A mirrored grid turns every triangle inside out.
        faces = faces[:, ::-1]
    voxels = vertices - margin + [part.start for part in box]
    return trimesh.Trimesh(voxels @ matrix[:3, :3].T + matrix[:3, 3], faces, process=True)


def _surface(field: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Vertices in voxels (N, 3) and triangles (M, 3), facing outwards, where the field passes the level."""
    # A value at the level puts several vertices on one voxel's centre, where the surface would touch itself;
    # and STL has single precision, which has to tell neighbouring vertices apart.
    clear = np.where(np.abs(field - level) < CLEARANCE, np.float32(level + CLEARANCE), field)
    vertices, faces, _, _ = marching_cubes(clear, level=level, gradient_direction="ascent")
    return vertices.astype(np.float64), faces


def _even_out(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Vertices (N, 3) moved towards the mean of their neighbours, by at most FREEDOM voxels along each axis."""
    # Every edge of a closed surface stands in two triangles, once in each direction.
    start, end = faces.ravel(), np.roll(faces, -1, axis=1).ravel()
    normals = trimesh.Trimesh(vertices, faces, process=False).vertex_normals
    weight = np.clip(np.einsum("ij,ij->i", normals[start], normals[end]), 0, 1) ** SAMENESS
    weight /= 2 * np.bincount(start, minlength=len(vertices))[start]
    pull = sparse.csr_matrix((weight, (start, end)), shape=(len(vertices),) * 2)
    pull -= sparse.diags(np.bincount(start, weight, minlength=len(vertices)))
    moved = vertices
    for _ in range(STEPS):
        moved = np.clip(moved + pull @ moved, vertices - FREEDOM, vertices + FREEDOM)
    return moved


def _surface_of_volume(field: np.ndarray, voxels: float) -> tuple[np.ndarray, np.ndarray]:
    """The even surface that encloses a given volume, by false position on the level."""
    # A sliver that smoothing has all but dissolved is taken at a level that it still reaches.
    low, high = 0.1, min(0.75, 0.9 * float(field.max()))
    level, best, least = min(0.5, high), None, np.inf
    excess = {}
    for _ in range(4):
        vertices, faces = _surface(field, level)
        vertices = _even_out(vertices, faces)
        corners = vertices[faces]  # (M, 3 corners, 3)
        # Tetrahedra from the origin to each triangle: their signed volumes sum up to what is enclosed.
        inside = np.einsum("ij,ij->", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])) / 6
        excess[level] = inside / voxels - 1
        if abs(excess[level]) < least:
            best, least = (vertices, faces), abs(excess[level])
        if least < 0.003:
            break
        # The volume shrinks as the level rises; by how much, two levels tell.
        known = sorted(excess, key=lambda v: abs(excess[v]))[:2]
        slope = -1.0 if len(known) < 2 else (excess[known[0]] - excess[known[1]]) / (known[0] - known[1])
        step = -excess[known[0]] / slope if slope < 0 else 0.1 * np.sign(excess[known[0]])
        level = float(np.clip(known[0] + step, low, high))
        if level in excess:
            break
    assert best is not None
    return best


def write_mesh(mask: Any, *, affine: Any = None, path: str | Path, smooth_mm: float = 0.6) -> Path:
    """Write the surface of a mask as a binary STL file, complete or not at all.

    Args:
        mask: [X, Y, Z] or [1, X, Y, Z], not empty.
        affine: voxel to world mm, RAS, [4, 4]; None takes that of a MetaTensor.
        path: file to write, which ends in .stl.
        smooth_mm: as in `mask_to_mesh`.

    Returns:
        The path written.

    Raises:
        InputError: as `mask_to_mesh`, or for another suffix.
    """
    target = Path(path)
    if target.suffix.lower() != ".stl":
        raise InputError(f"path is {target}; a mesh is saved as .stl")
    mesh = mask_to_mesh(mask, affine=affine, smooth_mm=smooth_mm)
    with atomic_path(target) as temporary:
        temporary.write_bytes(trimesh.exchange.stl.export_stl(mesh))
    return target
