"""Bring a mask to a working spacing and the network's answer back to the native grid."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.data.utils import affine_to_spacing
from monai.transforms import InvertibleTransform, MapTransform, Transform
from monai.utils import TraceKeys, TransformBackends
from torch import Tensor

from monai_sparse_refine.volume import as_tensor, spacing_of


def resample_to_shape(image: Tensor, shape: Sequence[int]) -> Tensor:
    """Resample [C, *spatial] to another shape of the same box: area mean where an axis shrinks, linear where it grows.

    The corners of the box stay in place (voxel edges, not centres), so a mask's volume is kept on average.
    """
    source = tuple(image.shape[1:])
    target = tuple(int(n) for n in shape)
    out = image[None].float()  # (1, C, *spatial)
    smaller = tuple(min(a, b) for a, b in zip(source, target, strict=True))
    if smaller != source:
        out = F.interpolate(out, size=smaller, mode="area")
    if target != smaller:
        mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[len(target)]
        out = F.interpolate(out, size=target, mode=mode, align_corners=False)
    return out[0]


def working_shape(shape: Sequence[int], spacing: Sequence[float], working_spacing: float) -> tuple[int, ...]:
    """Shape of the grid of about ``working_spacing`` mm over the same box; an axis is never less than 1 voxel."""
    return tuple(max(1, round(n * mm / working_spacing)) for n, mm in zip(shape, spacing, strict=True))


class ResampleToSpacing(InvertibleTransform, Transform):
    """Resample a mask to about ``spacing`` mm over exactly its own box; the inverse interpolates linearly.

    The box is divided into a whole number of voxels, so the spacing reached differs slightly from the one asked
    for (never by more than half a voxel over the whole box) and the way back loses no border. The affine follows.

    Args:
        spacing: working spacing in mm for all axes; None leaves the grid alone (native resolution).
        threshold: fraction of a working voxel that must be foreground; None keeps the fractions.
    """

    backend = [TransformBackends.TORCH]

    def __init__(self, spacing: float | None, *, threshold: float | None = 0.5) -> None:
        if spacing is not None and not spacing > 0:
            raise ValueError(f"spacing must be positive (mm), or None for the native grid; got {spacing}.")
        self.spacing = spacing
        self.threshold = threshold

    def __call__(self, mask: Tensor) -> MetaTensor:
        """Resample a [C, X, Y, Z] MetaTensor (a plain tensor counts as 1 mm)."""
        source = mask if isinstance(mask, MetaTensor) else MetaTensor(as_tensor(mask))
        shape = tuple(source.shape[1:])
        affine = source.affine
        spacing = affine_to_spacing(affine, r=len(shape))
        target = shape if self.spacing is None else working_shape(shape, spacing.tolist(), self.spacing)
        if target == shape:
            dtype = source.dtype if self.threshold is not None else torch.float32
            values = source.as_tensor().to(dtype, copy=True)
            out = MetaTensor(values, meta=dict(source.meta))
            out.applied_operations = list(source.applied_operations)
        else:
            data = resample_to_shape(source.as_tensor(), target)
            if self.threshold is not None:
                data = (data >= self.threshold).to(source.dtype)
            out = MetaTensor(data, meta=dict(source.meta))
            out.affine = box_affine(affine, shape, target)
            out.applied_operations = list(source.applied_operations)
        self.push_transform(out, extra_info={"shape": list(shape), "affine": affine.tolist()})
        return out

    def inverse(self, data: MetaTensor) -> MetaTensor:
        """Bring [C, *working shape] back to the native grid, by linear interpolation."""
        info = self.pop_transform(data)["extra_info"]
        shape = info["shape"]
        values = data.as_tensor()
        if tuple(values.shape[1:]) != tuple(shape):
            values = resample_to_shape(values, shape)
        out = MetaTensor(values, meta=dict(data.meta))
        out.affine = torch.as_tensor(info["affine"], dtype=torch.float64)
        out.applied_operations = list(data.applied_operations)
        return out


class ResampleToSpacingd(MapTransform, InvertibleTransform):
    """Dictionary version of :class:`ResampleToSpacing`; scans of fine voxels may get a grid of their own.

    Args:
        fine_spacing: mm of the grid of a case whose voxels are ``fine_mm`` long at most; None: no other than
            ``spacing``.
        reference_key: volume whose voxels decide; None: the one to resample.
        fine_mm: longest side of a fine voxel.
    """

    backend = ResampleToSpacing.backend

    def __init__(
        self,
        keys: KeysCollection,
        spacing: float | None,
        *,
        threshold: float | None = 0.5,
        fine_spacing: float | None = None,
        reference_key: Hashable | None = None,
        fine_mm: float = 2.0,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.resample = ResampleToSpacing(spacing, threshold=threshold)
        self.fine = (
            self.resample if fine_spacing is None else ResampleToSpacing(fine_spacing, threshold=threshold)
        )
        self.reference_key = reference_key
        self.fine_mm = fine_mm

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        out = dict(data)
        for key in self.key_iterator(out):
            reference = data[key if self.reference_key is None else self.reference_key]
            is_fine = self.fine is not self.resample and max(spacing_of(reference)) <= self.fine_mm
            resample = self.fine if is_fine else self.resample
            out[key] = resample(out[key])
        return out

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        out = dict(data)
        for key in self.key_iterator(out):
            # The two differ in nothing but their identity, which MONAI checks.
            last = out[key].applied_operations[-1:]
            is_fine = bool(last) and last[0].get(TraceKeys.ID) == id(self.fine)
            out[key] = (self.fine if is_fine else self.resample).inverse(out[key])
        return out


def box_affine(affine: Tensor, shape: Sequence[int], target: Sequence[int]) -> Tensor:
    """Affine of the grid ``target`` over the box of the grid ``shape`` (voxel edges aligned)."""
    ratio = np.asarray(shape, dtype=np.float64) / np.asarray(target, dtype=np.float64)
    scale = torch.eye(len(ratio) + 1, dtype=torch.float64)
    for axis, factor in enumerate(ratio):
        scale[axis, axis] = factor
        scale[axis, -1] = (factor - 1) / 2
    return affine.to(torch.float64) @ scale


ResampleToSpacingD = ResampleToSpacingDict = ResampleToSpacingd
