"""Shapes of cranial defects: where on the vault a hole lies, and which points it takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from monai_sparse_refine.data.phantom_shapes import Waves
from monai_sparse_refine.transforms.vault import RIM_DEG, Vault

__all__ = ["DEFECT_KINDS", "DEFECT_SIZES_MM", "Defect", "draw_defect"]

DEFECT_KINDS = (
    "bilateral",
    "frontoorbital",
    "parietotemporal",
    "random",
    "cube",
    "anywhere",
    "burred",
    "cap",
)

# Mean radius of the hole along the surface; half the side of the cube.
DEFECT_SIZES_MM = {
    "bilateral": (42.0, 60.0),
    "frontoorbital": (27.0, 42.0),
    "parietotemporal": (34.0, 54.0),
    "random": (26.0, 48.0),
    "cube": (22.0, 42.0),
    "anywhere": (14.0, 40.0),
    "burred": (20.0, 44.0),
    "cap": (26.0, 64.0),
}

# Bone nearer to the centre than this share of the vault's radius is not vault.
_WALL_SHARE = {"anywhere": 0.3}
_VAULT_SHARE = 0.74
# How far below the brow, the upper border of the face, a hole may go, in mm; the others stay above it.
_BELOW_MM = {"frontoorbital": 12.0, "anywhere": 45.0}
_CLEAR_MM = 4.0

Outline = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Defect:
    """A hole that was drawn, in the frame of one vault.

    Attributes:
        kind: one of `DEFECT_KINDS`.
        size_mm: mean radius along the surface (half the side for a cube).
        centre_mm: its middle on the outer surface, in world mm (3,).
        reach_mm: no point of the hole is farther from its middle.
    """

    kind: str
    size_mm: float
    centre_mm: np.ndarray
    reach_mm: float
    vault: Vault
    outline: Outline
    border: Waves
    roughness_mm: float

    def contains(self, local: np.ndarray) -> np.ndarray:
        """Which points are cut away, in the vault's frame: right, front, up (N, 3) -> (N,) bool."""
        taken = np.zeros(len(local), dtype=bool)
        distance = self.outline(local)
        # The noise costs most: only where it can decide.
        index = np.flatnonzero(distance < 4.0 * self.roughness_mm)
        local, distance = local[index], distance[index]
        noise = self.roughness_mm * self.border(local[:, 0], local[:, 1], local[:, 2])
        below = _BELOW_MM.get(self.kind, -_CLEAR_MM)
        share = _WALL_SHARE.get(self.kind, _VAULT_SHARE)
        inside = (distance + noise < 0.0) & (self.vault.above_base(local) + noise > -below)
        inside &= np.linalg.norm(local, axis=1) > share * self.vault.model_radius(local)
        taken[index] = inside
        return taken


def draw_defect(
    kind: str,
    vault: Vault,
    random: np.random.Generator,
    *,
    size_mm: tuple[float, float] | None = None,
    roughness_mm: float = 1.5,
) -> Defect | None:
    """Draw one defect.

    Args:
        kind: one of `DEFECT_KINDS`.
        size_mm: range of the mean radius; None: the range of the kind.
        roughness_mm: standard deviation of the irregular border.

    Returns:
        The defect, or None where there is no bone at the place that was drawn.
    """
    size = float(random.uniform(*(size_mm or DEFECT_SIZES_MM[kind])))
    direction = _draw_direction(kind, size / vault.radius_mm, random)
    border = Waves.draw(random, wavelength_mm=(14.0, 45.0), count=10)
    outline_seed = int(random.integers(2**31))
    radius = vault.outer_radius(direction)
    if radius is None:
        return None
    edge = 0.3 * roughness_mm if kind == "cube" else roughness_mm  # a window is sawn straight
    outline, reach = _OUTLINES.get(kind, _patch)(
        direction * radius, size, kind, np.random.default_rng(outline_seed)
    )
    return Defect(
        kind=kind,
        size_mm=size,
        centre_mm=vault.world(direction[None] * radius)[0],
        # The vault is longer than wide, so an arc can span more than its length where the outline was drawn.
        reach_mm=1.2 * reach + 4.0 * roughness_mm + 12.0,
        vault=vault,
        outline=outline,
        border=border,
        roughness_mm=edge,
    )


