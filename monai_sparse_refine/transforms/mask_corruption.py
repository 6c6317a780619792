"""Corrupt a good mask the way segmentation networks do, to train a refiner that repairs it."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.config.type_definitions import NdarrayOrTensor
from monai.transforms import MapTransform, RandomizableTransform
from monai.utils import TransformBackends, convert_to_dst_type

from monai_sparse_refine.errors import InputError
from monai_sparse_refine.transforms.mask_damage import DAMAGE
from monai_sparse_refine.volume import as_mask, bounding_box, spacing_of

__all__ = [
    "CORRUPTION_KINDS",
    "RandMaskCorruption",
    "RandMaskCorruptionD",
    "RandMaskCorruptionDict",
    "RandMaskCorruptiond",
]

CORRUPTION_KINDS = tuple(DAMAGE)
_REACH_MM = 40.0  # nothing that is added lies farther from the mask


class RandMaskCorruption(RandomizableTransform):
    """Give a binary mask one or several faults of a segmentation network, at random, with sizes in mm.

    Faults, drawn without repetition and applied one after the other: "holes", "missing_slices", "missing_end",
    "blobs" beside the mask, "leaks" and "stumps" out of it, a "prolonged_end", stair "steps" of a coarse working grid,
    "erosion", "dilation", "lost_component"; their sizes are in the docstrings of ``mask_damage``. A mask is never
    emptied: a fault that would is left out. An empty mask stays empty.

    Args:
        prob: probability of corrupting at all.
        kinds: which faults, of `CORRUPTION_KINDS`.
        count: fewest and most faults of one mask.
        spacing: mm, for masks that carry no affine; see `monai_sparse_refine.volume.spacing_of`.

    Raises:
        InputError: an unknown fault, an impossible count; when called, a spacing that is not known.
    """

    backend = [TransformBackends.NUMPY]

    def __init__(
        self,
        *,
        prob: float = 1.0,
        kinds: Sequence[str] = CORRUPTION_KINDS,
        count: tuple[int, int] = (1, 3),
        spacing: float | Sequence[float] | None = None,
    ) -> None:
        RandomizableTransform.__init__(self, prob)
        unknown = [kind for kind in kinds if kind not in DAMAGE]
        if unknown or not kinds:
            raise InputError(
                f"kinds has {unknown or 'nothing'}; expected some of {', '.join(CORRUPTION_KINDS)}"
            )
        low, high = count
        if not 1 <= low <= high:
            raise InputError(
                f"count is {tuple(count)}; expected two numbers, 1 or more, the smaller one first"
            )
        self.kinds = tuple(kinds)
        self.count = (int(low), int(high))
        self.spacing = spacing
        self.chosen: tuple[str, ...] = ()
        self.seed = 0

    def set_random_state(
        self, seed: int | None = None, state: np.random.RandomState | None = None
    ) -> RandMaskCorruption:
        """Seed the draws."""
        super().set_random_state(seed, state)
        return self

    def randomize(self, data: Any = None) -> None:
        """Draw the faults and the seed of their sizes and places."""
        super().randomize(None)
        if not self._do_transform:
            return
        number = min(self.R.randint(self.count[0], self.count[1] + 1), len(self.kinds))
        self.chosen = tuple(str(kind) for kind in self.R.choice(self.kinds, number, replace=False))
        self.seed = int(self.R.randint(2**31))

    def __call__(self, mask: NdarrayOrTensor, randomize: bool = True) -> NdarrayOrTensor:
        """Corrupt a [1, X, Y, Z] mask; shape, dtype, container and metadata stay."""
        if randomize:
            self.randomize()
        if not self._do_transform:
            return mask
        source = as_mask(mask)
        mm = np.asarray(spacing_of(mask, spacing=self.spacing))
        box = bounding_box(source, margin=[int(_REACH_MM / step) + 1 for step in mm])
        if box is None:
            return mask
        part = source[box]
        random = np.random.RandomState(self.seed)
        for kind in self.chosen:
            damaged = DAMAGE[kind](part, mm, random)
            part = damaged if damaged.any() else part
        out = source.copy()
        out[box] = part
        return convert_to_dst_type(out.reshape(tuple(mask.shape)), dst=mask, dtype=mask.dtype)[0]


class RandMaskCorruptiond(MapTransform, RandomizableTransform):
    """Dictionary version of :class:`RandMaskCorruption`: the same faults, sizes and seed for every key."""

    backend = RandMaskCorruption.backend

    def __init__(
        self,
        keys: KeysCollection,
        *,
        prob: float = 1.0,
        kinds: Sequence[str] = CORRUPTION_KINDS,
        count: tuple[int, int] = (1, 3),
        spacing: float | Sequence[float] | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, 1.0)
        self.corrupt = RandMaskCorruption(prob=prob, kinds=kinds, count=count, spacing=spacing)

    def set_random_state(
        self, seed: int | None = None, state: np.random.RandomState | None = None
    ) -> RandMaskCorruptiond:
        self.corrupt.set_random_state(seed, state)
        super().set_random_state(seed, state)
        return self

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Corrupt the [1, X, Y, Z] masks of a dictionary."""
        d = dict(data)
        self.corrupt.randomize()
        for key in self.key_iterator(d):
            d[key] = self.corrupt(d[key], randomize=False)
        return d


RandMaskCorruptionD = RandMaskCorruptionDict = RandMaskCorruptiond
