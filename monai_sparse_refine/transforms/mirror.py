"""The midsagittal plane of a skull and its mirror image across it."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.data.utils import affine_to_spacing
from monai.transforms import MapTransform, Transform
from monai.utils import TransformBackends, convert_to_dst_type
from scipy.ndimage import distance_transform_edt, map_coordinates
from scipy.optimize import minimize
from torch import Tensor

from monai_sparse_refine.transforms.mirror_registration import register_mirror
from monai_sparse_refine.transforms.resample import resample_to_shape, working_shape
from monai_sparse_refine.volume import as_tensor


class Plane(NamedTuple):
    """Points p (mm, voxel index times spacing) with normal . p = offset; ``normal`` has length 1."""

    normal: tuple[float, float, float]
    offset: float


def midsagittal_plane(
    mask: np.ndarray | Tensor,
    *,
    spacing: Sequence[float],
    search_mm: float = 4.0,
    clamp_mm: float = 15.0,
) -> Plane:
    """Estimate the plane across which a skull is most nearly its own mirror image.

    Minimises the mean distance from the mirrored bone voxels to the nearest bone voxel, clamped so that a defect
    or a one-sided inlay does not pull the plane (a trimmed symmetry distance). Starts at the plane of the centroid
    across the first axis, so the volume must have left and right along it (MONAI's ``Orientationd`` does that).

    Args:
        mask: [X, Y, Z], at least 0.5 where there is bone.
        spacing: voxel size in mm.
        search_mm: resolution of the search.
        clamp_mm: distances count up to this.

    Raises:
        ValueError: if the mask is empty.
    """
    bone = as_tensor(mask).cpu() >= 0.5
    if not bool(bone.any()):
        raise ValueError("mask is empty: a midsagittal plane needs bone voxels.")
    shape = working_shape(bone.shape, spacing, search_mm)
    coarse = resample_to_shape(bone[None].float(), shape)[0].numpy() >= 0.3
    if not coarse.any():
        coarse, shape = bone.numpy(), tuple(bone.shape)
    step = np.asarray(bone.shape) * np.asarray(spacing, dtype=np.float64) / np.asarray(shape)
    pad = int(np.ceil(2 * clamp_mm / search_mm))
    distance = distance_transform_edt(~np.pad(coarse, pad), sampling=step)
    distance = np.minimum(distance, clamp_mm).astype(np.float32)
    points = np.argwhere(coarse)
    points = points[:: max(1, len(points) // 4000)]  # a few thousand determine three parameters
    # Points spread within their voxels: on the lattice, planes that map it onto itself would look too good.
    points_mm = (points + np.random.RandomState(0).uniform(0, 1, points.shape)) * step
    centre = points_mm.mean(0)

    def cost(parameters: np.ndarray) -> float:
        normal = _normal(parameters[0], parameters[1])
        signed = (points_mm - centre) @ normal - parameters[2]
        mirrored = points_mm - 2 * signed[:, None] * normal
        index = mirrored / step - 0.5 + pad  # (N, 3)
        return float(map_coordinates(distance, index.T, order=1, mode="nearest").mean())

    # Offsets are found on a line first: the cost has side minima a few centimetres off.
    starts = [(0.0, 0.0, offset) for offset in np.arange(-24.0, 25.0, 4.0)]
    best = min(starts, key=lambda start: cost(np.asarray(start)))
    simplex = np.asarray(best) + np.vstack([np.zeros(3), np.diag([0.08, 0.08, 4.0])])
    found = minimize(
        cost,
        np.asarray(best),
        method="Nelder-Mead",
        options={"initial_simplex": simplex, "xatol": 1e-3, "fatol": 1e-4, "maxfev": 200},
    )
    normal = _normal(found.x[0], found.x[1])
    return Plane((float(normal[0]), float(normal[1]), float(normal[2])), float(centre @ normal + found.x[2]))


def mirror_image(mask: Tensor, plane: Plane, *, spacing: Sequence[float]) -> Tensor:
    """Mirror a [1, X, Y, Z] mask across a plane; linear interpolation, 0 outside; float32 values in [0, 1]."""
    shape = mask.shape[1:]
    scale = torch.tensor([float(mm) for mm in spacing])
    normal = torch.tensor(plane.normal)
    reflection = torch.eye(3) - 2 * torch.outer(normal, normal)
    # Voxel centres sit at (i + 0.5) * spacing; grid_sample wants the box as [-1, 1], last axis first.
    extent = torch.tensor([float(n) for n in shape]) * scale
    linear = torch.diag(2 / extent) @ reflection @ torch.diag(extent / 2)
    half = extent / 2
    shift = (2 / extent) * (reflection @ half + 2 * plane.offset * normal - half)
    theta = torch.cat([linear.flip(0).flip(1), shift.flip(0)[:, None]], dim=1)[None]
    size = [1, 1, *shape]
    grid = F.affine_grid(theta, size, align_corners=False)
    return F.grid_sample(mask[None].float(), grid, mode="bilinear", align_corners=False)[0]


class MirrorImage(Transform):
    """Mirror image of a skull mask across its estimated midsagittal plane.

    The volume must have left and right along its first axis (``Orientationd(axcodes="RAS")``).

    Args:
        append: return [mask, mirror] as two channels (a network's input) instead of the mirror alone.
        threshold: binarise the mirror at this value; None keeps the interpolated values, for masks of fractions.
        register: deform the mirror image onto the bone there is (:func:`register_mirror`): heads are not quite
            symmetric.
    """

    backend = [TransformBackends.TORCH, TransformBackends.NUMPY]

    def __init__(
        self, *, append: bool = False, threshold: float | None = 0.5, register: bool = False
    ) -> None:
        self.append = append
        self.threshold = threshold
        self.register = register

    def __call__(self, mask: Tensor) -> Tensor:
        """Mirror [1, X, Y, Z]; an empty mask mirrors to an empty one."""
        plain = as_tensor(mask).cpu()  # the result goes back to where the mask is
        if plain.ndim != 4 or plain.shape[0] != 1:
            raise ValueError(f"MirrorImage expects one 3D mask [1, X, Y, Z], got shape {tuple(plain.shape)}.")
        affine = mask.affine if isinstance(mask, MetaTensor) else torch.eye(4)
        spacing = affine_to_spacing(affine, r=3).tolist()
        if bool((plain >= 0.5).any()):
            plane = midsagittal_plane(plain[0], spacing=spacing)
            mirrored = mirror_image(plain, plane, spacing=spacing)
            if self.register:
                mirrored = register_mirror(mirrored, plain.float(), spacing=spacing)
            if self.threshold is not None:
                mirrored = (mirrored >= self.threshold).to(plain.dtype)
        else:
            mirrored = torch.zeros_like(plain)
        out = torch.cat([plain, mirrored]) if self.append else mirrored
        # Interpolated values would not survive an integer type.
        return convert_to_dst_type(out, mask, dtype=out.dtype if self.threshold is None else None)[0]


class MirrorImaged(MapTransform):
    """Dictionary version of :class:`MirrorImage`."""

    backend = MirrorImage.backend

    def __init__(
        self,
        keys: KeysCollection,
        *,
        append: bool = False,
        threshold: float | None = 0.5,
        register: bool = False,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.mirror = MirrorImage(append=append, threshold=threshold, register=register)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        out = dict(data)
        for key in self.key_iterator(out):
            out[key] = self.mirror(out[key])
        return out


def _normal(tilt: float, turn: float) -> np.ndarray:
    """Unit normal near the first axis, tilted towards the third and turned towards the second (radians)."""
    normal = np.array([1.0, np.tan(turn), np.tan(tilt)])
    return np.asarray(normal / np.linalg.norm(normal))


MirrorImageD = MirrorImageDict = MirrorImaged
