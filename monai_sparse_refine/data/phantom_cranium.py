"""Brain case of the skull phantom: cavity with three fossae, the two tables of the vault and the diploe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from monai_sparse_refine.data.phantom_shapes import (
    Array,
    Waves,
    bell,
    capsule,
    ellipsoid,
    smooth_max,
    smooth_step,
)

__all__ = ["Cranium", "CraniumField"]


class CraniumField(NamedTuple):
    """What the brain case says about points (N,)."""

    outside: Array  # signed distance to the cavity of the brain, positive outside, mm
    shell: Array  # signed distance to its bony wall, negative in bone, mm
    thickness: Array  # of the wall here, mm
    vault: Array  # 1 in the vault, 0 in the skull base


def _floor_of_the_cavity() -> Array:
    """Height of the skull base over side and front, with its slope and the thickness of the bone there.

    Returns:
        (3, S, Y): height in mm, cosine of the slope, thickness in mm, every mm, side 0..99, y -109..110.
    """
    s, y = np.meshgrid(np.arange(100.0), np.arange(-109.0, 111.0), indexing="ij")
    # Anterior fossa: the orbital roofs arch upward, the cribriform plate lies lower between them.
    front = -9.0 + 5.0 * bell(s - 26, 16) - 8.0 * bell(s, 9) + 0.10 * (y - 60)
    # Middle fossa: a bowl on each side of the sella, which is a saddle between its two walls.
    middle = -44.0 + 0.010 * np.square(s - 36) + 0.012 * np.square(np.minimum(y - 18, 0))
    sella = -27.0 - 7.0 * bell(y - 20, 6)
    middle = middle + smooth_step(17 - s, 0, 9) * (sella - middle)
    # Posterior fossa: a deep bowl, and the clivus in the midline.
    back = (
        -67.0 + 0.010 * np.square(s) + 0.010 * np.square(np.minimum(y + 44, 0)) + 2.0 * bell(s, 5) * (y < -50)
    )
    # The edges between the fossae: wing of the sphenoid, ridge of the petrous bone.
    wing = smooth_step(y - (37.0 + 0.16 * s), -5, 5)
    ridge_line = 13.0 - 0.62 * np.maximum(s - 9, 0)
    petrous = smooth_step(y - ridge_line, -24, 1) * bell(np.maximum(18 - s, 0), 10) * (s < 18) + smooth_step(
        y - ridge_line, -11, 3
    ) * (s >= 18)
    clivus = smooth_step(y - ridge_line, -25, 1)
    medial = smooth_step(22 - s, 0, 12)
    edge = petrous * (1 - medial) + clivus * medial
    height = back + edge * (middle - back)
    height = height + wing * (front - height)
    height = height + (13.0 - 0.02 * np.maximum(s - 25, 0)) * bell(y - ridge_line + 1, 7) * smooth_step(
        s, 9, 20
    )
    slope = np.hypot(*np.gradient(height))
    # Thin orbital roofs and middle fossa, thick clivus and petrous bone, thin cerebellar fossae.
    thickness = 2.6 + 1.6 * (1 - edge) + 9.0 * clivus * (1 - clivus) * 4 * medial * 0.7
    thickness = thickness + 2.0 * bell(s, 8) * (1 - edge) - 0.4 * wing
    thickness = thickness + 9.0 * bell(y - ridge_line + 5, 9) * smooth_step(s, 14, 26)
    return np.stack([height, 1.0 / np.sqrt(1.0 + slope * slope), thickness]).astype(np.float32)


_FLOOR = _floor_of_the_cavity()


def _bump(x: Array, y: Array, z: Array, towards: tuple[float, float, float], width_deg: float) -> Array:
    """1 in the unit direction `towards`, falling off over `width_deg`; x, y, z are unit vectors."""
    a, b, c = np.asarray(towards, dtype=float) / np.linalg.norm(towards)
    sharpness = 1.0 / (1.0 - np.cos(np.deg2rad(width_deg)))
    return np.exp((x * float(a) + y * float(b) + z * float(c) - 1.0) * float(sharpness))


@dataclass(frozen=True)
class Cranium:
    """Brain case in template space (mm about the centre of the cavity; x to a side, y to the front, z up)."""

    narrowing: float  # how much narrower the front is than the back
    roundness: float  # exponent of the cross sections: 2 is an ellipse
    bulges_mm: tuple[float, float, float, float]  # forehead, occiput, parietal eminences, vertex
    thickness_mm: float  # of the vault on average
    inion_mm: float  # height of the protuberance of the occiput
    porosity: float  # how much of the diploe is below the bone threshold, 0 to about 0.4
    sinus_mm: tuple[float, float, float]  # half width, half height and depth of the frontal sinus
    sinus_shift_mm: float
    diploe: Waves
    patches: Waves  # slow variation of thickness and porosity
    relief: Waves  # roughness of the base and, much less, of the vault

    @classmethod
    def draw(cls, random: np.random.Generator) -> Cranium:
        """Draw the shape of one brain case."""
        return cls(
            narrowing=random.uniform(0.14, 0.24),
            roundness=random.uniform(2.0, 2.3),
            bulges_mm=(
                random.uniform(-1.0, 3.0),
                random.uniform(-1.0, 5.0),
                random.uniform(0.0, 3.5),
                random.uniform(-2.0, 2.5),
            ),
            thickness_mm=random.uniform(4.4, 7.2),
            inion_mm=random.uniform(0.5, 4.5),
            porosity=max(0.0, random.uniform(-0.08, 0.26)),
            sinus_mm=(random.uniform(10.0, 24.0), random.uniform(7.0, 16.0), random.uniform(4.0, 9.0)),
            sinus_shift_mm=random.uniform(-4.0, 4.0),
            diploe=Waves.draw(random, wavelength_mm=(5.0, 12.0), count=14),
            patches=Waves.draw(random, wavelength_mm=(35.0, 90.0), count=6),
            relief=Waves.draw(random, wavelength_mm=(9.0, 26.0), count=8),
        )

    def _radius(self, x: Array, y: Array, z: Array) -> Array:
        """Distance from the centre to the inner table of the vault in the unit direction."""
        front, back, sides, top = self.bulges_mm
        p = np.float32(self.roundness)
        # The widest place lies behind the middle; the temples are narrow.
        breadth = 64.5 * (1.02 - self.narrowing * (0.35 * y + 0.65 * y * y * (y > 0)))
        length = 80.5 - 1.5 * y
        height = 69.5 - 1.0 * z
        level = np.abs(x / breadth) ** p + np.abs(y / length) ** p + np.abs(z / height) ** p
        radius = level ** (-1.0 / p)
        radius = radius + (
            front * _bump(x, y, z, (0, 0.85, 0.5), 30) + back * _bump(x, y, z, (0, -1, -0.12), 28)
        )
        radius = radius + 5.5 * _bump(x, y, z, (0, -0.8, -0.6), 24)
        side = np.abs(x)
        radius = radius + sides * _bump(side, y, z, (0.75, -0.35, 0.55), 26)
        radius = radius + 1.5 * _bump(side, y, z, (0.5, 0.8, 0.35), 22)
        return (
            radius + top * _bump(x, y, z, (0, -0.1, 1), 40) - 2.0 * _bump(side, y, z, (0.85, 0.52, -0.1), 20)
        )

    def field(self, x: Array, y: Array, z: Array) -> CraniumField:
        """Cavity and wall at points (N,), mm in template space."""
        r = np.sqrt(x * x + y * y + z * z) + np.float32(1e-3)
        ux, uy, uz = x / r, y / r, z / r
        side = np.abs(x)
        above = r - self._radius(ux, uy, uz)  # distance to the vault alone

        i = np.clip(side, 0, 98.99)
        j = np.clip(y + 109, 0, 218.99)
        i0, j0 = i.astype(np.int32), j.astype(np.int32)
        fi, fj = i - i0, j - j0
        flat = _FLOOR.reshape(3, -1)
        corner = i0 * _FLOOR.shape[2] + j0
        left = flat[:, corner] * (1 - fj) + flat[:, corner + 1] * fj
        corner += _FLOOR.shape[2]
        right = flat[:, corner] * (1 - fj) + flat[:, corner + 1] * fj
        floor, cosine, base_thickness = left * (1 - fi) + right * fi
        below = (floor - z) * cosine

        relief = self.relief(x, y, z)
        vault = np.clip(0.5 + (above - below) / 14.0, 0.0, 1.0)
        outside = smooth_max(above, below, 6.0) + 0.5 * (1.0 - vault) * relief
        us = np.abs(ux)
        thickness = self.thickness_mm + 0.7 * self.patches(x, y, z)
        thickness = (
            thickness + 1.6 * _bump(ux, uy, uz, (0, 1, 0.25), 32) + 1.3 * _bump(ux, uy, uz, (0, -1, -0.2), 30)
        )
        thickness = thickness + 1.2 * _bump(us, uy, uz, (0.55, -0.4, 0.75), 28)
        thickness = thickness - 2.6 * _bump(us, uy, uz, (1, 0.2, -0.2), 32)
        thickness = np.maximum(thickness, 3.4)
        # Outer reliefs: brow ridges, the protuberance of the occiput and the line of the neck muscles.
        thickness = thickness + 3.5 * _bump(us, uy, uz, (0.22, 1, -0.06), 10)
        thickness = thickness + self.inion_mm * _bump(ux, uy, uz, (0, -1, -0.42), 7)
        thickness = thickness + 1.5 * bell(z + 33, 6) * smooth_step(-y, 45, 75)
        # The sinus lies in the thick bone over the nose.
        thickness = thickness + 0.7 * self.sinus_mm[2] * _bump(us, uy, uz, (0.1, 1, 0.03), 13)
        thickness = base_thickness + vault * (thickness - base_thickness) + (1.0 - 0.8 * vault) * relief
        return CraniumField(outside, np.maximum(-outside, outside - thickness), thickness, vault)

    def frontal_sinus(self, x: Array, y: Array, z: Array, field: CraniumField, wall_mm: float) -> Array:
        """Signed distance to the frontal sinus: two unequal chambers, kept between the tables."""
        width, height, depth = self.sinus_mm
        shift = self.sinus_shift_mm
        right = ellipsoid(
            x, y, z, (0.5 * width + shift, 79.0, -4 + 0.6 * height), (0.55 * width, 8 + depth, height)
        )
        left = ellipsoid(
            x, y, z, (-0.5 * width + shift, 79.0, -4 + 0.45 * height), (0.55 * width, 7 + depth, height)
        )
        between = np.maximum(1.8 - field.outside, field.outside - field.thickness + max(2.0, wall_mm))
        return np.maximum(np.minimum(right, left), between)

    def pores(self, x: Array, y: Array, z: Array, field: CraniumField, table_mm: float) -> Array:
        """Positive where the spongy bone between the two tables is too thin for the bone threshold (N,)."""
        depth = np.minimum(field.outside - table_mm, field.thickness - field.outside - table_mm)
        threshold = 1.5 - 3.2 * self.porosity - 0.45 * self.patches(y, z, x)
        return np.minimum(np.minimum(depth, field.vault - 0.3), self.diploe(x, y, z) - threshold)

    @staticmethod
    def foramina(x: Array, y: Array, z: Array) -> Array:
        """Signed distance to the openings of the base: foramen magnum, jugular, oval, and the optic canal."""
        side = np.abs(x)
        magnum = capsule(x, (y + 31) * 0.83, z, (0, 0, -90), (0, 0, -54), (14.5, 14.5))
        jugular = capsule(side, y, z, (24, -17, -80), (25, -15, -52), (3.5, 4.0))
        oval = capsule(side, y, z, (22, 13, -60), (23, 13, -38), (3.0, 3.0))
        optic = capsule(side, y, z, (16, 46, -20), (7, 30, -20), (3.0, 2.5))
        return np.minimum(np.minimum(magnum, jugular), np.minimum(oval, optic))
