"""The chest around the organs: outline, fat, muscle, lungs, diaphragm, bones; axes are RAS, lengths mm."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from monai_sparse_refine.data.thorax_ct_fields import axes_mm, distance_mm, smooth_noise

__all__ = ["Body", "paint_body"]

AIR = -1000.0
_HEART = 2


@dataclass(frozen=True)
class Body:
    """Where the parts of a chest lie, mm from the grid's first voxel.

    Attributes:
        centre: of the outline, x and y.
        half: half width and half depth of the outline.
        fat: depth of the fat under the skin.
        wall: thickness of muscle and ribs under it.
        spine: y of the vertebral bodies' centre for every slice, [Z].
        organs: lowest and highest coordinate of the organs, [2, 3].
        heart: the same of the heart (of the organs, where there is none), [2, 3].
    """

    centre: tuple[float, float]
    half: tuple[float, float]
    fat: float
    wall: float
    spine: np.ndarray
    organs: np.ndarray
    heart: np.ndarray

    @staticmethod
    def draw(organs: np.ndarray, mm: np.ndarray, rng: np.random.Generator) -> Body:
        """Fit a body to the organs' label map [X, Y, Z]; what they leave open is drawn."""
        low_high = _extent(organs > 0, mm)
        heart = _extent(organs == _HEART, mm) if (organs == _HEART).any() else low_high
        middle = np.isin(organs, (1, 3))  # esophagus and trachea lie near the midline
        where = np.argwhere(middle if middle.any() else organs > 0) * mm
        spine = _behind(organs, mm) - rng.uniform(18, 23)
        front = heart[1, 1] + rng.uniform(24, 40)
        back = float(spine.mean()) - rng.uniform(58, 80)
        half_depth = (front - back) / 2
        half_width = float(np.clip(rng.uniform(1.35, 1.6) * half_depth, 140, 205))
        return Body(
            centre=(float(np.median(where[:, 0])) + rng.uniform(-6, 6), (front + back) / 2),
            half=(half_width, half_depth),
            fat=rng.uniform(8, 26),
            wall=rng.uniform(16, 24),
            spine=spine,
            organs=low_high,
            heart=heart,
        )

    def padding(
        self, shape: tuple[int, ...], mm: np.ndarray, *, air_mm: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Voxels to add before and after each axis, so that the grid holds the outline and some air."""
        extent = np.asarray(shape) * mm
        low = np.array([self.centre[i] - self.half[i] - air_mm for i in range(2)] + [0.0])
        high = np.array([self.centre[i] + self.half[i] + air_mm for i in range(2)] + [extent[2]])
        before = np.maximum(0, np.ceil(-low / mm)).astype(int)
        after = np.maximum(0, np.ceil((high - extent) / mm - 1e-9)).astype(int)
        return before, after

    def moved(self, by: np.ndarray) -> Body:
        """The same body on a grid that starts `by` mm earlier."""
        return replace(
            self,
            centre=(self.centre[0] + by[0], self.centre[1] + by[1]),
            spine=self.spine + by[1],
            organs=self.organs + by,
            heart=self.heart + by,
        )


def paint_body(body: Body, organs: np.ndarray, mm: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """HU [X, Y, Z] (float32) of everything but the organs and the vessels."""
    shape = organs.shape
    x, y, z = axes_mm(shape, mm)
    hu = np.full(shape, AIR, dtype=np.float32)
    texture = smooth_noise(rng, shape, mm, 12.0)
    # Depth below the skin, up to the factor between the outline's normal and its radius.
    power = rng.uniform(2.2, 2.8)
    radius = (
        np.abs((x - body.centre[0]) / body.half[0]) ** power
        + np.abs((y - body.centre[1]) / body.half[1]) ** power
    ) ** (1 / power)
    depth = (1 - radius) * min(body.half) + 2 * smooth_noise(rng, shape, mm, 90.0)  # (X, Y, Z)
    hu[depth > 0] = rng.uniform(-120, -85)
    soft = depth > body.fat
    muscle = rng.uniform(40, 75)
    hu[soft] = muscle
    hu += 12 * texture * soft
    inside = depth > body.fat + body.wall

    lung = inside & (z > _diaphragm(body, x, y, rng))
    top = body.organs[1, 2]
    # The lungs narrow to their apices.
    lung &= radius < np.clip(0.95 - 0.55 * (z - (top - 70)) / 90, 0.3, 1.0)
    abdomen = inside & (z <= body.heart[0, 2] + 45) & ~lung
    # The liver's left lobe lies under the heart, in some patients all of it.
    lobe = body.centre[0] - rng.uniform(-10, 80)
    densities = np.where(x > lobe, rng.uniform(60, 130), rng.uniform(20, 80))[:, 0, 0]
    hu[abdomen] = densities[np.nonzero(abdomen)[0]]
    vessels = smooth_noise(rng, shape, mm, 5.0)
    near_hilum = np.exp(-(((z - (body.heart[1, 2] + 10)) / 60) ** 2)) * (radius < 0.6)
    hu[lung] = (rng.uniform(-900, -740) + 25 * texture)[lung]
    hu[lung & (vessels > 2.3 - 0.5 * near_hilum)] = rng.uniform(20, 200)
    _paint_lung_disease(hu, body, lung, mm, rng)

    # The mediastinum: fat around the organs, in places none, with nodes, thymus and small vessels in it.
    distance = distance_mm(organs > 0, mm)
    reach = rng.uniform(1, 11) + 4 * smooth_noise(rng, shape, mm, 35.0)
    middle = np.abs(x - body.centre[0]) < rng.uniform(10, 18)
    in_depth = (y > body.spine) & (y < body.heart[1, 1] + 12)
    mediastinum = inside & ((distance < reach) | (middle & in_depth)) & ((z > body.heart[0, 2] - 5) | lung)
    hu[mediastinum] = (rng.uniform(-105, -75) + 12 * texture)[mediastinum]
    hu[mediastinum & (smooth_noise(rng, shape, mm, 9.0) > rng.uniform(1.0, 1.6))] = rng.uniform(25, 60)

    _paint_bones(hu, body, depth, mm, muscle, rng)
    if rng.uniform() < 0.5:
        _paint_table(hu, body, mm, rng)
    return hu


def _paint_lung_disease(
    hu: np.ndarray, body: Body, lung: np.ndarray, mm: np.ndarray, rng: np.random.Generator
) -> None:
    """In some patients: fluid or collapsed lung at the back, ground glass and consolidation."""
    if rng.uniform() < 0.3:
        _, y, z = axes_mm(hu.shape, mm)
        level = body.spine + rng.uniform(-25, 12) - 0.25 * (z - body.heart[0, 2])
        hu[lung & (y + 5 * smooth_noise(rng, hu.shape, mm, 40.0) < level)] = rng.uniform(0, 70)
    if rng.uniform() < 0.25:
        field = smooth_noise(rng, hu.shape, mm, 25.0)
        limit = rng.uniform(1.2, 2.2)
        hu[lung & (field > limit)] = rng.uniform(-700, -350)
        hu[lung & (field > limit + 0.5)] = rng.uniform(-150, 50)


def _diaphragm(body: Body, x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Height of the diaphragm's two domes, [X, Y, 1]."""
    bottom = body.heart[0, 2]
    domes = []
    for side in (-1, 1):
        centre_x = body.centre[0] + side * 0.45 * body.half[0]
        off = ((x - centre_x) / (0.5 * body.half[0])) ** 2 + ((y - body.centre[1] - 10) / body.half[1]) ** 2
        domes.append(bottom + rng.uniform(0, 22) - rng.uniform(35, 60) * off)
    return np.maximum(*domes)


def _paint_bones(
    hu: np.ndarray, body: Body, depth: np.ndarray, mm: np.ndarray, muscle: float, rng: np.random.Generator
) -> None:
    x, y, z = axes_mm(hu.shape, mm)
    spongy, hard = rng.uniform(120, 230), rng.uniform(420, 750)
    dx, dy = x - body.centre[0], y - body.spine
    vertebra = np.sqrt((dx / 1.15) ** 2 + dy**2)  # (X, Y, Z)
    size = rng.uniform(13, 17)
    pitch, start = rng.uniform(22, 29), rng.uniform(0, 29)
    disc = (z + start) % pitch < 5
    hu[vertebra < size] = spongy
    hu[(vertebra < size) & (vertebra > size - 2)] = hard
    hu[(vertebra < size) & disc] = 85
    hu[(np.abs(dx) < 24) & (dy < -size) & (dy > -size - 34)] = muscle
    hu[(np.abs(dx) < 9) & (dy < -size) & (dy > -size - 15)] = 25  # spinal canal
    arch = (np.abs(dx) < 3.5) & (dy < -size - 15) & (dy > -size - 40) & ~disc
    wing = (np.abs(dx) < 28) & (dy < -size - 3) & (dy > -size - 11) & (np.abs(dx) > 10) & ~disc
    hu[arch | wing] = hard * 0.8
    # Ribs run down from the spine to the front.
    angle = np.arctan2(np.abs(dx), -(y - body.centre[1]))  # (X, Y, 1)
    in_wall = (depth > body.fat + 0.35 * body.wall) & (depth < body.fat + 0.95 * body.wall)
    gap = rng.uniform(26, 34)
    phase = (z + rng.uniform(16, 30) * angle + rng.uniform(0, 30)) % gap
    rib = in_wall & (phase < 0.42 * gap) & (angle < 2.7)
    hu[rib] = spongy * 1.3
    core = (depth > body.fat + 0.5 * body.wall) & (depth < body.fat + 0.8 * body.wall)
    hu[rib & ~core] = hard
    sternum = (np.abs(dx) < 17) & in_wall & (y > body.centre[1]) & (z > body.heart[0, 2] + 15)
    hu[sternum] = spongy
    hu[sternum & ~core] = hard * 0.8


def _paint_table(hu: np.ndarray, body: Body, mm: np.ndarray, rng: np.random.Generator) -> None:
    """The couch under the body: a dense skin around a light core."""
    x, y, _ = axes_mm(hu.shape, mm)
    sag = rng.uniform(0, 25) * ((x - body.centre[0]) / 200) ** 2
    below = body.centre[1] - body.half[1] - rng.uniform(-4, 4) + sag - y  # (X, Y, 1), depth in the table
    thick = rng.uniform(20, 45)
    empty = hu < -990
    core, skin = rng.uniform(-950, -800), rng.uniform(-300, 50)
    hu[empty & (below > 0) & (below < thick)] = core
    hu[empty & (((below > 0) & (below < 2.5)) | ((below > thick - 2.5) & (below < thick)))] = skin


def _extent(mask: np.ndarray, mm: np.ndarray) -> np.ndarray:
    where = np.argwhere(mask)
    return np.stack([where.min(0) * mm, where.max(0) * mm])


def _behind(organs: np.ndarray, mm: np.ndarray) -> np.ndarray:
    """y of the hindmost voxel of esophagus or trachea in every slice, smoothed, mm [Z]."""
    chosen = np.isin(organs, (1, 3))
    chosen = chosen if chosen.any() else organs > 0
    rows = chosen.any(axis=0)  # (Y, Z)
    filled = np.flatnonzero(rows.any(axis=0))
    hindmost = rows.argmax(axis=0).astype(float)
    everywhere = np.interp(np.arange(rows.shape[1]), filled, hindmost[filled]) * mm[1]
    return ndimage.gaussian_filter1d(everywhere, 20.0 / mm[2], mode="nearest").astype(np.float32)
