"""What averaging a network's probability with another answer shares, whatever that is."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Hashable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, Transform
from monai.utils import TransformBackends
from scipy import ndimage
from torch import Tensor

from monai_sparse_refine.metrics import dice
from monai_sparse_refine.transforms.implant import ExtractImplant
from monai_sparse_refine.transforms.ras_grid import on_grid_of
from monai_sparse_refine.volume import as_mask, bounding_box, spacing_of

__all__ = ["MIRROR", "VAULT", "AverageAround", "AverageGuess", "AverageGuessd", "Surroundings"]

# Channels of a network's input, after the skull itself.
MIRROR, VAULT = 1, 2


class Surroundings(NamedTuple):
    """An implant [X, Y, Z], the box around it, and in that box what is near the implant and the bone."""

    implant: np.ndarray
    box: tuple[slice, slice, slice]
    near: np.ndarray
    bone: np.ndarray

    def agreement(self, guess: np.ndarray) -> float:
        """Dice coefficient of the implant and a guess's: fractions [X, Y, Z] of the whole volume."""
        return dice((guess[self.box] >= 0.5) & self.near & ~self.bone, self.implant[self.box])


class AverageAround(Transform):
    """Mean of a network's probability and another answer, around an implant, where that one is trusted.

    On coarser scans, where it is not trusted and away from the implant the probability stays as it is.

    Args:
        threshold: probability from which a voxel belongs to the skull.
        weight: of the other answer in the mean.
        finest_mm: voxels with a longer side are too coarse to profit.
        margin_mm: how far around the implant the mean is taken.
        extract: how the implant is told from noise; by default :class:`ExtractImplant` without parts below a fifth of
            the largest. Steps that share one find it once where it stays as it is.
    """

    backend = [TransformBackends.NUMPY]

    def __init__(
        self,
        *,
        threshold: float,
        weight: float,
        finest_mm: float,
        margin_mm: float,
        extract: ExtractImplant | None,
    ) -> None:
        self.threshold = threshold
        self.weight = weight
        self.finest_mm = finest_mm
        self.margin_mm = margin_mm
        self.extract = ExtractImplant(min_relative_volume=0.2) if extract is None else extract

    @abstractmethod
    def other(self, defective: MetaTensor, guesses: MetaTensor | None, around: Surroundings) -> np.ndarray:
        """Probability or fraction of bone in every voxel [X, Y, Z] of the defective skull's grid."""

    @abstractmethod
    def trusts(self, other: np.ndarray, around: Surroundings, defective: MetaTensor) -> bool:
        """Whether the other answer is averaged with the network's."""

    def __call__(  # type: ignore[override]
        self, probability: Tensor, defective: MetaTensor, guesses: MetaTensor | None = None
    ) -> Tensor:
        """Average.

        Args:
            probability: of the completed skull, [1, X, Y, Z].
            defective: the skull with the hole, of the same shape, with its affine.
            guesses: skull, mirror image and interpolated vault as they were made for the network,
                [3, X', Y', Z'], in RAS orientation over a box of the same grid; None: made here.

        Returns:
            Probabilities in the container of ``probability``.
        """
        if max(spacing_of(defective)) > self.finest_mm:
            return probability
        plain = probability.as_tensor() if isinstance(probability, MetaTensor) else probability
        around = self._surroundings(plain, defective)
        if around is None:
            return probability
        other = self.other(defective, guesses, around)
        if not self.trusts(other, around, defective):
            return probability
        before = plain[0][around.box].cpu().numpy()
        mean = (1 - self.weight) * before + self.weight * other[around.box]
        out = plain.clone()
        out[0][around.box] = torch.from_numpy(np.where(around.near, mean, before)).to(out)
        return MetaTensor(out, meta=probability.meta) if isinstance(probability, MetaTensor) else out

    def _surroundings(self, probability: Tensor, defective: MetaTensor) -> Surroundings | None:
        """Where a probability has an implant, and what lies up to the margin from it; None without one."""
        mm = spacing_of(defective)
        completed = MetaTensor((probability >= self.threshold).to(torch.uint8), affine=defective.affine)
        implant = as_mask(self.extract(completed, defective))
        box = bounding_box(implant, margin=[int(np.ceil(self.margin_mm / side)) + 1 for side in mm])
        if box is None:
            return None
        near = ndimage.distance_transform_edt(~implant[box], sampling=mm) <= self.margin_mm
        return Surroundings(implant, box, near, as_mask(defective)[box])


class AverageGuess(AverageAround):
    """Average with a guess of the whole skull, which is made from the skull where it was not made before.

    Attributes:
        channel: of the guess, in the input of a network that gets it too.

    Args:
        spacing: mm of the grid that the guess is made on.
        options: as in :class:`AverageAround`.
    """

    channel: int

    def __init__(self, *, spacing: float, **options: Any) -> None:
        super().__init__(**options)
        self.spacing = spacing

    @abstractmethod
    def guess(self, bone: np.ndarray, like: MetaTensor) -> np.ndarray:
        """Fraction of bone in every voxel of the whole skull [X, Y, Z], from the bone there is."""

    def other(self, defective: MetaTensor, guesses: MetaTensor | None, around: Surroundings) -> np.ndarray:
        """The guess."""
        if guesses is None:
            return self.guess(as_mask(defective), defective)
        return on_grid_of(guesses, defective, channel=self.channel)


class AverageGuessd(MapTransform):
    """Dictionary version of an :class:`AverageAround`: changes the probabilities at ``keys``.

    What lies at ``guesses_key`` is not made again; nothing has to.
    """

    backend = AverageAround.backend

    def __init__(
        self,
        keys: KeysCollection,
        defective_key: Hashable,
        average: AverageAround,
        *,
        guesses_key: Hashable | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.defective_key = defective_key
        self.guesses_key = guesses_key
        self.average = average

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        out = dict(data)
        for key in self.key_iterator(out):
            out[key] = self.average(out[key], out[self.defective_key], out.get(self.guesses_key))
        return out
