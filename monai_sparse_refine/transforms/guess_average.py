"""What averaging a network's probability with a guess of the whole skull shares, whatever the guess."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from monai.data import MetaTensor
from scipy import ndimage
from torch import Tensor

from monai_sparse_refine.metrics import dice
from monai_sparse_refine.transforms.implant import ExtractImplant
from monai_sparse_refine.volume import as_mask, bounding_box

__all__ = ["Surroundings", "blended", "surroundings"]


class Surroundings(NamedTuple):
    """An implant [X, Y, Z], the box around it, and in that box what is near the implant and the bone."""

    implant: np.ndarray
    box: tuple[slice, slice, slice]
    near: np.ndarray
    bone: np.ndarray

    def agreement(self, guess: np.ndarray) -> float:
        """Dice coefficient of the implant and a guess's: fractions [X, Y, Z] of the whole volume."""
        return dice((guess[self.box] >= 0.5) & self.near & ~self.bone, self.implant[self.box])


def surroundings(
    probability: Tensor,
    defective: MetaTensor,
    *,
    extract: ExtractImplant,
    threshold: float,
    margin_mm: float,
    mm: Sequence[float] | np.ndarray,
) -> Surroundings | None:
    """Where a probability [1, X, Y, Z] has an implant, and what lies up to a margin from it; None without one."""
    completed = MetaTensor((probability >= threshold).to(torch.uint8), affine=defective.affine)
    implant = as_mask(extract(completed, defective))
    box = bounding_box(implant, margin=[int(np.ceil(margin_mm / side)) + 1 for side in mm])
    if box is None:
        return None
    near = ndimage.distance_transform_edt(~implant[box], sampling=mm) <= margin_mm
    return Surroundings(implant, box, near, as_mask(defective)[box])


def blended(probability: Tensor, guess: np.ndarray, around: Surroundings, *, weight: float) -> Tensor:
    """The probability [1, X, Y, Z] with a guess [X, Y, Z] of that weight near the implant."""
    plain = probability.as_tensor() if isinstance(probability, MetaTensor) else probability
    before = plain[0][around.box].cpu().numpy()
    mean = (1 - weight) * before + weight * guess[around.box]
    out = plain.clone()
    out[0][around.box] = torch.from_numpy(np.where(around.near, mean, before)).to(out)
    return MetaTensor(out, meta=probability.meta) if isinstance(probability, MetaTensor) else out
