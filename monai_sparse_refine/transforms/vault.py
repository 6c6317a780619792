"""Where the cranial vault of a skull lies: found from its bone voxels alone, in world millimetres."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from monai_sparse_refine.errors import InputError

__all__ = ["RIM_DEG", "Vault", "find_vault", "some_voxels", "vault_of"]

_LENGTH_TO_BREADTH = 1.2  # a typical head is a fifth longer than it is wide
_CAP_MM = 60.0  # the highest part of a head, which holds vault and nothing else
_RADIUS_MM = (50.0, 100.0)  # half breadth of anything that can be a human vault
RIM_DEG = -6.0  # upper orbital rim as seen from the centre of an upright head
_OCCIPUT_DEG = -17.0
_SOME_POINTS = 40_000
_MAX_TILT_DEG = 22.0  # heads are scanned with the chin raised or lowered, but not more


@dataclass(frozen=True)
class Vault:
    """A rough model of the vault: a sphere, stretched from front to back, in an upright frame.

    Attributes:
        centre: about the centre of the cranial cavity, world mm (3,).
        axes: rows are the head's right, front and up in world coordinates (3, 3).
        radius_mm: half breadth of the vault.
        points: some of the bone's points, relative to the centre and along the axes (N, 3).
    """

    centre: np.ndarray
    axes: np.ndarray
    radius_mm: float
    points: np.ndarray

    def local(self, world: np.ndarray) -> np.ndarray:
        """World mm (N, 3) -> right, front, up about the centre (N, 3)."""
        return (world - self.centre) @ self.axes.T

    def world(self, local: np.ndarray) -> np.ndarray:
        """Right, front, up about the centre (N, 3) -> world mm (N, 3)."""
        return local @ self.axes + self.centre

    def model_radius(self, local: np.ndarray) -> np.ndarray:
        """Distance from the centre to the wall, in the direction of each point (N, 3) -> (N,)."""
        squares = np.square(local)
        length = squares.sum(axis=-1)
        squeezed = length - squares[..., 1] * (1.0 - _LENGTH_TO_BREADTH**-2)
        return self.radius_mm * np.sqrt(length / np.maximum(squeezed, 1e-6))

    def outer_radius(self, direction: np.ndarray) -> float | None:
        """Distance from the centre to the outer surface in a unit direction (3,), None without bone there."""
        lengths = np.linalg.norm(self.points, axis=1)
        close = self.points @ direction > lengths * np.cos(np.deg2rad(6.0))
        wall = lengths[close] / self.model_radius(direction[None])[0]
        wall = wall[(wall > 0.75) & (wall < 1.3)]
        if wall.size < 3:
            return None
        return float(np.quantile(wall, 0.95) * self.model_radius(direction[None])[0])

    def above_base(self, local: np.ndarray) -> np.ndarray:
        """Height in mm over the plane through the orbital rims and the occiput, for points (N, 3) -> (N,)."""
        front = self.radius_mm * _LENGTH_TO_BREADTH
        rim, occiput = (front * np.tan(np.deg2rad(angle)) for angle in (RIM_DEG, _OCCIPUT_DEG))
        return local[:, 2] - (0.5 * (rim + occiput) + 0.5 * (rim - occiput) * local[:, 1] / front)


def find_vault(points: np.ndarray) -> Vault:
    """Fit the vault to bone points, also where the scan stops below the vertex or goes down to the chest.

    Args:
        points: bone voxels, or an even selection of them, in world mm, RAS (N, 3).

    Raises:
        InputError: where there is no vault of a plausible size at the top of the scan.
    """
    top = np.quantile(points[:, 2], 0.999)
    cap = points[points[:, 2] > top - _CAP_MM]
    centre, radius = _fit(cap)
    for _ in range(6):
        # Keep what is near the sphere and above its equator: not the face, not bone inside, not the couch.
        reach = _reach(points, centre)
        near = (np.abs(reach - radius) < 0.17 * radius) & (points[:, 2] > centre[2] - 0.1 * radius)
        if near.sum() < 50:
            break
        centre, radius = _fit(points[near])
    reach = _reach(points, centre)
    wall = (np.abs(reach - radius) < 0.17 * radius) & (points[:, 2] > centre[2])
    if not _RADIUS_MM[0] < radius < _RADIUS_MM[1] or wall.sum() < 50 or not _surrounds(points[wall] - centre):
        raise InputError(
            "no cranial vault found in the mask: expected a skull with forehead, sides and back of the vault "
            "above the orbits, up along the affine's third world axis, spacing in mm; check mask and affine"
        )
    upright = Vault(centre, np.eye(3), radius, points - centre)
    tilt = np.deg2rad(_rim_elevation(upright) - RIM_DEG)
    cos, sin = np.cos(tilt), np.sin(tilt)
    axes = np.array([[1.0, 0.0, 0.0], [0.0, cos, sin], [0.0, -sin, cos]])
    return Vault(centre, axes, radius, (points - centre) @ axes.T)


def vault_of(bone: np.ndarray, affine: np.ndarray, *, points: int = _SOME_POINTS) -> Vault:
    """Fit the vault to some of a mask's voxels (see :func:`find_vault`).

    Args:
        bone: bool [X, Y, Z].
        affine: voxel to world mm, RAS (4, 4).
        points: how many voxels are looked at.

    Raises:
        InputError: for an empty mask, or one without a vault.
    """
    index = some_voxels(bone, points)
    if not len(index):
        raise InputError("the mask is empty, so it has no vault")
    return find_vault(index @ affine[:3, :3].T + affine[:3, 3])


def some_voxels(bone: np.ndarray, points: int) -> np.ndarray:
    """At most so many voxels of a mask, the same ones every time.

    Args:
        bone: bool [X, Y, Z].
        points: how many are drawn where it has more; some of them twice.

    Returns:
        Their indices (N, 3).
    """
    order: Literal["C", "F"] = "F" if bone.flags.f_contiguous else "C"
    flat = np.flatnonzero(bone.ravel(order))
    # Drawn, not every n-th voxel: strides would line up with the rows of the volume.
    if flat.size > points:
        flat = flat[np.random.default_rng(0).integers(0, flat.size, points)]
    return np.stack(np.unravel_index(flat, bone.shape, order), axis=1)


def _reach(points: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Distance to the centre with the length of the head brought to its breadth (N, 3) -> (N,)."""
    return np.linalg.norm((points - centre) / (1.0, _LENGTH_TO_BREADTH, 1.0), axis=1)


