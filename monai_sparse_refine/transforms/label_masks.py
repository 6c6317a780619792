"""The labels of a mask one at a time, from a label map or a one-hot mask, and back into it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from scipy import ndimage
from torch import Tensor

from monai_sparse_refine.errors import InputError
from monai_sparse_refine.transforms.label_presets import MAX_LABEL_ID, Label
from monai_sparse_refine.volume import bounding_box

__all__ = ["FIXED", "Box", "LabelMasks", "as_channels"]

Box = tuple[slice, slice, slice]
# Voxels that are not up for refinement: of labels that were not asked for, or that stay as they are.
FIXED = 255


def as_channels(volume: Any, *, name: str = "mask") -> np.ndarray:
    """View an array, tensor or MetaTensor as numpy [C, X, Y, Z]."""
    if isinstance(volume, MetaTensor):
        volume = volume.as_tensor()
    if isinstance(volume, Tensor) and volume.dtype == torch.bfloat16:  # numpy has no such type
        volume = volume.float()
    array = volume.detach().cpu().numpy() if isinstance(volume, Tensor) else np.asarray(volume)
    if array.ndim == 5:
        raise InputError(
            f"{name} has shape {tuple(array.shape)}, a batch; expected one case, [C, X, Y, Z]: use the transform "
            "in postprocessing, where items are decollated (decollate=True), or call it for each item"
        )
    if array.ndim != 4:
        raise InputError(
            f"{name} has shape {tuple(array.shape)}; expected one 3D case, [C, X, Y, Z]: add the channel "
            "(EnsureChannelFirstd) where it is missing; 2D images are not supported, stack slices to a volume"
        )
    if array.size == 0 or array.dtype.kind not in "buif":
        raise InputError(
            f"{name} has shape {tuple(array.shape)} and type {array.dtype}; expected at least one voxel, real values"
        )
    return array


class LabelMasks:
    """The labels of a mask, one at a time, whether it is a label map or one-hot.

    Args:
        volume: [C, X, Y, Z]; one channel is a label map (or binary mask), several are one-hot.
        labels: which; None for all that the mask has.
        has_background: in a one-hot mask, channel 0 is the background, so that label id i is channel i; if
            False, label id i is channel i - 1.

    Raises:
        InputError: values that are no labels, or a channel that the mask does not have.
    """

    def __init__(
        self, volume: np.ndarray, labels: Sequence[Label] | None, *, has_background: bool = True
    ) -> None:
        self.volume = volume
        self.one_hot = len(volume) > 1
        self.first = 0 if has_background or not self.one_hot else 1  # id of channel 0
        if self.one_hot:
            present = [c + self.first for c in range(len(volume)) if c + self.first > 0]
        else:
            ids = self._read_map()
            present = [i for i, box in enumerate(ndimage.find_objects(ids), start=1) if box is not None]
        self.labels = tuple(Label(str(i), (i,)) for i in present) if labels is None else tuple(labels)
        # Position of each voxel's label in the selection, from 1, 0 for none; and where others have theirs.
        if self.one_hot:
            self._check_channels(present)
            self.index, self.fixed = self._index_channels()
        else:
            self.index, self.fixed = self._index_map(ids)
        self.boxes = ndimage.find_objects(self.index, max_label=max(1, len(self.labels)))

    def _read_map(self) -> np.ndarray:
        """The label map in two bytes a voxel, once it has turned out to be one."""
        volume = self.volume[0]
        low, high = float(volume.min()), float(volume.max())
        if not (low >= 0 and high <= MAX_LABEL_ID):  # NaN is neither
            raise InputError(
                f"mask has values from {low:g} to {high:g}; expected label ids from 0 to {MAX_LABEL_ID}"
            )
        ids = volume.astype(np.uint16)
        if volume.dtype.kind == "f" and bool((ids != volume).any()):
            raise InputError(
                "mask has values that are no whole numbers; expected a label map or one-hot mask: turn "
                "probabilities into labels first (AsDiscreted with argmax or threshold)"
            )
        return ids

    def _check_channels(self, present: Sequence[int]) -> None:
        for label in self.labels:
            absent = [number for number in label.ids if number not in present]
            if absent:
                raise InputError(
                    f"label {label.name!r} is id {absent[0]}, and the one-hot mask of {len(self.volume)} channels "
                    f"has ids {present[0]} to {present[-1]}; choose another label_preset or labels"
                )
        for channel in self.volume:
            if bool(((channel != 0) & (channel != 1)).any()):
                raise InputError(
                    "mask has several channels and values other than 0 and 1; expected one-hot: turn "
                    "probabilities into labels first (AsDiscreted with argmax or threshold)"
                )

    def _position_type(self) -> type[np.unsignedinteger]:
        return np.uint8 if len(self.labels) < FIXED else np.uint16

    def _index_map(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        table = np.zeros(MAX_LABEL_ID + 1, dtype=self._position_type())
        for position, label in enumerate(self.labels, start=1):
            table[list(label.ids)] = position
        index = table[ids]
        return index, (ids != 0) & (index == 0)

    def _index_channels(self) -> tuple[np.ndarray, np.ndarray]:
        index = np.zeros(self.volume.shape[1:], dtype=self._position_type())
        selected = {0} if self.first == 0 else set()
        for position, label in enumerate(self.labels, start=1):
            selected.update(self._channels(label))
            index[self.of(label)] = position
        fixed = np.zeros(index.shape, dtype=bool)
        for number, channel in enumerate(self.volume):
            if number not in selected:
                fixed |= channel != 0
        return index, fixed

    def _channels(self, label: Label) -> list[int]:
        return [number - self.first for number in label.ids]

    def of(self, label: Label, box: Box | None = None) -> np.ndarray:
        """Boolean mask of a label, [X, Y, Z] or its box."""
        where = (slice(None),) * 3 if box is None else box
        if self.one_hot:
            return np.any([self.volume[c][where] != 0 for c in self._channels(label)], axis=0)
        position = self.labels.index(label) + 1
        return self.index[where] == position

    def box(self, label: Label, margin: int | None) -> Box | None:
        """Box around a label, widened by a margin; None where the label is empty."""
        # Where labels of a one-hot mask overlap, the index has only one of them.
        tight = bounding_box(self.of(label)) if self.one_hot else self.boxes[self.labels.index(label)]
        if tight is None:
            return None
        size = self.index.shape
        if margin is None:
            return (slice(0, size[0]), slice(0, size[1]), slice(0, size[2]))
        wide = [
            slice(max(0, s.start - margin), min(n, s.stop + margin)) for s, n in zip(tight, size, strict=True)
        ]
        return (wide[0], wide[1], wide[2])

    def write(self, out: np.ndarray, label: Label, box: Box, after: np.ndarray) -> None:
        """Give a label its refined voxels in a copy of the mask.

        A voxel that it has lost becomes background. In a union of ids every voxel keeps its own; a new voxel
        takes that of the nearest voxel of the label.

        Args:
            out: copy of the mask, [C, X, Y, Z], changed in place.
            label: which label.
            box: where it was refined.
            after: boolean mask of the box.
        """
        before = self.of(label, box)
        lost, new = before & ~after, after & ~before
        if self.one_hot:
            channels = self._channels(label)
            nearest = self._nearest(label, box, before, new)
            for channel in channels:
                out[channel][box][lost] = 0
            for number, where in nearest:
                out[number - self.first][box][where] = 1
            if self.first == 0:
                changed = lost | new
                others = np.any([out[c][box] != 0 for c in range(1, len(out))], axis=0)
                out[0][box][changed] = ~others[changed]
            return
        region = out[0][box]
        # Another label may have taken the voxel already.
        region[lost & np.isin(region, label.ids)] = 0
        for number, where in self._nearest(label, box, before, new):
            region[where] = number

    def _nearest(
        self, label: Label, box: Box, before: np.ndarray, new: np.ndarray
    ) -> list[tuple[int, np.ndarray]]:
        """Which of a label's ids every new voxel gets."""
        if not new.any():
            return []
        if len(label.ids) == 1:
            return [(label.ids[0], new)]
        if self.one_hot:
            ids = np.zeros(before.shape, dtype=np.uint16)
            for number, channel in zip(label.ids, self._channels(label), strict=True):
                ids[self.volume[channel][box] != 0] = number
        else:
            ids = np.where(before, self.volume[0][box], 0).astype(np.uint16)
        index = ndimage.distance_transform_edt(~before, return_distances=False, return_indices=True)
        nearest = ids[tuple(index)]
        return [(number, new & (nearest == number)) for number in label.ids]