def _draw_direction(kind: str, extent: float, random: np.random.Generator) -> np.ndarray:
    """Unit vector from the centre to the middle of a hole whose radius is `extent` as an angle in rad."""
    side = random.choice((-1.0, 1.0))
    if kind == "bilateral":
        # Along the midline from the forehead over the vertex to the back.
        along = np.deg2rad(random.uniform(52.0, 118.0))
        off = np.deg2rad(random.normal(0.0, 4.0))
        return np.array([np.sin(off), np.cos(off) * np.cos(along), np.cos(off) * np.sin(along)])
    if kind == "frontoorbital":
        azimuth = side * np.deg2rad(random.uniform(10.0, 30.0))
        elevation = np.deg2rad(RIM_DEG) + 0.58 * extent + np.deg2rad(random.uniform(-3.0, 4.0))
    elif kind == "parietotemporal":
        azimuth = side * np.deg2rad(random.uniform(70.0, 118.0))
        elevation = np.deg2rad(random.uniform(14.0, 42.0))
    else:
        azimuth = side * np.deg2rad(random.uniform(0.0, 180.0))
        lowest = np.deg2rad(-24.0) if kind == "anywhere" else 0.45 * extent + np.deg2rad(4.0)
        elevation = np.arcsin(random.uniform(np.sin(lowest), 1.0))
    return np.array(
        [np.cos(elevation) * np.sin(azimuth), np.cos(elevation) * np.cos(azimuth), np.sin(elevation)]
    )


