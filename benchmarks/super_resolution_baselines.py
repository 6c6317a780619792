"""Super-resolution without a network: nearest, linear, cubic and shape-based interpolation."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from monai.data import MetaTensor
from scipy import ndimage
from torch import Tensor

from monai_sparse_refine.volume import spacing_of

# From a coarse mask [1, x, y, z] to one of another shape [1, X, Y, Z] of the same box.
Method = Callable[[MetaTensor, Sequence[int]], Tensor]


def nearest(coarse: MetaTensor, shape: Sequence[int]) -> Tensor:
    """Every voxel takes the coarse voxel that it lies in."""
    return F.interpolate(_plain(coarse)[None], size=tuple(shape), mode="nearest-exact")[0] > 0.5


def linear(coarse: MetaTensor, shape: Sequence[int]) -> Tensor:
    """Trilinear interpolation, foreground from 0.5 on."""
    return _linear(_plain(coarse), shape) >= 0.5


def cubic(coarse: MetaTensor, shape: Sequence[int]) -> Tensor:
    """Cubic B-spline interpolation, foreground from 0.5 on."""
    values = _plain(coarse)[0].numpy()
    zoom = [new / old for new, old in zip(shape, values.shape, strict=True)]
    fine = ndimage.zoom(values, zoom, order=3, grid_mode=True, mode="nearest")
    return torch.from_numpy(fine[None] >= 0.5)


def shape_based(coarse: MetaTensor, shape: Sequence[int]) -> Tensor:
    """Signed distance to the surface in mm, interpolated linearly (Raya and Udupa, IEEE TMI 9, 1990)."""
    mask, mm = _plain(coarse)[0].numpy() > 0.5, spacing_of(coarse)
    if not mask.any() or mask.all():
        return nearest(coarse, shape)
    # To the centre of the nearest voxel of the other kind; the surface lies half a voxel before it.
    inside, outside = (ndimage.distance_transform_edt(part, sampling=mm) for part in (mask, ~mask))
    distance = inside - outside + np.where(mask, -0.5, 0.5) * min(mm)
    return _linear(torch.from_numpy(distance[None].astype(np.float32)), shape) >= 0


BASELINES: dict[str, Method] = {
    "nearest": nearest,
    "linear + 0.5": linear,
    "cubic + 0.5": cubic,
    "shape-based (signed distance)": shape_based,
}


def _linear(values: Tensor, shape: Sequence[int]) -> Tensor:
    return F.interpolate(values[None], size=tuple(shape), mode="trilinear", align_corners=False)[0]


def _plain(mask: MetaTensor) -> Tensor:
    return mask.as_tensor().float()
