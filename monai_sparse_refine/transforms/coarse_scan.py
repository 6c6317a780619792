"""A fine mask as a scan with larger voxels would have given it."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.data.utils import affine_to_spacing
from monai.transforms import MapTransform, RandomizableTransform
from monai.utils import TransformBackends
from torch import Tensor

from monai_sparse_refine.errors import InputError
from monai_sparse_refine.transforms.resample import box_affine, resample_to_shape
from monai_sparse_refine.volume import as_tensor


class RandCoarseScan(RandomizableTransform):
    """Bring a mask to a random coarser grid over the same box, so that a network meets scans of every spacing.

    A voxel is foreground where the drawn fraction of it is (partial volume: a threshold on CT keeps more or less
    of thin bone, depending on its density). An axis is never made finer.

    Args:
        prob: probability of doing so at all.
        in_plane_mm: range of the voxel size along the first two axes, in mm.
        slice_mm: range along the third.
        fraction: range of the fraction.

    Raises:
        InputError: for a range that is not (smallest, largest), positive.
    """

    backend = [TransformBackends.TORCH]

    def __init__(
        self,
        *,
        prob: float = 0.5,
        in_plane_mm: Sequence[float] = (1.5, 4.5),
        slice_mm: Sequence[float] = (1.5, 4.0),
        fraction: Sequence[float] = (0.35, 0.5),
    ) -> None:
        RandomizableTransform.__init__(self, prob)
        for name, value in (("in_plane_mm", in_plane_mm), ("slice_mm", slice_mm), ("fraction", fraction)):
            if len(value) != 2 or not 0 < value[0] <= value[1]:
                raise InputError(f"{name} is {value}; expected (smallest, largest), both positive")
        self.in_plane_mm = (float(in_plane_mm[0]), float(in_plane_mm[1]))
        self.slice_mm = (float(slice_mm[0]), float(slice_mm[1]))
        self.fraction = (float(fraction[0]), float(fraction[1]))
        self.spacing = (0.0, 0.0, 0.0)
        self.threshold = 0.5

    def set_random_state(
        self, seed: int | None = None, state: np.random.RandomState | None = None
    ) -> RandCoarseScan:
        """Seed the draws."""
        super().set_random_state(seed, state)
        return self

    def randomize(self, data: Any = None) -> None:
        """Draw the grid and the fraction."""
        super().randomize(None)
        if self._do_transform:
            in_plane = float(self.R.uniform(*self.in_plane_mm))
            self.spacing = (in_plane, in_plane, float(self.R.uniform(*self.slice_mm)))
            self.threshold = float(self.R.uniform(*self.fraction))

    def __call__(self, mask: Tensor, randomize: bool = True) -> Tensor:
        """Coarsen a [C, X, Y, Z] mask; the affine follows (a plain tensor counts as 1 mm)."""
        if randomize:
            self.randomize()
        if not self._do_transform:
            return mask
        source = mask if isinstance(mask, MetaTensor) else MetaTensor(as_tensor(mask))
        shape = tuple(source.shape[1:])
        spacing = affine_to_spacing(source.affine, r=3).tolist()
        coarser = tuple(
            min(n, max(1, round(n * mm / new)))
            for n, mm, new in zip(shape, spacing, self.spacing, strict=True)
        )
        values = resample_to_shape(source.as_tensor(), coarser) >= self.threshold
        out = MetaTensor(values.to(source.dtype), meta=dict(source.meta))
        out.affine = box_affine(source.affine, shape, coarser)
        return out


class RandCoarseScand(MapTransform, RandomizableTransform):
    """Dictionary version of :class:`RandCoarseScan`: the same grid for every key."""

    backend = RandCoarseScan.backend

    def __init__(
        self,
        keys: KeysCollection,
        *,
        prob: float = 0.5,
        in_plane_mm: Sequence[float] = (1.5, 4.5),
        slice_mm: Sequence[float] = (1.5, 4.0),
        fraction: Sequence[float] = (0.35, 0.5),
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, 1.0)
        self.scan = RandCoarseScan(prob=prob, in_plane_mm=in_plane_mm, slice_mm=slice_mm, fraction=fraction)

    def set_random_state(
        self, seed: int | None = None, state: np.random.RandomState | None = None
    ) -> RandCoarseScand:
        self.scan.set_random_state(seed, state)
        super().set_random_state(seed, state)
        return self

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        out = dict(data)
        self.scan.randomize()
        for key in self.key_iterator(out):
            out[key] = self.scan(out[key], randomize=False)
        return out


RandCoarseScanD = RandCoarseScanDict = RandCoarseScand