def _tangents(normal: np.ndarray, turn: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Two unit vectors across a unit normal, sideways and upward, turned by an angle."""
    # At the vertex and along the midline, sideways is the head's x axis; on the temples it is level.
    sideways = (
        np.cross((0.0, 0.0, 1.0), normal) if abs(normal[0]) > 0.9 else (1.0, 0.0, 0.0) - normal[0] * normal
    )
    sideways /= np.linalg.norm(sideways)
    upward = np.cross(normal, sideways)
    return (
        np.cos(turn) * sideways + np.sin(turn) * upward,
        np.cos(turn) * upward - np.sin(turn) * sideways,
    )


def _patch(centre: np.ndarray, size: float, kind: str, random: np.random.Generator) -> tuple[Outline, float]:
    """A rounded patch, cut towards the centre of the head so that its edge is square to the bone."""
    radius = float(np.linalg.norm(centre))
    normal: np.ndarray = centre / radius
    stretch = random.uniform(1.05, 1.3) if kind == "bilateral" else random.uniform(0.85, 1.25)
    turn = 0.0 if kind == "bilateral" else random.uniform(-0.5, 0.5)
    sideways, upward = _tangents(normal, turn)
    half = (size * stretch, size / stretch)
    power = random.uniform(2.0, 3.5)
    # A few lobes make the outline differ from case to case.
    lobes = [(k, random.normal(0.0, 0.09 / k), random.uniform(0.0, 2.0 * np.pi)) for k in (2, 3, 4, 5)]
    normal, sideways, upward = (v.astype(np.float32) for v in (normal, sideways, upward))

    def outline(local: np.ndarray) -> np.ndarray:
        length = np.maximum(np.linalg.norm(local, axis=1), 1e-6)
        arc = radius * np.arccos(np.clip(local @ normal / length, -1.0, 1.0))
        angle = np.arctan2(local @ upward, local @ sideways)
        inverse = np.abs(np.cos(angle) / half[0]) ** power + np.abs(np.sin(angle) / half[1]) ** power
        edge = inverse ** (-1.0 / power)
        for k, strength, phase in lobes:
            edge = edge * (1.0 + strength * np.cos(k * angle + phase))
        return arc - edge

    return outline, 1.35 * max(half) * 2.0 ** (0.5 - 1.0 / power)


def _burred(centre: np.ndarray, size: float, kind: str, random: np.random.Generator) -> tuple[Outline, float]:
    """A rounded patch with burr holes on its rim, where the saw was set in."""
    patch, reach = _patch(centre, size, kind, random)
    radius = float(np.linalg.norm(centre))
    normal = centre / radius
    sideways, upward = _tangents(normal)
    count = int(random.integers(2, 7))
    angles = np.linspace(0.0, 2.0 * np.pi, count, endpoint=False) + random.uniform(-0.5, 0.5, size=count)
    tilt = size * random.uniform(0.85, 1.15, size=count) / radius
    radii = random.uniform(4.0, 10.0, size=count)
    across = np.cos(angles)[:, None] * sideways + np.sin(angles)[:, None] * upward
    axes = np.cos(tilt)[:, None] * normal + np.sin(tilt)[:, None] * across
    burrs = [(axis.astype(np.float32), float(r)) for axis, r in zip(axes, radii, strict=True)]

    def outline(local: np.ndarray) -> np.ndarray:
        result = patch(local)
        length = np.maximum(np.linalg.norm(local, axis=1), 1e-6)
        for axis, r in burrs:
            arc = radius * np.arccos(np.clip(local @ axis / length, -1.0, 1.0))
            result = np.minimum(result, arc - r)
        return result

    return outline, max(reach, 1.15 * size + 10.0)


def _anywhere(
    centre: np.ndarray, size: float, kind: str, random: np.random.Generator
) -> tuple[Outline, float]:
    """Overlapping balls or a rounded patch, equally often."""
    shape = _cluster if random.random() < 0.5 else _patch
    return shape(centre, size, kind, random)


def _cluster(
    centre: np.ndarray, size: float, kind: str, random: np.random.Generator
) -> tuple[Outline, float]:
    """Overlapping balls around a place on the surface."""
    radius = float(np.linalg.norm(centre))
    normal = centre / radius
    sideways, upward = _tangents(normal)
    count = int(random.integers(4, 9))
    angles = random.uniform(0.0, 2.0 * np.pi, size=count)
    arcs = size * 0.75 * np.sqrt(random.uniform(0.0, 1.0, size=count))
    arcs[0] = 0.0
    radii = size * random.uniform(0.42, 0.68, size=count)
    tilt = arcs / radius
    across = np.cos(angles)[:, None] * sideways + np.sin(angles)[:, None] * upward
    centres = radius * (np.cos(tilt)[:, None] * normal + np.sin(tilt)[:, None] * across)
    balls = [(place.astype(np.float32), float(r)) for place, r in zip(centres, radii, strict=True)]

    def outline(local: np.ndarray) -> np.ndarray:
        result = np.full(len(local), 1e3, dtype=np.float32)
        for ball, r in balls:
            result = np.minimum(result, np.linalg.norm(local - ball, axis=1) - r)
        return result

    return outline, 1.5 * size


def _cube(centre: np.ndarray, size: float, kind: str, random: np.random.Generator) -> tuple[Outline, float]:
    """A straight-sided window with a drill hole at each corner, turned about the surface normal."""
    normal = centre / np.linalg.norm(centre)
    sideways, upward = _tangents(normal, random.uniform(0.0, np.pi))
    stretch = random.uniform(0.85, 1.18)
    half = (size * stretch, size / stretch)
    drill = random.uniform(0.18, 0.36) * size
    normal, sideways, upward = (v.astype(np.float32) for v in (normal, sideways, upward))

    def outline(local: np.ndarray) -> np.ndarray:
        a, b = np.abs(local @ sideways), np.abs(local @ upward)
        window = np.maximum(a - half[0], b - half[1])
        window = np.minimum(window, np.hypot(a - half[0], b - half[1]) - drill)
        return np.where(local @ normal > 0.0, window, 1e3)

    return outline, 1.75 * max(half) + drill


def _cap(centre: np.ndarray, size: float, kind: str, random: np.random.Generator) -> tuple[Outline, float]:
    """All beyond a plane that lies about across the line from the middle of the head."""
    radius = float(np.linalg.norm(centre))
    normal = centre / radius
    sideways, _ = _tangents(normal, random.uniform(0.0, np.pi))
    tilt = np.deg2rad(random.normal(0.0, 8.0))
    across = (np.cos(tilt) * normal + np.sin(tilt) * sideways).astype(np.float32)
    depth = radius * np.cos(size / radius)

    def outline(local: np.ndarray) -> np.ndarray:
        return np.asarray(depth - local @ across)

    return outline, 1.35 * size


_OUTLINES = {"random": _cluster, "anywhere": _anywhere, "cube": _cube, "burred": _burred, "cap": _cap}
