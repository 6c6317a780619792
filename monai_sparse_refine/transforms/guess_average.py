"""What averaging a network's probability with a guess of the whole skull shares, whatever the guess."""

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

__all__ = ["MIRROR", "VAULT", "AverageGuess", "AverageGuessd", "Surroundings"]

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


class AverageGuess(Transform):
    """Mean of a network's probability and a guess of the whole skull, around an implant, where the guess is trusted.

    On coarser scans, where it is not trusted and away from the implant the probability stays as it is.

    Attributes:
        channel: of the guess, in the input of a network that gets it too.

    Args:
        threshold: probability from which a voxel belongs to the skull.
        weight: of the guess in the mean.
        finest_mm: voxels with a longer side are too coarse to profit.
        spacing: mm of the grid that the guess is made on.
        margin_mm: how far around the implant the mean is taken.
        min_relative_volume: smallest part that counts as implant, as in :class:`ExtractImplant`.
    """

    backend = [TransformBackends.NUMPY]
    channel: int

    def __init__(
        self,
        *,
        threshold: float,
        weight: float,
        finest_mm: float,
        spacing: float,
        margin_mm: float,
        min_relative_volume: float,
    ) -> None:
        self.threshold = threshold
        self.weight = weight
        self.finest_mm = finest_mm
        self.spacing = spacing
        self.margin_mm = margin_mm
        self.extract = ExtractImplant(min_relative_volume=min_relative_volume)

    @abstractmethod
    def guess(self, bone: np.ndarray, like: MetaTensor) -> np.ndarray:
        """Fraction of bone in every voxel of the whole skull [X, Y, Z], from the bone there is."""

    @abstractmethod
    def trusts(self, guess: np.ndarray, around: Surroundings, defective: MetaTensor) -> bool:
        """Whether the guess is averaged with the network's answer."""

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
        if guesses is None:
            guess = self.guess(as_mask(defective), defective)
        else:
            guess = on_grid_of(guesses, defective, channel=self.channel)
        if not self.trusts(guess, around, defective):
            return probability
        before = plain[0][around.box].cpu().numpy()
        mean = (1 - self.weight) * before + self.weight * guess[around.box]
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


class AverageGuessd(MapTransform):
    """Dictionary version of an :class:`AverageGuess`: changes the probabilities at ``keys``.

    What lies at ``guesses_key`` is not made again; nothing has to.
    """

    backend = AverageGuess.backend

    def __init__(
        self,
        keys: KeysCollection,
        defective_key: Hashable,
        average: AverageGuess,
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
