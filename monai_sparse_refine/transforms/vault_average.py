"""Average a completed skull with the interpolated vault where the two agree."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, Orientation, Transform
from monai.utils import TransformBackends
from scipy import ndimage
from torch import Tensor

from monai_sparse_refine.metrics import dice
from monai_sparse_refine.transforms.implant import ExtractImplant
from monai_sparse_refine.transforms.resample import ResampleToSpacing
from monai_sparse_refine.transforms.vault_surface import InterpolateVault
from monai_sparse_refine.volume import as_mask, bounding_box, spacing_of

__all__ = ["AverageVault", "AverageVaultD", "AverageVaultDict", "AverageVaultd"]


class AverageVault(Transform):
    """Mean of a network's probability and the interpolated vault, around an implant on which both agree.

    On a fine scan the interpolated surfaces lie more exactly than those of a network that works on a grid of 2 mm,
    as long as the hole is one of the smooth vault. Whether it is, the network tells: agreement is the Dice
    coefficient of its implant and the interpolated one. Below ``agreement``, on coarser scans, and away from the
    implant the probability stays as it is.

    Args:
        threshold: probability from which a voxel belongs to the skull.
        agreement: smallest Dice coefficient at which the two are averaged.
        finest_mm: voxels with a longer side are too coarse to profit.
        spacing: mm of the grid that the vault is interpolated on.
        margin_mm: how far around the implant the mean is taken.
        min_relative_volume: smallest part that counts as implant, as in :class:`ExtractImplant`.
    """

    backend = [TransformBackends.NUMPY]

    def __init__(
        self,
        *,
        threshold: float = 0.5,
        agreement: float = 0.8,
        finest_mm: float = 2.0,
        spacing: float = 1.0,
        margin_mm: float = 3.0,
        min_relative_volume: float = 0.2,
    ) -> None:
        self.threshold = threshold
        self.agreement = agreement
        self.finest_mm = finest_mm
        self.margin_mm = margin_mm
        self.to_ras = Orientation(axcodes="RAS", labels=None)
        self.resample = ResampleToSpacing(spacing, threshold=None)
        self.interpolate = InterpolateVault()
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
        if mm.max() > self.finest_mm:
            return probability
        plain = probability.as_tensor() if isinstance(probability, MetaTensor) else probability
        completed = MetaTensor((plain >= self.threshold).to(torch.uint8), affine=defective.affine)
        implant = as_mask(self.extract(completed, defective))
        box = bounding_box(implant, margin=[int(np.ceil(self.margin_mm / side)) + 1 for side in mm])
        if box is None:
            return probability
        fill = self._fill(defective)[box]
        near = ndimage.distance_transform_edt(~implant[box], sampling=mm) <= self.margin_mm
        guess = (fill >= 0.5) & near & ~as_mask(defective)[box]
        if dice(guess, implant[box]) < self.agreement:
            return probability
        mean = (plain[0][box].cpu().numpy() + fill) / 2
        out = plain.clone()
        out[0][box] = torch.from_numpy(np.where(near, mean, plain[0][box].cpu().numpy())).to(out)
        return MetaTensor(out, meta=probability.meta) if isinstance(probability, MetaTensor) else out

    def _fill(self, defective: MetaTensor) -> np.ndarray:
        """Fraction of every voxel that the interpolated vault fills, on the skull's own grid [X, Y, Z]."""
        source = MetaTensor(defective.as_tensor().float(), affine=defective.affine)
        fine: Any = self.resample(self.to_ras(source))
        filled = MetaTensor(self.interpolate(fine), meta=dict(fine.meta))
        filled.applied_operations = list(fine.applied_operations)
        back: Any = self.to_ras.inverse(self.resample.inverse(filled))
        return np.asarray(back.as_tensor()[0].numpy())


class AverageVaultd(MapTransform):
    """Dictionary version of :class:`AverageVault`: changes the probabilities at ``keys``."""

    backend = AverageVault.backend

    def __init__(
        self,
        keys: KeysCollection,
        defective_key: Hashable = "image",
        *,
        threshold: float = 0.5,
        agreement: float = 0.8,
        finest_mm: float = 2.0,
        spacing: float = 1.0,
        margin_mm: float = 3.0,
        min_relative_volume: float = 0.2,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.defective_key = defective_key
        self.average = AverageVault(
            threshold=threshold,
            agreement=agreement,
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


AverageVaultD = AverageVaultDict = AverageVaultd
