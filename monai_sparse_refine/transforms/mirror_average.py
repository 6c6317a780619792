"""Average a completed skull with its mirror image where the two agree."""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np
from monai.config import KeysCollection
from monai.data import MetaTensor

from monai_sparse_refine.errors import InputError
from monai_sparse_refine.transforms.guess_average import MIRROR, AverageGuess, AverageGuessd, Surroundings
from monai_sparse_refine.transforms.implant import ExtractImplant
from monai_sparse_refine.transforms.mirror import MirrorImage
from monai_sparse_refine.transforms.ras_grid import on_ras_grid

__all__ = ["AverageMirror", "AverageMirrorD", "AverageMirrorDict", "AverageMirrord"]


class AverageMirror(AverageGuess):
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
        extract: how the implant is told from noise; by default :class:`ExtractImplant` without parts below a fifth of
            the largest. Steps that share one find it once where it stays as it is.

    Raises:
        InputError: a weight that is not between 0 and 1.
    """

    channel = MIRROR

    def __init__(
        self,
        *,
        threshold: float = 0.5,
        agreement: float = 0.85,
        weight: float = 1 / 3,
        finest_mm: float = 2.0,
        spacing: float = 1.0,
        margin_mm: float = 3.0,
        extract: ExtractImplant | None = None,
    ) -> None:
        if not 0 < weight < 1:
            raise InputError(f"weight is {weight}; expected a number between 0 and 1")
        super().__init__(
            threshold=threshold,
            weight=weight,
            finest_mm=finest_mm if agreement <= 1 else 0.0,  # no two implants agree so well
            spacing=spacing,
            margin_mm=margin_mm,
            extract=extract,
        )
        self.agreement = agreement
        self.mirror = MirrorImage(threshold=None, register=True)

    def guess(self, bone: np.ndarray, like: MetaTensor) -> np.ndarray:
        """The registered mirror image."""
        return on_ras_grid(self.mirror, bone, like, spacing=self.spacing)

    def trusts(self, other: np.ndarray, around: Surroundings, defective: MetaTensor) -> bool:
        """Whether the two implants agree."""
        return around.agreement(other) >= self.agreement


class AverageMirrord(AverageGuessd):
    """Dictionary version of :class:`AverageMirror`: changes the probabilities at ``keys``.

    Guesses that lie at ``guesses_key`` are not made again; none have to.
    """

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
        extract: ExtractImplant | None = None,
        guesses_key: Hashable | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        average = AverageMirror(
            threshold=threshold,
            agreement=agreement,
            weight=weight,
            finest_mm=finest_mm,
            spacing=spacing,
            margin_mm=margin_mm,
            extract=extract,
        )
        super().__init__(
            keys, defective_key, average, guesses_key=guesses_key, allow_missing_keys=allow_missing_keys
        )


AverageMirrorD = AverageMirrorDict = AverageMirrord
