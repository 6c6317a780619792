"""Average a completed skull with the interpolated vault where the two agree."""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np
from monai.config import KeysCollection
from monai.data import MetaTensor
from scipy import ndimage

from monai_sparse_refine.metrics import dice
from monai_sparse_refine.transforms.guess_average import VAULT, AverageGuess, AverageGuessd, Surroundings
from monai_sparse_refine.transforms.implant import ExtractImplant
from monai_sparse_refine.transforms.ras_grid import on_ras_grid
from monai_sparse_refine.transforms.vault_surface import InterpolateVault
from monai_sparse_refine.volume import as_mask, bounding_box, spacing_of

__all__ = ["AverageVault", "AverageVaultD", "AverageVaultDict", "AverageVaultd"]

_RIM_MM = 1.5


class AverageVault(AverageGuess):
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
        extract: how the implant is told from noise; by default :class:`ExtractImplant` without parts below a fifth of
            the largest. Steps that share one find it once where it stays as it is.
    """

    channel = VAULT

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
        extract: ExtractImplant | None = None,
    ) -> None:
        super().__init__(
            threshold=threshold,
            weight=0.5,
            finest_mm=finest_mm,
            spacing=spacing,
            margin_mm=margin_mm,
            extract=extract,
        )
        self.agreement = agreement
        self.repetition = repetition
        self.least_agreement = least_agreement
        self.ring_mm = ring_mm
        self.interpolate = InterpolateVault()

    def guess(self, bone: np.ndarray, like: MetaTensor) -> np.ndarray:
        """The interpolated vault."""
        return on_ras_grid(self.interpolate, bone, like, spacing=self.spacing)

    def trusts(self, other: np.ndarray, around: Surroundings, defective: MetaTensor) -> bool:
        """Whether the two implants agree, or nearly, and the bone around the hole decides so."""
        agreement = around.agreement(other)
        if agreement >= self.agreement:
            return True
        if self.repetition is None or agreement < self.least_agreement:
            return False
        return self._repeats(around.implant, defective) >= self.repetition

    def _repeats(self, implant: np.ndarray, defective: MetaTensor) -> float:
        """Dice coefficient of the bone around an implant and the vault interpolated without it."""
        bone, mm = as_mask(defective), spacing_of(defective)
        box = bounding_box(implant, margin=[int(np.ceil(self.ring_mm / side)) + 1 for side in mm])
        assert box is not None  # the implant is not empty
        distance = ndimage.distance_transform_edt(~implant[box], sampling=mm)
        ring = bone[box] & (distance <= self.ring_mm)
        without = bone.copy()
        without[box] &= ~ring
        # The cut faces of the bone are none of the vault's surfaces.
        compared = (distance > _RIM_MM) & (distance <= self.ring_mm)
        guess = (self.guess(without, defective)[box] >= 0.5) & ~without[box]
        return dice(guess & compared, ring & compared)


class AverageVaultd(AverageGuessd):
    """Dictionary version of :class:`AverageVault`: changes the probabilities at ``keys``.

    Guesses that lie at ``guesses_key`` are not made again; none have to.
    """

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
        extract: ExtractImplant | None = None,
        guesses_key: Hashable | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        average = AverageVault(
            threshold=threshold,
            agreement=agreement,
            repetition=repetition,
            least_agreement=least_agreement,
            ring_mm=ring_mm,
            finest_mm=finest_mm,
            spacing=spacing,
            margin_mm=margin_mm,
            extract=extract,
        )
        super().__init__(
            keys, defective_key, average, guesses_key=guesses_key, allow_missing_keys=allow_missing_keys
        )


AverageVaultD = AverageVaultDict = AverageVaultd
