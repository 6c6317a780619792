"""Average a completed skull with the interpolated vault where the two agree."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, Transform
from monai.utils import TransformBackends
from scipy import ndimage
from torch import Tensor

from monai_sparse_refine.metrics import dice
from monai_sparse_refine.transforms.guess_average import blended, surroundings
from monai_sparse_refine.transforms.implant import ExtractImplant
from monai_sparse_refine.transforms.ras_grid import on_ras_grid
from monai_sparse_refine.transforms.vault_surface import InterpolateVault
from monai_sparse_refine.volume import as_mask, bounding_box, spacing_of

__all__ = ["AverageVault", "AverageVaultD", "AverageVaultDict", "AverageVaultd"]

_RIM_MM = 1.5


class AverageVault(Transform):
    """Mean of a network's probability and the interpolated vault, around an implant on which both agree.

    On a fine scan of a smooth skull the interpolated surfaces lie more exactly than those of a network that works on
    a coarser grid. Whether to trust them tells the Dice coefficient of the network's implant and the interpolated
    one: from ``agreement`` on, they are averaged. Where it is lower, but at least ``least_agreement``, the bone
    around the hole decides, whose own interpolation from the bone farther away must repeat it (``repetition``).
    Otherwise, on coarser scans, and away from the implant the probability stays as it is.

    Args:
        threshold: probability from which a voxel belongs to the skull.
        agreement: Dice coefficient of the two implants from which they are averaged without more ado.
        repetition: smallest Dice coefficient of the bone around the hole and its interpolation at which they are
            averaged between ``least_agreement`` and ``agreement``; None: never there.
        least_agreement: Dice coefficient of the two implants below which they never are.
        ring_mm: how far around the implant bone is interpolated to compare.
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
        agreement: float = 0.88,
        repetition: float | None = None,
        least_agreement: float = 0.8,
        ring_mm: float = 8.0,
        finest_mm: float = 2.0,
        spacing: float = 1.0,
        margin_mm: float = 3.0,
        min_relative_volume: float = 0.2,
    ) -> None:
        self.threshold = threshold
        self.agreement = agreement
        self.repetition = repetition
        self.least_agreement = least_agreement
        self.ring_mm = ring_mm
        self.finest_mm = finest_mm
        self.margin_mm = margin_mm
        self.spacing = spacing
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
        fill = self._fill(as_mask(defective), defective)
        if not self._trusts(around.agreement(fill), around.implant, defective, mm):
            return probability
        return blended(probability, fill, around, weight=0.5)

    def _trusts(self, agreement: float, implant: np.ndarray, defective: MetaTensor, mm: np.ndarray) -> bool:
        if agreement >= self.agreement:
            return True
        if self.repetition is None or agreement < self.least_agreement:
            return False
        return self._repeats(implant, defective, mm) >= self.repetition

    def _repeats(self, implant: np.ndarray, defective: MetaTensor, mm: np.ndarray) -> float:
        """Dice coefficient of the bone around an implant and the vault interpolated without it."""
        bone = as_mask(defective)
        box = bounding_box(implant, margin=[int(np.ceil(self.ring_mm / side)) + 1 for side in mm])
        assert box is not None  # the implant is not empty
        distance = ndimage.distance_transform_edt(~implant[box], sampling=mm)
        ring = bone[box] & (distance <= self.ring_mm)
        without = bone.copy()
        without[box] &= ~ring
        # The cut faces of the bone are none of the vault's surfaces.
        compared = (distance > _RIM_MM) & (distance <= self.ring_mm)
        guess = (self._fill(without, defective)[box] >= 0.5) & ~without[box]
        return dice(guess & compared, ring & compared)

    def _fill(self, bone: np.ndarray, like: MetaTensor) -> np.ndarray:
        """Fraction of every voxel that the interpolated vault fills, on the skull's own grid [X, Y, Z]."""
        return on_ras_grid(self.interpolate, bone, like, spacing=self.spacing)


class AverageVaultd(MapTransform):
    """Dictionary version of :class:`AverageVault`: changes the probabilities at ``keys``."""

    backend = AverageVault.backend

    def __init__(
        self,
        keys: KeysCollection,
        defective_key: Hashable = "image",
        *,
        threshold: float = 0.5,
        agreement: float = 0.88,
        repetition: float | None = None,
        least_agreement: float = 0.8,
        ring_mm: float = 8.0,
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
            repetition=repetition,
            least_agreement=least_agreement,
            ring_mm=ring_mm,
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
