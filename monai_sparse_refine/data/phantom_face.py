"""Face and underside of the skull phantom: orbits, nose, jaws, zygomatic arches, temporal bones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from monai_sparse_refine.data.phantom_shapes import Array, Waves, capsule, ellipsoid, smooth_max, smooth_min

__all__ = ["Face"]


@dataclass(frozen=True)
class Face:
    """Facial skeleton and base in template space (mm; side is |x|, y to the front, z up)."""

    teeth: bool
    mandible: bool
    jaw_drop_mm: float  # how far the mouth is open
    sinus_size: float  # relative size of the maxillary sinus
    wall_mm: float  # of the thin walls between the sinuses
    cells: Waves

    @classmethod
    def draw(cls, random: np.random.Generator) -> Face:
        """Draw one face."""
        return cls(
            teeth=bool(random.random() < 0.7),
            mandible=bool(random.random() < 0.6),
            jaw_drop_mm=random.uniform(0.0, 4.0),
            sinus_size=random.uniform(0.75, 1.1),
            wall_mm=random.uniform(1.2, 1.8),
            cells=Waves.draw(random, wavelength_mm=(9.0, 18.0), count=8),
        )

    def front(self, x: Array, y: Array, z: Array, wall_mm: float) -> tuple[Array, Array]:
        """Facial bones and the air spaces that are cut out of everything, signed distances (N,) in mm.

        Args:
            wall_mm: thinnest wall that the voxel grid can show.
        """
        side = np.abs(x)
        wall = max(self.wall_mm, wall_mm)
        orbit = capsule(side, y, z * 1.07, (13, 40, -21.5), (32.5, 90, -26), (3.0, 21.5))
        rim = 83.5 - 0.0125 * np.square(np.maximum(side - 12, 0)) + 0.10 * np.minimum(z + 24, 0)
        lateral = np.clip((side - 30) * 0.12, 0.0, 2.2)  # the side wall of the orbit is stout
        bone = np.maximum(orbit - wall - lateral, y - rim)
        bone = np.minimum(bone, np.hypot(orbit - 1.5, y - rim + 3.0) - 2.9)

        zygoma = capsule(side, y, z, (36, 70, -47), (52, 58, -45), (8.5, 7.0), flatten=1.25)
        bone = smooth_min(bone, zygoma, 7.0)
        process = capsule(side, y, z, (50, 60, -42), (44.5, 66, -9), (4.5, 4.5), flatten=1.2)
        bone = smooth_min(bone, process, 6.0)

        # The upper jaw: rounded in front, narrower below, hollow on both sides.
        taper = 1.0 + 0.011 * (z + 42)
        across = np.sqrt(np.square(side / 40) + np.square((y - 40) / 43))
        jaw = (across / taper - 1.0) * 38.0
        jaw = smooth_max(smooth_max(jaw, np.abs(z + 57) - 18, 5.0), 36 - y, 4.0)
        sinus = ellipsoid(side, y, z, (25, 60, -54), [self.sinus_size * r for r in (14.0, 18.0, 14.5)])
        sinus = np.maximum(sinus, jaw + wall + 0.6)
        bone = smooth_min(bone, jaw, 3.0)

        nose_half = 3.5 + 0.17 * np.clip(-18 - z, 0, 48)
        nose = smooth_max(smooth_max(side - nose_half, np.abs(z + 42) - 24, 5.0), 22 - y, 3.0)
        ridge = 86.5 - 0.42 * (z + 12) - 0.95 * side  # the nasal bones, like a tent
        lower = (
            np.maximum(-36 - 2.2 * np.maximum(side - 7, 0), -60) - z
        )  # the pear-shaped opening begins here
        tent = np.maximum(np.abs(y - ridge) * 0.68 - 1.3, np.maximum(np.maximum(side - 15, lower), z + 8))
        process = capsule(side, y, z, (9, 81, -10), (15, 75, -58), (3.2, 3.2))
        bone = smooth_min(bone, process, 3.0)

        air = np.minimum(np.maximum(orbit, 38 - y), sinus)
        # Ethmoid: foam of thin walls between the orbits, above the open nasal passages.
        foam = np.abs(self.cells(x, y, z)) * 3.2 - 0.5 * wall
        ethmoid = np.maximum(
            np.maximum(foam, np.abs(z + 24) - 13), np.maximum(side - 14, np.abs(y - 58) - 22)
        )
        septum = np.maximum(
            np.abs(x - 1.5 * self.cells(y, z, y)) - 0.5 * wall, np.maximum(nose, np.abs(y - 55) - 25)
        )
        shelf = capsule(side, y, z, (8.5, 35, -54), (8.5, 72, -54), (3.5, 3.0))
        thin = np.minimum(np.minimum(ethmoid, septum), np.maximum(np.abs(shelf + 1) - 0.5 * wall, -60 - z))
        thin = np.maximum(thin, -orbit)
        bone = np.maximum(bone, -np.minimum(air, nose))
        return np.minimum(np.minimum(bone, thin), tent), air

    def mouth(self, x: Array, y: Array, z: Array) -> Array:
        """Alveolar process, palate, teeth and mandible, signed distance (N,) in mm."""
        side = np.abs(x)
        arch = (np.sqrt(np.square(side / 25) + np.square((y - 46) / 34)) - 1.0) * 27.0
        gum = smooth_max(smooth_max(np.abs(arch) - 5.0, np.abs(z + 74) - 8.5, 4.0), 44 - y, 4.0)
        palate = np.maximum(np.maximum(arch, np.abs(z + 68.5 - 0.004 * side * side) - 1.7), 32 - y)
        bone = np.minimum(gum, palate)
        if self.teeth:
            bone = np.minimum(bone, self._teeth(side, y, z, (25.0, 46.0, 34.0), (-79.0, -90.5)))
        if not self.mandible:
            return bone
        z = z + self.jaw_drop_mm
        arch = (np.sqrt(np.square(side / 33) + np.square((y - 34) / 46)) - 1.0) * 36.0
        body = smooth_max(
            smooth_max(np.abs(arch + 0.25 * (z + 108)) - 5.5, np.abs(z + 109) - 12.5, 6.0), 28 - y, 4.0
        )
        chin = ellipsoid(x, y, z, (0, 80, -117), (14, 7, 8))
        ramus = capsule(side, y, z, (44, 22, -106), (48, 14, -72), (15.0, 13.0), flatten=3.2)
        neck = capsule(side, y, z, (48, 10, -72), (50, 6, -53), (5.0, 4.5), flatten=1.2)
        coronoid = capsule(side, y, z, (48, 24, -74), (48, 28, -54), (6.0, 2.5), flatten=2.0)
        condyle = ellipsoid(side, y, z, (50, 6, -51), (9, 4.5, 4.5))
        jaw = smooth_min(smooth_min(body, chin, 5.0), ramus, 6.0)
        jaw = np.minimum(smooth_min(jaw, smooth_min(neck, coronoid, 4.0), 4.0), condyle)
        if self.teeth:
            jaw = np.minimum(jaw, self._teeth(side, y, z, (24.5, 42.0, 35.0), (-98.0, -91.5)))
        return np.minimum(bone, jaw)

    @staticmethod
    def _teeth(
        side: Array, y: Array, z: Array, arch: tuple[float, float, float], span: tuple[float, float]
    ) -> Array:
        """Seven teeth a side on an arch (half width, centre y, length), from root to crown."""
        teeth = np.full_like(side, 99.0)
        for k, radius in enumerate((3.6, 3.2, 3.4, 3.3, 3.5, 4.4, 4.6)):
            angle = np.deg2rad(82.0 - 13.0 * k)
            x0, y0 = float(arch[0] * np.cos(angle)), float(arch[1] + arch[2] * np.sin(angle))
            tooth = capsule(side, y, z, (x0, y0, span[0]), (x0, y0, span[1]), (radius * 0.75, radius * 0.9))
            teeth = np.minimum(teeth, tooth)
        return teeth

    def underside(self, x: Array, y: Array, z: Array, wall_mm: float) -> Array:
        """Temporal bones, zygomatic arches, sphenoid and occipital condyles, signed distance (N,) in mm."""
        side = np.abs(x)
        wall = max(self.wall_mm, wall_mm)
        arch = capsule(side, y, z, (50, 60, -46), (62, 42, -46), (5.0, 3.4), flatten=1.5)
        arch = smooth_min(
            arch, capsule(side, y, z, (62, 42, -46), (66, 22, -43), (4.4, 4.2), flatten=1.7), 2.0
        )
        arch = smooth_min(
            arch, capsule(side, y, z, (66, 22, -43), (61, 0, -40), (4.2, 5.0), flatten=1.4), 3.0
        )

        mastoid = ellipsoid(side, y, z + 0.35 * (y + 20), (55, -20, -56), (9.5, 14, 19))
        petrous = capsule(side, y, z, (55, -15, -45), (18, 9, -46), (11.0, 6.0))
        temporal = smooth_min(mastoid, petrous, 8.0)
        # Air cells, everywhere but under the surface.
        cells = 1.6 * (0.35 - np.abs(self.cells(z, x, y))) * 2.5
        hollow = np.maximum(temporal + 1.2 + wall, -cells)
        temporal = np.maximum(temporal, -np.maximum(hollow, 38 - side))
        canal = capsule(side, y, z, (80, -8, -44), (44, -5, -44), (4.0, 3.2))
        temporal = np.maximum(temporal, -canal)

        body = smooth_max(smooth_max(side - 14, np.abs(y - 25) - 16, 6.0), np.abs(z + 42) - 13, 6.0)
        chamber = ellipsoid(side, y, z, (5.5, 27, -41), (7.0, 12, 9))
        body = np.maximum(body, -np.maximum(chamber, 0.5 * wall - side))
        plates = capsule(side, y, z, (15, 30, -48), (19, 26, -82), (8.0, 5.0), flatten=5.0)
        plates = np.minimum(
            plates, capsule(side, y, z, (12, 29, -50), (12, 27, -82), (6.0, 4.0), flatten=5.0)
        )
        base = np.minimum(np.minimum(body, plates), np.minimum(arch, temporal))

        condyle = ellipsoid(side, y, z + 0.25 * (y + 20), (15, -20, -73), (6, 11, 5.5))
        styloid = capsule(side, y, z, (38, -6, -60), (32, 3, -88), (2.2, 1.5))
        return np.minimum(smooth_min(base, condyle, 4.0), styloid)
