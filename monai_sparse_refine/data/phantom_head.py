"""One head of the skull phantom: brain case, face and their own deformation, as a function of space."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from monai_sparse_refine.data.phantom_cranium import Cranium
from monai_sparse_refine.data.phantom_face import Face
from monai_sparse_refine.data.phantom_shapes import Array, Waves, smooth_min

__all__ = ["Head"]

# Thinner tables would leak at coarse spacing, where a real scan's partial volume closes them.
_TABLE_MM = 1.5
_THIN_WALL = 0.7  # thinnest wall, as a share of the coarsest voxel edge


@dataclass(frozen=True)
class Head:
    """A skull in head space: mm about the centre of the cranial cavity, x right, y front, z up."""

    cranium: Cranium
    face: Face
    scale: tuple[float, float, float]
    warps: tuple[Waves, Waves, Waves]
    warp_mm: float
    scan_floor_mm: float  # below this height nothing was scanned

    @classmethod
    def draw(cls, seed: int) -> Head:
        """Draw the head that belongs to a seed."""
        random = np.random.default_rng(seed)
        size = random.normal(1.0, 0.03)
        scale = tuple(float(np.clip(size * random.normal(1.0, 0.03), 0.91, 1.11)) for _ in range(3))
        face = Face.draw(random)
        return cls(
            cranium=Cranium.draw(random),
            face=face,
            scale=(scale[0], scale[1], scale[2]),
            warps=(
                Waves.draw(random, wavelength_mm=(90.0, 260.0), count=5),
                Waves.draw(random, wavelength_mm=(90.0, 260.0), count=5),
                Waves.draw(random, wavelength_mm=(90.0, 260.0), count=5),
            ),
            warp_mm=random.uniform(0.6, 1.8),
            scan_floor_mm=random.uniform(-134.0, -74.0) if face.mandible else random.uniform(-92.0, -68.0),
        )

    def solid(self, x: Array, y: Array, z: Array, *, voxel_mm: float, pores: bool = True) -> Array:
        """Approximate signed distance to bone at points (N,) in head space, negative in bone.

        Args:
            voxel_mm: longest voxel edge of the grid that will show it; thin walls are kept visible on it.
            pores: whether to leave out the hollow parts of the diploe (sign only: distances ignore them).
        """
        dx, dy, dz = (self.warp_mm * warp(x, y, z) for warp in self.warps)
        x, y, z = (x + dx) / self.scale[0], (y + dy) / self.scale[1], (z + dz) / self.scale[2]
        wall = _THIN_WALL * voxel_mm
        brain_case = self.cranium.field(x, y, z)
        # A wall that is no thinner than a voxel cannot be stepped over.
        closed = 1.25 * voxel_mm
        bone = np.minimum(brain_case.shell, np.maximum(-brain_case.outside, brain_case.outside - closed))

        base = np.flatnonzero((z < -20) & (y < 75))
        if base.size:
            at = x[base], y[base], z[base]
            bone[base] = smooth_min(bone[base], self.face.underside(*at, wall), 4.0)
        front = np.flatnonzero((y > 15) & (z < 40))
        if front.size:
            at = x[front], y[front], z[front]
            part = type(brain_case)(*(values[front] for values in brain_case))
            facial, air = self.face.front(*at, wall)
            merged = smooth_min(bone[front], facial, 4.0)
            merged = np.maximum(merged, -air)
            bone[front] = np.maximum(merged, -self.cranium.frontal_sinus(*at, part, closed))
        mouth = np.flatnonzero((z < -40) & (y > -15))
        if mouth.size:
            bone[mouth] = np.minimum(bone[mouth], self.face.mouth(x[mouth], y[mouth], z[mouth]))
        # The inner table closes the frontal sinus to the back; nothing grows into the cavity.
        inner = np.maximum(-brain_case.outside, brain_case.outside - max(1.6, closed))
        bone = np.maximum(np.minimum(bone, inner), -brain_case.outside)
        low = np.flatnonzero(z < -10)
        if low.size:
            bone[low] = np.maximum(bone[low], -self.cranium.foramina(x[low], y[low], z[low]))
        if pores:
            shell = np.flatnonzero((bone < 0) & (brain_case.shell < 0))
            part = type(brain_case)(*(values[shell] for values in brain_case))
            hollow = self.cranium.pores(x[shell], y[shell], z[shell], part, max(_TABLE_MM, closed))
            bone[shell] = np.maximum(bone[shell], hollow)
        return bone
