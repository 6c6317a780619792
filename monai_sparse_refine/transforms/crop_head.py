"""Leave out what is no head: shoulders and chest of a longer scan, padding above a shorter one, a head holder."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from itertools import product
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import Crop, InvertibleTransform, MapTransform
from monai.utils import TransformBackends

from monai_sparse_refine.errors import InputError
from monai_sparse_refine.transforms.head import without_holder
from monai_sparse_refine.transforms.scan_end import end_of_scan
from monai_sparse_refine.transforms.vault import vault_of
from monai_sparse_refine.volume import as_mask

__all__ = ["CropHeadD", "CropHeadDict", "CropHeadd", "head_box"]

Box = tuple[slice, slice, slice]

# From the middle of the cranial cavity the chin and the tip of the nose are some 150 mm away, the shoulders 200.
REACH_MM = 160.0


def head_box(bone: np.ndarray, affine: np.ndarray, *, reach_mm: float = REACH_MM) -> Box | None:
    """The part of a volume that lies within a cube around the middle of the cranial cavity.

    Where a scan cut off below the vertex was padded above, it ends with the scan (see :func:`end_of_scan`).

    Args:
        bone: bool [X, Y, Z].
        affine: voxel to world mm, RAS (4, 4).
        reach_mm: half the side of the cube, which stands along the world's axes.

    Returns:
        Three slices; None where no vault is found.
    """
    try:
        centre = vault_of(bone, affine).centre
    except InputError:
        return None
    corners = centre + reach_mm * np.array(list(product((-1, 1), repeat=3)))  # (8, 3) world mm
    index = np.linalg.solve(affine[:3, :3], (corners - affine[:3, 3]).T).T
    low = np.clip(np.floor(index.min(axis=0)), 0, bone.shape).astype(int)
    high = np.clip(np.ceil(index.max(axis=0)) + 1, 0, bone.shape).astype(int)
    up = int(np.argmax(np.abs(affine[2, :3])))
    upward = affine[2, up] > 0
    slices = np.moveaxis(bone, up, 2)
    slices = slices if upward else slices[:, :, ::-1]
    end = end_of_scan(slices, float(np.linalg.norm(affine[:3, up])))
    if upward:
        high[up] = min(high[up], end)
    else:
        low[up] = max(low[up], bone.shape[up] - end)
    return (slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2]))


class CropHeadd(MapTransform, InvertibleTransform):
    """Crop skulls to their heads (see :func:`head_box`); the inverse puts zeros around.

    Within that box a head holder becomes background (see :func:`without_holder`), for good: the inverse does not bring
    it back. A head scan of the usual field of view stays as it is, and so does a volume without a vault.

    Args:
        keys: skulls [1, X, Y, Z], with their affine; each is cropped by its own bone.
        reach_mm: half the side of the cube that is kept.
        allow_missing_keys: do not raise where a key is missing.
    """

    backend = [TransformBackends.TORCH]

    def __init__(
        self, keys: KeysCollection, *, reach_mm: float = REACH_MM, allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.reach_mm = reach_mm
        self.crop = Crop()

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Crop every key."""
        out = dict(data)
        for key in self.key_iterator(out):
            skull: MetaTensor = out[key]
            bone, affine = as_mask(skull), skull.affine.cpu().numpy().astype(float)
            head = without_holder(bone, affine)
            box = head_box(head, affine, reach_mm=self.reach_mm)
            everything = tuple(slice(0, int(size)) for size in skull.shape[1:])
            cropped = self.crop(skull, slices=everything if box is None else box)
            if head is not bone:
                away = np.ascontiguousarray((bone & ~head)[box or everything])
                cropped = cropped.masked_fill(torch.from_numpy(away[None]).to(cropped.device), 0)
            out[key] = cropped
        return out

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Put zeros where something was cropped."""
        out = dict(data)
        for key in self.key_iterator(out):
            out[key] = self.crop.inverse(out[key])
        return out


CropHeadD = CropHeadDict = CropHeadd