def _fit(points: np.ndarray) -> tuple[np.ndarray, float]:
    """Least-squares stretched sphere: |q|^2 = 2 q . c + (r^2 - |c|^2) is linear in centre and radius."""
    stretch = np.array([1.0, _LENGTH_TO_BREADTH, 1.0])
    middle = points.mean(axis=0)
    q = (points - middle) / stretch
    system = np.concatenate([2.0 * q, np.ones((len(q), 1))], axis=1)
    solution, *_ = np.linalg.lstsq(system, np.square(q).sum(axis=1), rcond=None)
    radius = float(np.sqrt(max(solution[3] + np.square(solution[:3]).sum(), 0.0)))
    return middle + solution[:3] * stretch, radius


def _surrounds(local: np.ndarray) -> bool:
    """Whether bone lies in nearly all of 12 directions around the vertical axis."""
    sector = np.floor(np.arctan2(local[:, 1], local[:, 0]) / (2.0 * np.pi) * 12.0).astype(int) % 12
    return bool(np.unique(sector).size >= 10)


def _rim_elevation(vault: Vault) -> float:
    """Elevation of the upper orbital rim in degrees, seen from the centre.

    Going down the forehead on both sides of the midline, all bone lies in the wall until the roofs of the
    orbits come up, much nearer to the centre.
    """
    local = vault.points
    length = np.linalg.norm(local, axis=1)
    azimuth = np.rad2deg(np.arctan2(local[:, 0], local[:, 1]))
    elevation = np.rad2deg(np.arcsin(np.clip(local[:, 2] / np.maximum(length, 1e-6), -1.0, 1.0)))
    share = length / vault.model_radius(local)
    rims = []
    for side in (-1.0, 1.0):
        in_front = (np.abs(azimuth - side * 24.0) < 9.0) & (share < 1.35)
        for rim in np.arange(24.0, -32.0, -1.0):
            band = share[in_front & (np.abs(elevation - rim - 3.0) <= 3.0)]
            if band.size >= 6 and np.quantile(band, 0.08) < 0.85:
                rims.append(rim)
                break
    # Both sides have to agree: bone inside the head or a hole in the forehead is no orbit.
    if len(rims) < 2 or max(rims) - min(rims) > 12.0 or abs(np.mean(rims) - RIM_DEG) > _MAX_TILT_DEG:
        return RIM_DEG
    return float(np.mean(rims))
