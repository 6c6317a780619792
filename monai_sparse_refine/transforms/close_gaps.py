"""Fill what is left open between an implant and the bone on grids finer than the network's own."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.config.type_definitions import NdarrayOrTensor
from monai.transforms import MapTransform, Transform
from monai.utils import TransformBackends, convert_to_dst_type

from monai_sparse_refine.errors import InputError
from monai_sparse_refine.transforms.ball_closing import closed_by_ball, joined_to, near_both
from monai_sparse_refine.volume import as_mask, check_same_shape, spacing_of

__all__ = ["CloseGaps", "CloseGapsD", "CloseGapsDict", "CloseGapsd"]


class CloseGaps(Transform):
    """Close an implant and the bone around it by a ball, where both are near.

    A network's probability, interpolated to voxels finer than its own, rounds the rim of an implant: a corner of the
    cut stays open, or the implant meets the bone with a step. Morphological closing fills such corners and slits.
    What closing the bone alone would fill, as a sinus or a suture, stays as it is; so does a hollow of the implant.

    Args:
        radius_mm: radius of the ball; slits up to twice as wide are filled. 0 switches this off.
        below_mm: only on grids whose voxels have a side shorter than this. On the network's own grid, and near it,
            there is nothing to mend.

    Raises:
        InputError: a negative number.
    """

    backend = [TransformBackends.NUMPY]

    def __init__(self, *, radius_mm: float = 3.0, below_mm: float = 1.25) -> None:
        for name, value in (("radius_mm", radius_mm), ("below_mm", below_mm)):
            if not value >= 0:
                raise InputError(f"{name} is {value}; expected mm, 0 (off) or more")
        self.radius_mm = radius_mm
        self.below_mm = below_mm

    def __call__(self, implant: NdarrayOrTensor, defective: NdarrayOrTensor) -> NdarrayOrTensor:  # type: ignore[override]
        """Close.

        Args:
            implant: mask [1, X, Y, Z] or [X, Y, Z], with its affine here or at ``defective``.
            defective: mask of the same spatial shape.

        Returns:
            uint8 mask in the container and shape of ``implant``: that and what was filled. It never overlaps the bone.

        Raises:
            InputError: shapes that differ, or an unknown spacing.
        """
        part, bone = as_mask(implant, name="implant"), as_mask(defective, name="defective")
        check_same_shape(implant=part, defective=bone)
        mm = np.asarray(spacing_of(implant, defective), dtype=float)
        if self.radius_mm > 0 and mm.min() < self.below_mm:
            part = part | _gaps(part, bone, mm, self.radius_mm)
        whole = torch.from_numpy(part.astype(np.uint8)).reshape(tuple(implant.shape))
        return convert_to_dst_type(whole, dst=implant, dtype=torch.uint8)[0]


class CloseGapsd(MapTransform):
    """Dictionary version of `CloseGaps`: changes the implants at ``keys``.

    Args:
        keys: keys of the implants.
        defective_key: key of the defective mask.
        radius_mm, below_mm: as in `CloseGaps`.
        allow_missing_keys: do not raise where a key is missing.
    """

    backend = CloseGaps.backend

    def __init__(
        self,
        keys: KeysCollection,
        defective_key: Hashable = "image",
        *,
        radius_mm: float = 3.0,
        below_mm: float = 1.25,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.defective_key = defective_key
        self.close = CloseGaps(radius_mm=radius_mm, below_mm=below_mm)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        out = dict(data)
        for key in self.key_iterator(out):
            out[key] = self.close(out[key], out[self.defective_key])
        return out


CloseGapsD = CloseGapsDict = CloseGapsd


def _gaps(implant: np.ndarray, bone: np.ndarray, mm: np.ndarray, radius: float) -> np.ndarray:
    """What closing both by a ball fills, and closing the bone alone would not: boolean array [X, Y, Z]."""
    points = near_both(implant, bone, mm=mm, radius=radius)
    added = np.zeros_like(implant)
    added[tuple(points[closed_by_ball(points, implant, bone, mm=mm, radius=radius)].T)] = True
    return joined_to(implant, added)
