"""Crop training volumes to the surroundings of their hole."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from monai.config import KeysCollection
from monai.transforms import MapTransform, RandomizableTransform, SpatialCrop
from monai.utils import TransformBackends
from torch import Tensor

from monai_sparse_refine.errors import InputError
from monai_sparse_refine.volume import as_tensor


class RandCropHoled(RandomizableTransform, MapTransform):
    """Crop to the box of what a complete mask has and a defective one has not, with a random margin.

    A network that sees mirror image and interpolated surface needs no more than a hole's surroundings, and a crop
    costs a fraction of a whole skull. Some items stay whole, so that it also learns what is no hole.

    Args:
        keys: volumes [C, X, Y, Z] of one grid to crop.
        complete_key, defective_key: masks or fractions that differ in the hole; the first channel counts.
        margin: range of the margin in voxels, drawn for each side.
        prob: how likely an item is cropped. One without a hole never is.

    Raises:
        InputError: for a margin that is not (smallest, largest).
    """

    backend = [TransformBackends.TORCH]

    def __init__(
        self,
        keys: KeysCollection,
        *,
        complete_key: str = "label",
        defective_key: str = "image",
        margin: Sequence[int] = (8, 24),
        prob: float = 0.85,
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, prob)
        if len(margin) != 2 or not 0 <= margin[0] <= margin[1]:
            raise InputError(f"margin is {margin}; expected (smallest, largest) in voxels")
        self.margin = (int(margin[0]), int(margin[1]))
        self.complete_key = complete_key
        self.defective_key = defective_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        out = dict(data)
        self.randomize(None)
        margins = self.R.randint(self.margin[0], self.margin[1] + 1, size=(3, 2))
        missing = (_plain(out[self.complete_key])[0] - _plain(out[self.defective_key])[0]) > 0.5
        if not self._do_transform or not bool(missing.any()):
            return out
        box = []
        for axis, n in enumerate(missing.shape):
            hit = missing.any(dim=tuple(a for a in range(3) if a != axis)).nonzero()
            low, high = int(hit[0]) - int(margins[axis, 0]), int(hit[-1]) + 1 + int(margins[axis, 1])
            box.append(slice(max(0, low), min(n, high)))
        crop = SpatialCrop(roi_slices=box)
        for key in self.key_iterator(out):
            out[key] = crop(out[key])
        return out


def _plain(volume: Any) -> Tensor:
    return as_tensor(volume).float()


RandCropHoleD = RandCropHoleDict = RandCropHoled
