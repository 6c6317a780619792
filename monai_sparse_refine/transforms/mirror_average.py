"""Average a completed skull with its mirror image where the two agree."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, Transform
from monai.utils import TransformBackends
from torch import Tensor

from monai_sparse_refine.errors import InputError
from monai_sparse_refine.transforms.guess_average import blended, surroundings
from monai_sparse_refine.transforms.implant import ExtractImplant
from monai_sparse_refine.transforms.mirror import MirrorImage
from monai_sparse_refine.transforms.ras_grid import on_ras_grid
from monai_sparse_refine.volume import as_mask, spacing_of

__all__ = ["AverageMirror", "AverageMirrorD", "AverageMirrorDict", "AverageMirrord"]


class AverageMirror(Transform):
    """Mean of a network's probability and the registered mirror image, around an implant on which both agree.

    On a fine scan the other side of a head has detail that a network on a coarser grid has not. Whether to trust it
    tells the Dice coefficient of the network's implant and the mirrored one. Otherwise, on coarser scans, and away
    from the implant the probability stays as it is.

    Args:
        threshold: probability from which a voxel belongs to the skull.
        agreement: Dice coefficient of the two implants from which they are averaged; above 1: never.
        weight: of the mirror image in the mean.
        finest_mm: voxels with a longer side are too coarse to profit.
        spacing: mm of the grid that the mirror image is made on.
        margin_mm: how far around the implant the mean is taken.
        min_relative_volume: smallest part that counts as implant, as in :class:`ExtractImplant`.

    Raises:
        InputError: a weight that is not between 0 and 1.
    """

    backend = [TransformBackends.NUMPY]

    def __init__(
        self,
        *,
        threshold: float = 0.5,
        agreement: float = 0.85,
        weight: float = 1 / 3,
        finest_mm: float = 2.0,
        spacing: float = 1.0,
        margin_mm: float = 3.0,
        min_relative_volume: float = 0.2,
    ) -> None:
        if not 0 < weight < 1:
            raise InputError(f"weight is {weight}; expected a number between 0 and 1")
        self.threshold = threshold
        self.agreement = agreement
        self.weight = weight
        self.finest_mm = finest_mm
        self.spacing = spacing
        self.margin_mm = margin_mm
        self.mirror = MirrorImage(threshold=None, register=True)
        self.extract = ExtractImplant(min_relative_volume=min_relative_volume)

    def __call__(self, probability: Tensor, defective: MetaTensor) -> Tensor:  # type: ignore[override]
        """Average.

        Args:
            probability: of the completed skull, [1, X, Y, Z].
            defective: the skull with the hole, of the same shape, with its affine.

        Returns:
            Probabilities in the container of ``probability``.
        """
        mm = np.asarray(spacing_of(defective))
        if mm.max() > self.finest_mm or self.agreement > 1:
            return probability
        plain = probability.as_tensor() if isinstance(probability, MetaTensor) else probability
        around = surroundings(
            plain,
            defective,
            extract=self.extract,
            threshold=self.threshold,
            margin_mm=self.margin_mm,
            mm=mm,
        )
        if around is None:
            return probability
        guess = on_ras_grid(self.mirror, as_mask(defective), defective, spacing=self.spacing)
        if around.agreement(guess) < self.agreement:
            return probability
        return blended(probability, guess, around, weight=self.weight)


class AverageMirrord(MapTransform):
    """Dictionary version of :class:`AverageMirror`: changes the probabilities at ``keys``."""

    backend = AverageMirror.backend

    def __init__(
        self,
        keys: KeysCollection,
        defective_key: Hashable = "image",
        *,
        threshold: float = 0.5,
        agreement: float = 0.85,
        weight: float = 1 / 3,
        finest_mm: float = 2.0,
        spacing: float = 1.0,
        margin_mm: float = 3.0,
        min_relative_volume: float = 0.2,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.defective_key = defective_key
        self.average = AverageMirror(
            threshold=threshold,
            agreement=agreement,
            weight=weight,
            finest_mm=finest_mm,
            spacing=spacing,
            margin_mm=margin_mm,
            min_relative_volume=min_relative_volume,
        )

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        out = dict(data)
        for key in self.key_iterator(out):
            out[key] = self.average(out[key], out[self.defective_key])
        return out


AverageMirrorD = AverageMirrorDict = AverageMirrord
