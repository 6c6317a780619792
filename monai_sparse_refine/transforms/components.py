"""Keep what belongs to an organ: its major components, without holes."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.config.type_definitions import NdarrayOrTensor
from monai.transforms import MapTransform, Transform
from monai.utils import TransformBackends, convert_to_dst_type
from scipy import ndimage

from monai_sparse_refine.errors import InputError
from monai_sparse_refine.volume import as_mask, bounding_box

__all__ = [
    "KeepMajorComponents",
    "KeepMajorComponentsD",
    "KeepMajorComponentsDict",
    "KeepMajorComponentsd",
]

_FULL = np.ones((3, 3, 3), dtype=bool)


class KeepMajorComponents(Transform):
    """Remove the small components of a binary mask and fill its holes.

    A component (voxels that touch, diagonally too) stays where it has at least a fraction of the largest one's
    voxels: in a scan that was cut off, an aorta may well be two pieces. A hole is background that the mask encloses.

    Args:
        fraction: of the largest component's voxels; 1 keeps the largest alone.
        fill_holes: also fill the holes.

    Raises:
        InputError: a fraction that is not from 0 to 1.
    """

    backend = [TransformBackends.NUMPY]

    def __init__(self, *, fraction: float = 0.1, fill_holes: bool = True) -> None:
        if not 0 <= fraction <= 1:
            raise InputError(f"fraction is {fraction}; expected a number from 0 to 1")
        self.fraction = fraction
        self.fill_holes = fill_holes

    def __call__(self, mask: NdarrayOrTensor) -> NdarrayOrTensor:
        """Clean a mask, [1, X, Y, Z]; shape, dtype, container and metadata stay."""
        source = as_mask(mask)
        box = bounding_box(source)
        if box is None:
            return mask
        part = source[box]
        labels, count = ndimage.label(part, _FULL)
        if count > 1:
            sizes = np.bincount(labels.ravel())
            sizes[0] = 0
            part = (sizes >= self.fraction * sizes.max())[labels] & part
        if self.fill_holes:
            part = ndimage.binary_fill_holes(part)
        out = np.zeros_like(source)
        out[box] = part
        return convert_to_dst_type(out.reshape(tuple(mask.shape)), dst=mask, dtype=mask.dtype)[0]


class KeepMajorComponentsd(MapTransform):
    """Dictionary version of :class:`KeepMajorComponents`."""

    backend = KeepMajorComponents.backend

    def __init__(
        self,
        keys: KeysCollection,
        *,
        fraction: float = 0.1,
        fill_holes: bool = True,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.clean = KeepMajorComponents(fraction=fraction, fill_holes=fill_holes)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Clean the [1, X, Y, Z] masks of a dictionary."""
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self.clean(d[key])
        return d


KeepMajorComponentsD = KeepMajorComponentsDict = KeepMajorComponentsd
