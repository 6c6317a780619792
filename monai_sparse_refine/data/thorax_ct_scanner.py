"""What a scanner makes of densities: blur, noise and streaks; axes are RAS."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from monai_sparse_refine.data.thorax_ct_body import Body
from monai_sparse_refine.data.thorax_ct_fields import axes_mm, smooth_noise

__all__ = ["scan"]


def scan(hu: np.ndarray, body: Body, mm: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The CT (int16, HU) of densities [X, Y, Z].

    The kernel blurs by 0.4 to 1.1 mm in plane, the slice's thickness over z (partial volume); noise of 5 to 40 HU
    is blurred the same in plane, as a reconstruction kernel does; streaks fan out from dense contrast; the scale
    of HU is off by up to 4 %, and by up to 12 HU that change over the body.
    """
    blur = rng.uniform(0.4, 1.1)
    sigma = [blur / mm[0], blur / mm[1], rng.uniform(0.25, 0.45)]
    ct = ndimage.gaussian_filter(hu, sigma, truncate=3.0)
    grain = ndimage.gaussian_filter(
        rng.standard_normal(hu.shape, dtype=np.float32), [0.6 / mm[0], 0.6 / mm[1], 0], truncate=3.0
    )
    inside = ndimage.gaussian_filter((hu > -990).astype(np.float32), [3 / mm[0], 3 / mm[1], 0], truncate=2.0)
    ct += grain * (rng.uniform(5, 40) / max(float(grain.std()), 1e-6)) * (0.3 + 0.7 * inside)
    _add_streaks(ct, body, mm, rng)
    ct = (ct + 1000) * rng.uniform(0.96, 1.04) - 1000
    ct += rng.uniform(0, 12) * smooth_noise(rng, hu.shape, mm, 150.0) * inside
    return np.clip(np.rint(ct), -1024, 3071).astype(np.int16)


def _add_streaks(ct: np.ndarray, body: Body, mm: np.ndarray, rng: np.random.Generator) -> None:
    """Dark and bright rays from the superior vena cava, another fan in every few slices."""
    strength = rng.uniform(0, 45)
    x, y, _ = axes_mm(ct.shape, mm)
    dx, dy = x[:, :, 0] - (body.centre[0] + 28), y[:, :, 0] - body.heart[:, 1].mean()  # (X, 1), (1, Y)
    angle, distance = np.arctan2(dy, dx), np.hypot(dx, dy)  # (X, Y)
    fade = strength * np.exp(-distance / 60) * (distance > 8)
    bins = ((angle / (2 * np.pi) + 0.5) * 63).astype(int)
    first = int(max(0, body.heart[1, 2] - 15) / mm[2])
    for z in range(first, min(ct.shape[2], first + int(70 / mm[2]))):
        rays = ndimage.gaussian_filter1d(rng.standard_normal(64), 0.8, mode="wrap")
        ct[:, :, z] += fade * rays[bins]
