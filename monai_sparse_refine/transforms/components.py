"""Keep what belongs to an organ: its major components, without holes."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.config.type_definitions import NdarrayOrTensor
from monai.transforms import MapTransform, Transform
from monai.utils import TransformBackends, convert_to_dst_type
from scipy import ndimage
from scipy.spatial import cKDTree

from monai_sparse_refine.errors import InputError
from monai_sparse_refine.volume import as_mask, bounding_box, spacing_of

__all__ = [
    "KeepMajorComponents",
    "KeepMajorComponentsD",
    "KeepMajorComponentsDict",
    "KeepMajorComponentsd",
]

_FULL = np.ones((3, 3, 3), dtype=bool)
# Of a component; pieces of the liver on the hearts of rendered CTs had a tenth.
_MOST_THAT_HANGS = 0.15


class KeepMajorComponents(Transform):
    """Remove the small components of a binary mask and fill its holes.

    A component (voxels that touch, diagonally too) stays where it has at least a fraction of the largest one's
    voxels: in a scan that was cut off, an aorta may well be two pieces. With ``near_mm`` it also has to lie no farther
    than that from the largest, or from another that stays: a broken esophagus stays whole, a piece of the liver that
    was taken for heart goes, however large. With ``neck_mm`` such a piece also goes where it hangs on the organ by a
    neck thinner than that: of each component the places are sought where a ball of that diameter fits, and what lies
    nearer to other such places than to the largest group of them does not belong. If that is more than 15 % of the
    component it stays: then it is rather the organ that has been torn. A hole is background that the mask encloses.

    Args:
        fraction: of the largest component's voxels; 1 keeps the largest alone.
        near_mm: largest gap, mm; None allows any.
        neck_mm: thinnest neck that holds, mm; None for any.
        fill_holes: also fill the holes.
        spacing: mm, for masks that carry no affine; needed for ``near_mm`` and ``neck_mm`` alone.

    Raises:
        InputError: a fraction that is not from 0 to 1, a gap below 0, a neck that is not above 0; when called, a
            spacing that is not known.
    """

    backend = [TransformBackends.NUMPY]

    def __init__(
        self,
        *,
        fraction: float = 0.1,
        near_mm: float | None = None,
        neck_mm: float | None = None,
        fill_holes: bool = True,
        spacing: float | Sequence[float] | None = None,
    ) -> None:
        if not 0 <= fraction <= 1:
            raise InputError(f"fraction is {fraction}; expected a number from 0 to 1")
        if near_mm is not None and not near_mm >= 0:
            raise InputError(f"near_mm is {near_mm}; expected 0 mm or more, or None for any distance")
        if neck_mm is not None and not neck_mm > 0:
            raise InputError(f"neck_mm is {neck_mm}; expected more than 0 mm, or None for any neck")
        self.fraction = fraction
        self.near_mm = near_mm
        self.neck_mm = neck_mm
        self.fill_holes = fill_holes
        self.spacing = spacing

    def __call__(self, mask: NdarrayOrTensor) -> NdarrayOrTensor:
        """Clean a mask, [1, X, Y, Z]; shape, dtype, container and metadata stay."""
        source = as_mask(mask)
        box = bounding_box(source)
        if box is None:
            return mask
        part = source[box]
        if self.neck_mm is not None:
            mm = np.asarray(spacing_of(mask, spacing=self.spacing))
            part = _without_what_hangs_on(part, mm, self.neck_mm)
        labels, count = ndimage.label(part, _FULL)
        if count > 1:
            sizes = np.bincount(labels.ravel())
            sizes[0] = 0
            stays = sizes >= max(1, self.fraction * sizes.max())
            if self.near_mm is not None and np.count_nonzero(stays) > 1:
                mm = np.asarray(spacing_of(mask, spacing=self.spacing))
                stays = _near(labels, sizes, stays, mm, self.near_mm)
            part = stays[labels]
        if self.fill_holes:
            part = _without_holes(part)
        out = np.zeros_like(source)
        out[box] = part
        return convert_to_dst_type(out.reshape(tuple(mask.shape)), dst=mask, dtype=mask.dtype)[0]


def _without_what_hangs_on(mask: np.ndarray, mm: np.ndarray, neck_mm: float) -> np.ndarray:
    """Every component without the parts that only a neck thinner than ``neck_mm`` holds."""
    # A sixth of a neck is fine enough to look at it, and much faster than every voxel.
    step = np.maximum(1, np.floor(neck_mm / 6 / mm)).astype(int)
    thin = tuple(slice(None, None, int(n)) for n in step)
    # Holes would make necks of the walls around them. What is beyond the box is background.
    solid = np.pad(_without_holes(mask)[thin], 1)
    depth = ndimage.distance_transform_edt(solid, sampling=mm * step)[1:-1, 1:-1, 1:-1]
    cores, count = ndimage.label(depth > neck_mm / 2, _FULL)
    if count < 2:
        return mask
    labels = ndimage.label(mask, _FULL)[0][thin]
    sizes = np.bincount(cores.ravel())
    hangs = np.zeros(labels.shape, dtype=bool)
    for component in np.unique(labels[labels > 0]):
        mine = labels == component
        own = np.unique(cores[mine & (cores > 0)])
        if len(own) < 2:
            continue
        largest = own[sizes[own].argmax()]
        to_largest, to_others = (
            ndimage.distance_transform_edt(~np.isin(cores, group), sampling=mm * step)
            for group in ([largest], own[own != largest])
        )
        loose = mine & (to_others < to_largest)
        if np.count_nonzero(loose) <= _MOST_THAT_HANGS * np.count_nonzero(mine):
            hangs |= loose
    for axis, n in enumerate(step):
        hangs = np.repeat(hangs, n, axis=axis)
    return mask & ~hangs[tuple(slice(n) for n in mask.shape)]


def _near(
    labels: np.ndarray, sizes: np.ndarray, candidates: np.ndarray, mm: np.ndarray, reach: float
) -> np.ndarray:
    """Which components stay: the largest, and of the candidates what is within reach of one that stays."""
    trees: dict[int, Any] = {
        int(number): cKDTree(_border(labels == number) * mm) for number in np.flatnonzero(candidates)
    }
    kept = {int(sizes.argmax())}
    fresh = kept
    while fresh:
        waiting = trees.keys() - kept
        fresh = {one for one in waiting if any(_touch(trees[one], trees[other], reach) for other in fresh)}
        kept = kept | fresh
    stays = np.zeros_like(candidates)
    stays[list(kept)] = True
    return stays


def _touch(one: Any, other: Any, reach: float) -> bool:
    """Whether two clouds of points have a pair within reach; just within is not lost to rounding."""
    distances, _ = one.query(other.data, distance_upper_bound=reach * (1 + 1e-9) + 1e-9)
    return bool(np.isfinite(distances).any())


def _border(component: np.ndarray) -> np.ndarray:
    """Voxels of a component that have a neighbour outside it, (N, 3)."""
    box = bounding_box(component)
    assert box is not None
    part = component[box]
    inner = ndimage.binary_erosion(part)
    return np.argwhere(part & ~inner) + [side.start for side in box]


def _without_holes(mask: np.ndarray) -> np.ndarray:
    """Fill background that touches, face to face, no outer side of the box; much faster than flooding by dilation."""
    background, _ = ndimage.label(np.pad(~mask, 1, constant_values=True))
    return np.asarray((background != background[0, 0, 0])[1:-1, 1:-1, 1:-1])


class KeepMajorComponentsd(MapTransform):
    """Dictionary version of :class:`KeepMajorComponents`."""

    backend = KeepMajorComponents.backend

    def __init__(
        self,
        keys: KeysCollection,
        *,
        fraction: float = 0.1,
        near_mm: float | None = None,
        neck_mm: float | None = None,
        fill_holes: bool = True,
        spacing: float | Sequence[float] | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.clean = KeepMajorComponents(
            fraction=fraction, near_mm=near_mm, neck_mm=neck_mm, fill_holes=fill_holes, spacing=spacing
        )

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Clean the [1, X, Y, Z] masks of a dictionary."""
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self.clean(d[key])
        return d


KeepMajorComponentsD = KeepMajorComponentsDict = KeepMajorComponentsd
