"""Register a skull's mirror image with the skull: heads are not quite symmetric."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import distance_transform_edt, gaussian_filter
from torch import Tensor

from monai_sparse_refine.transforms.resample import resample_to_shape, working_shape

__all__ = ["register_mirror"]

_BONE = 0.4  # fraction of a cell of the search grid from which it counts as bone
_FAR_MM = 6.0  # bone farther from all bone of the other image has no partner there: a hole
_BLUR_MM = 2.0
_LEARNING_RATE = 0.5  # mm a step, about
_FEW_CELLS = 100


def register_mirror(
    mirror: Tensor,
    mask: Tensor,
    *,
    spacing: Sequence[float],
    search_mm: float = 4.0,
    control_mm: float = 70.0,
    stiffness: float = 0.01,
    steps: int = 60,
) -> Tensor:
    """Deform a mirror image smoothly so that it lies on the bone it was made from.

    Displacements on a coarse lattice, interpolated linearly, minimise the squared difference of the two, blurred,
    near bone that both have, plus the square of the displacements' differences between neighbours. Where either side
    has a hole nothing is compared: there the displacements around go on smoothly.

    Args:
        mirror: fractions of bone, [1, X, Y, Z].
        mask: fractions of bone of the skull, [1, X, Y, Z].
        spacing: voxel size in mm.
        search_mm: voxel size of the grid they are compared on.
        control_mm: distance of the lattice's points.
        stiffness: weight of the displacements' differences.
        steps: of the Adam optimiser.

    Returns:
        The deformed mirror image, float32 [1, X, Y, Z]; the mirror image as it is where the two share no bone.
    """
    size = np.asarray(mask.shape[1:]) * np.asarray(spacing, dtype=np.float64)  # of the box, mm
    shape = working_shape(mask.shape[1:], spacing, search_mm)
    step = size / np.asarray(shape)
    fixed, moving = (resample_to_shape(image, shape)[0].numpy() for image in (mask, mirror))
    cells = np.flatnonzero(_comparable(fixed >= _BONE, moving >= _BONE, step))
    if cells.size < _FEW_CELLS:
        return mirror.float()
    target = torch.from_numpy(gaussian_filter(fixed, _BLUR_MM / step).ravel()[cells])
    blurred = torch.from_numpy(gaussian_filter(moving, _BLUR_MM / step))[None, None]
    places = _identity(shape).reshape(-1, 3)[torch.from_numpy(cells)][None, None, None]  # (1, 1, 1, N, 3)
    # grid_sample wants the last axis first, and a box from -1 to 1.
    per_mm = torch.from_numpy(2.0 / size).float().flip(0)
    lattice = [max(3, round(float(mm) / control_mm) + 2) for mm in size]
    shifts = torch.zeros(1, 3, *lattice, requires_grad=True)  # mm
    optimizer = torch.optim.Adam([shifts], lr=_LEARNING_RATE)
    with torch.enable_grad():
        for _ in range(steps):
            moved = places + per_mm * _interpolated(shifts, places)
            difference = F.grid_sample(blurred, moved, align_corners=False)[0, 0, 0, 0] - target
            bending = sum(shifts.diff(dim=axis).square().mean() for axis in (2, 3, 4))
            loss = difference.square().mean() + stiffness * bending * 100.0 / control_mm**2
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    places = _identity(mask.shape[1:])[None]
    moved = places + per_mm * _interpolated(shifts.detach(), places)
    return F.grid_sample(mirror[None].float(), moved, align_corners=False)[0]


def _comparable(fixed: np.ndarray, moving: np.ndarray, step: np.ndarray) -> np.ndarray:
    """Cells near bone of the skull, away from bone that the other image lacks, bool [X, Y, Z]."""
    to_fixed, to_moving = _distance(fixed, step), _distance(moving, step)
    holes = (moving & (to_fixed > _FAR_MM)) | (fixed & (to_moving > _FAR_MM))
    near: np.ndarray = (to_fixed < _FAR_MM) & (_distance(holes, step) > _FAR_MM)
    return near


def _distance(mask: np.ndarray, step: np.ndarray) -> np.ndarray:
    """Distance to the mask in mm; infinite to an empty one."""
    if not mask.any():
        return np.full(mask.shape, np.inf)
    return np.asarray(distance_transform_edt(~mask, sampling=step))


def _identity(shape: Sequence[int]) -> Tensor:
    """Where every voxel lies in the box from -1 to 1, last axis first, [X, Y, Z, 3]."""
    return F.affine_grid(torch.eye(3, 4)[None], [1, 1, *shape], align_corners=False)[0]


def _interpolated(shifts: Tensor, places: Tensor) -> Tensor:
    """Displacements in mm at the places [1, ..., 3], last axis first; the lattice spans the box."""
    found = F.grid_sample(shifts, places, padding_mode="border", align_corners=True)
    return found.movedim(1, -1).flip(-1)
