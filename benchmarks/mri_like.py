"""MRI-like skulls: only the outer surface of a head and the surface of its cranial cavity, from brain masks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
import torch
from monai.data import MetaTensor
from scipy import ndimage

from monai_sparse_refine.errors import InputError
from monai_sparse_refine.transforms import MakeMultiResolution
from monai_sparse_refine.volume import case_name, surface

CUBE_MM = 224.0  # side of the cube that holds a head
GRID = 120  # voxels along it, of the distances that every resolution is made from
BRAIN_LABEL = 1
SMOOTHING_MM = 2.5  # takes the steps of 2.5 mm slices from the cavity
THICKNESS_MM = (15.0, 2.5)  # mean and standard deviation of bone and scalp together
THICKNESS_RANGE_MM = (10.0, 20.0)


class Head(NamedTuple):
    """Signed distances in mm to the `outer` and `inner` surface, negative inside, as one [2, X, Y, Z] in RAS."""

    name: str
    distances: MetaTensor


def patient_of(name: str) -> str:
    """The patient of a brain mask: `0522c0727a` and `0522c0727b` are one."""
    return name.split("_")[0].rstrip("ab")


def split_brains(files: Sequence[Path], *, seed: int = 0, test: int = 8) -> tuple[list[Path], list[Path]]:
    """Split brain masks by patient into those of training and of ``test`` patients.

    Raises:
        InputError: where there are not more patients than the test takes.
    """
    patients = sorted({patient_of(case_name(file)) for file in files})
    if len(patients) <= test:
        raise InputError(f"{len(patients)} brain masks are too few to test on {test} and train on the rest")
    chosen = set(np.random.RandomState(seed).permutation(patients)[:test].tolist())
    tested = [file for file in files if patient_of(case_name(file)) in chosen]
    return [file for file in files if file not in tested], tested


def read_head(file: Path, *, seed: int) -> Head:
    """Head of a brain mask: the cranial cavity is the brain, the outer surface lies a varying thickness outside.

    Args:
        file: NIfTI with the label 1 for brain.
        seed: decides how the thickness varies over the head.

    Raises:
        InputError: if there is no brain in the file.
    """
    image = nib.as_closest_canonical(nib.load(file))
    brain = np.asarray(image.dataobj) == BRAIN_LABEL
    if not brain.any():
        raise InputError(f"{file} has no voxel of the label {BRAIN_LABEL}, the brain")
    return make_head(brain, image.header.get_zooms()[:3], name=case_name(file), seed=seed)


def make_head(brain: np.ndarray, spacing: Sequence[float], *, name: str, seed: int) -> Head:
    """Head of a brain mask, bool [X, Y, Z] in RAS orientation with a spacing in mm; see `read_head`."""
    mm = np.asarray(spacing, dtype=float)
    # The distances are smoothed anyway; below 1.5 mm every second voxel does, in a quarter of the time.
    step = [2 if size < 1.5 else 1 for size in mm]
    brain, mm = brain[:: step[0], :: step[1], :: step[2]], mm * step
    # Room for the outer surface on all sides, so that no distance is made up beyond the volume's edge.
    pad = [(int(np.ceil(2 * THICKNESS_RANGE_MM[1] / size)),) * 2 for size in mm]
    filled = ndimage.binary_fill_holes(np.pad(brain, pad))
    distance = ndimage.distance_transform_edt(~filled, sampling=mm)
    distance = distance - ndimage.distance_transform_edt(filled, sampling=mm)
    distance = ndimage.gaussian_filter(distance, SMOOTHING_MM / mm)
    inside = np.argwhere(distance < 0)
    middle = (inside.min(0) + inside.max(0)) / 2
    pitch = CUBE_MM / GRID
    offset = middle - (GRID - 1) / 2 * pitch / mm
    cavity = ndimage.affine_transform(distance, pitch / mm, offset, (GRID,) * 3, order=1, mode="nearest")
    both = np.stack([cavity - _thickness(seed), cavity]).astype(np.float32)
    affine = np.diag([pitch, pitch, pitch, 1.0])
    affine[:3, 3] = -(GRID - 1) / 2 * pitch
    return Head(name, MetaTensor(torch.from_numpy(both), affine=torch.from_numpy(affine)))


def surfaces(head: Head, size: int) -> MetaTensor:
    """Both surfaces, one voxel thick, on a grid of ``size`` cubed.

    Returns:
        uint8 [1, size, size, size]; where bone and scalp are thinner than two voxels the surfaces touch.
    """
    distances = MakeMultiResolution([size], threshold=None)(head.distances)[size]
    outer, inner = (surface(solid) for solid in distances.numpy() < 0)
    return MetaTensor(torch.from_numpy((outer | inner)[None].astype(np.uint8)), affine=distances.affine)


def cut_ball(head: Head, skull: MetaTensor, *, seed: int, radius_mm: tuple[float, float]) -> MetaTensor:
    """Cut a ball-shaped hole through both surfaces of the upper half of a head.

    Args:
        head: decides, with the seed, where the hole is; the same at every resolution.
        skull: what to cut, [1, X, Y, Z].
        seed: decides centre and radius.
        radius_mm: smallest and largest radius.

    Returns:
        The same type and shape; voxels are only ever removed.
    """
    random = np.random.default_rng(seed)
    radius = random.uniform(*radius_mm)
    outer = np.argwhere(surface(head.distances[0].numpy() < 0)[:, :, GRID // 2 :])
    voxel = outer[random.integers(len(outer))] + (0, 0, GRID // 2)
    centre = head.distances.affine.numpy() @ (*voxel, 1)
    affine = skull.affine.numpy()
    voxels = np.argwhere(skull[0].numpy())
    away = np.linalg.norm(voxels @ affine[:3, :3].T + affine[:3, 3] - centre[:3], axis=1)
    holed = skull.clone()
    lost = (0, *voxels[away < radius].T)
    holed[lost] = 0
    return holed


def mirrored(head: Head) -> Head:
    """The head with left and right exchanged, on the same grid."""
    flipped: Any = torch.flip(head.distances, dims=(1,))
    return head._replace(distances=flipped)


def _thickness(seed: int) -> np.ndarray:
    """Thickness of bone and scalp over the cube, in mm, [GRID, GRID, GRID]: smooth over some 45 mm."""
    mean, deviation = THICKNESS_MM
    nodes = np.random.default_rng(seed).normal(mean, deviation, (6, 6, 6))
    return ndimage.zoom(nodes, GRID / 6, order=3, mode="nearest").clip(*THICKNESS_RANGE_MM)
