"""The threshold that makes a mask of probabilities; it may follow how sure they are."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from monai_sparse_refine.errors import InputError

__all__ = ["checked_threshold", "dice_threshold", "raised_over"]

LOWEST, HIGHEST = 0.4, 0.5


def dice_threshold(probability: Tensor, *, lowest: float = LOWEST, highest: float = HIGHEST) -> float:
    """Threshold of the mask with the best expected Dice coefficient, within bounds.

    Calibrated probabilities make the fewest wrong voxels at 0.5. The Dice coefficient does not count the voxels that
    are background in both, so that it asks for more where little is sure: its best threshold is half of the best
    expected Dice itself (Lipton et al., ECML PKDD 2014, for F1, which is the Dice coefficient of a mask). It is found
    by iteration: each threshold gives an expected Dice, half of which is the next threshold.

    Args:
        probability: any shape.
        lowest: never below; a mask of guesses has too many wrong voxels.
        highest: never above.

    Returns:
        The threshold; ``highest`` where nothing reaches ``lowest``.
    """
    total = float(probability.sum(dtype=torch.float64))
    likely = probability[probability >= lowest]
    threshold = highest
    for _ in range(20):  # it settles within a few
        chosen = likely[likely >= threshold]
        if len(chosen) == 0:
            break
        expected = 2 * float(chosen.sum(dtype=torch.float64)) / (len(chosen) + total)
        following = min(max(expected / 2, lowest), highest)
        if abs(following - threshold) < 1e-4:
            return following
        threshold = following
    return threshold


def raised_over(probability: Tensor, where: np.ndarray, *, threshold: float) -> Tensor:
    """Probabilities that are over a threshold in the voxels of a mask, for those who compare with > too.

    Args:
        probability: [1, X, Y, Z].
        where: boolean array [X, Y, Z].
        threshold: what is below it there becomes the next larger float32.
    """
    enough = float(np.nextafter(np.float32(threshold), np.float32(1)))
    chosen = torch.from_numpy(where)[None].to(probability.device)
    return torch.where(chosen, probability.clamp(min=enough), probability)


def checked_threshold(threshold: float | Literal["auto"] | None) -> float | Literal["auto"] | None:
    """The threshold as it is, or InputError for what is none."""
    if threshold is None or threshold == "auto" or (not isinstance(threshold, str) and 0 < threshold < 1):
        return threshold
    raise InputError(
        f"threshold is {threshold!r}; expected a probability between 0 and 1, 'auto', or None for probabilities"
    )
