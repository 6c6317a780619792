"""Completions without a network: nothing, the mirror image, and the interpolated surface of the vault."""

from __future__ import annotations

from collections.abc import Callable

import torch
from monai.config.type_definitions import NdarrayOrTensor
from monai.data import MetaTensor

from monai_sparse_refine.transforms import ExtractImplant, InterpolateVault, MirrorImage

# From a defective skull to its implant, both uint8 [1, X, Y, Z].
Method = Callable[[MetaTensor], NdarrayOrTensor]

# One part, and no thin film: better for both baselines than what suits a network.
_CLEAN = ExtractImplant(core_mm=5.0, min_relative_volume=1.0)


def identity(defective: MetaTensor) -> NdarrayOrTensor:
    """The hole stays open: what whole-skull Dice has to be read against."""
    return torch.zeros_like(defective)


def mirror(defective: MetaTensor) -> NdarrayOrTensor:
    """The other side of the skull, mirrored across its estimated midsagittal plane, cleaned.

    Only the largest part counts: faces and bases are never so symmetric that nothing else would be left.
    """
    return _CLEAN(MirrorImage()(defective), defective)


def registered_mirror(defective: MetaTensor) -> NdarrayOrTensor:
    """The mirror image after it was deformed onto the bone there is, cleaned.

    See :func:`monai_sparse_refine.transforms.register_mirror`.
    """
    return _CLEAN(MirrorImage(register=True)(defective), defective)


def interpolation(defective: MetaTensor) -> NdarrayOrTensor:
    """The inner and the outer surface of the vault, continued smoothly across the hole, cleaned.

    See :class:`monai_sparse_refine.transforms.InterpolateVault`.
    """
    fill = (InterpolateVault()(defective) >= 0.5).to(torch.uint8)
    return _CLEAN(torch.maximum(defective.to(torch.uint8), fill), defective)


BASELINES: dict[str, Method] = {
    "identity (hole left open)": identity,
    "mirror image": mirror,
    "mirror image, registered": registered_mirror,
    "surface interpolation": interpolation,
}
