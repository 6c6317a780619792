"""Several refined labels on one grid: the one that is most certain of a voxel gets it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from monai_sparse_refine.transforms.label_masks import FIXED, Box, LabelMasks
from monai_sparse_refine.transforms.label_presets import Label

__all__ = ["LabelClaims"]


class Claim(NamedTuple):
    """A label's refined voxels: its position in the selection, its box, the voxels it had, how many it keeps."""

    position: int
    box: Box
    before: np.ndarray
    kept: int


class LabelClaims:
    """Who gets a voxel: the label that is most certain of it; of two equally certain ones, the first.

    Takes two arrays of one or two bytes a voxel, whatever the number of labels.

    Args:
        masks: the labels before.
    """

    def __init__(self, masks: LabelMasks) -> None:
        self.masks = masks
        self.owner = np.zeros_like(masks.index)
        self.best = np.where(masks.fixed, FIXED, 0).astype(np.uint8)
        self.claims: dict[Label, Claim] = {}

    def keep(self, label: Label) -> None:
        """A label stays as it came in: nobody gets its voxels."""
        box = self.masks.box(label, 0)
        if box is not None:
            self._keep(label, box, self.masks.of(label, box))

    def _keep(self, label: Label, box: Box, before: np.ndarray) -> None:
        self.owner[box][before] = self.masks.labels.index(label) + 1
        self.best[box][before] = FIXED

    def claim(self, label: Label, box: Box, graded: np.ndarray) -> None:
        """A refined label asks for voxels; `graded` is uint8 of the box, 0 or the certainty from 1 to 254."""
        position = self.masks.labels.index(label) + 1
        wins = graded > self.best[box]
        self.best[box][wins] = graded[wins]
        self.owner[box][wins] = position
        before = self.masks.of(label, box)
        self.claims[label] = Claim(position, box, before, int(np.count_nonzero(before & (graded > 0))))

    def result(self, label: Label) -> tuple[np.ndarray, np.ndarray]:
        """Masks of a label's box: before, and with what it got."""
        position, box, before, _ = self.claims[label]
        got = self.owner[box] == position
        if self.masks.one_hot:
            # Where it shares a voxel with a label that stays as it is, both keep it.
            got |= before & (self.best[box] == FIXED)
        return before, got

    def taken(self, label: Label) -> float:
        """Fraction of the voxels that a label had and asks for again that went to others."""
        before, got = self.result(label)
        kept = self.claims[label].kept
        return 1 - int(np.count_nonzero(before & got)) / kept if kept else 0.0

    def withdraw(self, label: Label) -> None:
        """A label turns out to be better left alone: it gets its voxels back, and gives up those it got."""
        position, box, before, _ = self.claims.pop(label)
        given_up = (self.owner[box] == position) & ~before
        origin = self.masks.index[box][given_up]
        self.owner[box][given_up] = origin
        self.best[box][given_up] = np.where(origin > 0, 1, 0)
        self._keep(label, box, before)
