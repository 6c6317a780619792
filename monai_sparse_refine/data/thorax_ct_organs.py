"""What CT shows of the four organs, and of vessels and airways beside them that no mask has; axes are RAS."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from monai_sparse_refine.data.thorax_ct_body import Body
from monai_sparse_refine.data.thorax_ct_fields import axes_mm, capsule, grown, smooth_noise
from monai_sparse_refine.volume import bounding_box

__all__ = ["paint_organs", "paint_unlabelled"]

_ESOPHAGUS, _HEART, _TRACHEA, _AORTA = 1, 2, 3, 4


def paint_unlabelled(
    hu: np.ndarray, body: Body, organs: np.ndarray, mm: np.ndarray, rng: np.random.Generator
) -> None:
    """Pulmonary artery, superior vena cava, azygos vein, branches of the arch, bronchi."""
    contrast = rng.uniform(150, 550) if rng.uniform() < 0.85 else rng.uniform(40, 60)
    low, high = body.heart
    top = np.array([(low[0] + high[0]) / 2, (low[1] + high[1]) / 2, high[2]])
    trunk = top + rng.uniform(-8, 8, 3)
    for side in (-1.0, 1.0):
        end = np.add(trunk, [side * rng.uniform(35, 55), -rng.uniform(5, 25), rng.uniform(0, 12)])
        _tube(hu, mm, trunk, end, rng.uniform(8, 12), contrast)
    _tube(hu, mm, trunk - [0, 0, 20], trunk, rng.uniform(11, 14), contrast)
    # The superior vena cava, on the patient's right, carries the densest contrast.
    cava = np.array([body.centre[0] + rng.uniform(22, 34), trunk[1] + rng.uniform(-5, 12), high[2] - 15])
    _tube(hu, mm, cava, np.add(cava, [rng.uniform(-6, 6), 0, 70]), rng.uniform(7, 10), rng.uniform(60, 600))
    spine = float(body.spine.mean()) + 19
    azygos = np.array([body.centre[0] + rng.uniform(6, 16), spine, body.organs[0, 2]])
    _tube(hu, mm, azygos, np.add(azygos, [0, 3, 120]), rng.uniform(3, 4.5), rng.uniform(40, 200))
    aorta = np.argwhere(organs == _AORTA)
    if len(aorta):
        arch = aorta[aorta[:, 2] >= aorta[:, 2].max() - round(6 / mm[2])].mean(0) * mm
        for _ in range(3):  # the branches of the arch
            root = arch + rng.uniform(-12, 12, 3) * [1, 1, 0]
            _tube(hu, mm, root, np.add(root, [rng.uniform(-20, 20), 10, 60]), rng.uniform(3, 6), contrast)
    trachea = np.argwhere(organs == _TRACHEA)
    if len(trachea):
        carina = trachea[trachea[:, 2] <= trachea[:, 2].min() + 1].mean(0) * mm
        for side in (-1.0, 1.0):
            end = np.add(carina, [side * rng.uniform(25, 40), rng.uniform(-8, 4), -rng.uniform(25, 35)])
            _tube(hu, mm, carina, end, rng.uniform(6.5, 8), 30.0)
            _tube(hu, mm, carina, end, rng.uniform(4.5, 6), -950.0)


def paint_organs(hu: np.ndarray, organs: np.ndarray, mm: np.ndarray, rng: np.random.Generator) -> None:
    """The organs' own densities, just where their masks are; the trachea's wall lies around its air."""
    contrast = rng.uniform(160, 550) if rng.uniform() < 0.8 else rng.uniform(38, 55)
    esophagus = rng.uniform(30, 60)
    air_in_esophagus = rng.uniform(0.6, 2.2)  # standard deviations of the noise above which its lumen is open
    for number in (_ESOPHAGUS, _HEART, _AORTA, _TRACHEA):
        box = bounding_box(organs == number, margin=[int(8 / step) + 1 for step in mm])
        if box is None:
            continue
        mask, part = organs[box] == number, hu[box]
        texture = smooth_noise(rng, mask.shape, mm, 8.0)
        if number == _ESOPHAGUS:
            part[mask] = (esophagus + 8 * texture)[mask]
            lumen = grown(mask, mm, -3.0) & (smooth_noise(rng, mask.shape, mm, 22.0) > air_in_esophagus)
            part[lumen] = rng.uniform(-900, -300)
        elif number == _HEART:
            _paint_heart(part, mask, mm, texture, contrast, rng)
        elif number == _AORTA:
            part[mask] = (contrast + 6 * texture)[mask]
            _wall_and_thrombus(part, mask, mm, rng)
            _plaques(part, mask, mm, rng)
            if rng.uniform() < 0.12:
                _stent(part, mask, mm, rng)
        else:
            wall = ndimage.binary_dilation(mask, np.ones((3, 3, 1)), iterations=max(1, round(1.5 / mm[0])))
            part[wall & (organs[box] == 0)] = rng.uniform(10, 50)
            part[mask] = rng.uniform(-985, -930)


def _paint_heart(
    part: np.ndarray,
    mask: np.ndarray,
    mm: np.ndarray,
    texture: np.ndarray,
    contrast: float,
    rng: np.random.Generator,
) -> None:
    """Muscle, chambers of a left and a right side that contrast reaches at different times, fat in and on it."""
    muscle = rng.uniform(50, 120)
    part[mask] = (muscle + 8 * texture)[mask]
    # The septum lies between the left back and the right front.
    centre = np.argwhere(mask).mean(0) * mm
    x, y, z = axes_mm(mask.shape, mm)
    turn = rng.uniform(0.35, 1.0)
    side = (
        (x - centre[0]) * np.cos(turn)
        + (y - centre[1]) * np.sin(turn)
        + 6 * smooth_noise(rng, mask.shape, mm, 50.0)
    )  # (X, Y, Z), more than 0 on the right
    thick_walled = (side < 0) & (z < centre[2] + rng.uniform(-10, 15))
    lumen = np.where(thick_walled, grown(mask, mm, -10.0), grown(mask, mm, -3.0))
    lumen &= smooth_noise(rng, mask.shape, mm, 38.0) > rng.uniform(-1.2, -0.3)
    left = contrast * rng.uniform(0.75, 1.1)
    right = (left, rng.uniform(40, 60), rng.uniform(200, 550))[rng.choice(3, p=(0.5, 0.25, 0.25))]
    for chamber, value in (((side < -3), left), ((side > 3), right)):
        inside = lumen & chamber
        part[inside] = (max(value, muscle - 15) + 10 * texture)[inside]
    fat = mask & (smooth_noise(rng, mask.shape, mm, 14.0) > 2.1)
    on_surface = mask & ~grown(mask, mm, -4.0)
    fat |= on_surface & (smooth_noise(rng, mask.shape, mm, 28.0) > rng.uniform(0.3, 2.5))
    part[fat] = rng.uniform(-95, -50)


def _wall_and_thrombus(part: np.ndarray, mask: np.ndarray, mm: np.ndarray, rng: np.random.Generator) -> None:
    """The vessel's wall, and clots on it, neither of which takes contrast."""
    if rng.uniform() < 0.6:
        part[mask & ~grown(mask, mm, -rng.uniform(0.8, 1.6))] = rng.uniform(35, 65)
    if rng.uniform() < 0.25:
        depth = rng.uniform(3.0, 6.0)
        clot = (
            mask
            & ~grown(mask, mm, -depth)
            & (smooth_noise(rng, mask.shape, mm, 40.0) > rng.uniform(0.3, 1.3))
        )
        part[clot] = rng.uniform(25, 60)


def _stent(part: np.ndarray, mask: np.ndarray, mm: np.ndarray, rng: np.random.Generator) -> None:
    """Metal rings that zigzag on the lumen's border over a part of the vessel."""
    x, y, z = axes_mm(mask.shape, mm)
    centre = np.argwhere(mask).mean(0) * mm
    angle = np.arctan2(y - centre[1], x - centre[0])  # (X, Y, 1)
    first, length = rng.uniform(0, 0.6) * z.max(), rng.uniform(60, 160)
    shell = mask & ~grown(mask, mm, -2.6) & grown(mask, mm, -0.9)
    phase = (z + 4 * np.sin(6 * angle)) % rng.uniform(11, 18)
    wires = shell & (phase < 2.5) & (z > first) & (z < first + length)
    part[wires] = rng.uniform(1200, 2800)


def _plaques(part: np.ndarray, mask: np.ndarray, mm: np.ndarray, rng: np.random.Generator) -> None:
    """Calcified spots in the wall."""
    wall = mask & ~grown(mask, mm, -2.0)
    part[wall & (smooth_noise(rng, mask.shape, mm, 7.0) > rng.uniform(1.8, 4.0))] = rng.uniform(500, 900)


def _tube(
    hu: np.ndarray, mm: np.ndarray, start: np.ndarray, end: np.ndarray, radius: float, value: float
) -> None:
    box, mask = capsule(hu.shape, mm, start, end, radius)
    inside = mask & (hu[box] > -1000)  # nothing grows out of the skin
    hu[box][inside] = value
