"""A binary mask from whatever comes in: a mask passes through, a CT is thresholded."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any, Literal

import numpy as np
import torch
from monai.config import KeysCollection
from monai.config.type_definitions import NdarrayOrTensor
from monai.data import MetaTensor
from monai.transforms import MapTransform, Transform
from monai.utils import TransformBackends, convert_to_dst_type
from scipy import ndimage

from monai_sparse_refine.errors import InputError
from monai_sparse_refine.transforms.head import skull_part
from monai_sparse_refine.volume import as_volume, bounding_box, case_name, volume_kind

__all__ = ["ToBinaryMask", "ToBinaryMaskD", "ToBinaryMaskDict", "ToBinaryMaskd", "largest_component"]


def largest_component(mask: np.ndarray) -> np.ndarray:
    """The largest part of a mask whose voxels hang together by their faces.

    Args:
        mask: boolean array [X, Y, Z].

    Returns:
        Boolean array of the same shape; of equally large parts the first in memory order. Empty in, empty
        out.
    """
    box = bounding_box(mask)
    kept = np.zeros_like(mask)
    if box is None:
        return kept
    labels, count = ndimage.label(mask[box])
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    sizes[0] = 0
    kept[box] = labels == int(sizes.argmax())
    return kept


class ToBinaryMask(Transform):
    """Turn a binary mask or a CT of one case into a uint8 mask of 0 and 1 on the same grid.

    A volume of only 0 and 1 is a mask and passes through voxel for voxel. One with values below 0 or above 255 is a
    CT: bone is what lies above the threshold, and its largest face-connected part is kept, so that the headrest, wires
    and speckle go; in a CT that knows its affine the largest that has a cranial vault, if one has, for a table may be
    larger than the skull. Anything else (a label map, a probability map) is refused.

    Args:
        hu_threshold: HU above which a voxel of a CT is bone.
        largest_component: `"ct"` keeps the largest part of a thresholded CT only; True of a mask too; False
            never.

    Raises:
        InputError: when called, for a volume that is neither; see `monai_sparse_refine.volume.volume_kind`.
    """

    backend = [TransformBackends.NUMPY]

    def __init__(
        self, *, hu_threshold: float = 300.0, largest_component: bool | Literal["ct"] = "ct"
    ) -> None:
        if largest_component not in (True, False, "ct"):
            raise InputError(f"largest_component is {largest_component!r}; expected True, False or 'ct'")
        self.hu_threshold = float(hu_threshold)
        self.largest_component = largest_component

    def __call__(self, img: NdarrayOrTensor) -> NdarrayOrTensor:
        """Apply to an array, tensor or MetaTensor, [1, X, Y, Z] or [X, Y, Z]; container and shape stay."""
        name = _name(img)
        volume = as_volume(img, name=name)
        kind = volume_kind(volume, hu_threshold=self.hu_threshold, name=name)
        mask = volume > self.hu_threshold if kind == "ct" else volume != 0
        if self.largest_component is True or (self.largest_component == "ct" and kind == "ct"):
            skull = None
            if kind == "ct" and isinstance(img, MetaTensor):
                skull = skull_part(mask, img.affine.cpu().numpy().astype(float))
            mask = largest_component(mask) if skull is None else skull
        result = mask.astype(np.uint8).reshape(tuple(img.shape))
        dtype: Any = torch.uint8 if isinstance(img, torch.Tensor) else np.uint8
        return convert_to_dst_type(result, dst=img, dtype=dtype)[0]


class ToBinaryMaskd(MapTransform):
    """Dictionary version of `ToBinaryMask`.

    Args:
        keys: keys of the volumes.
        hu_threshold: HU above which a voxel of a CT is bone.
        largest_component: `"ct"`, True or False, as in `ToBinaryMask`.
        allow_missing_keys: do not raise where a key is missing.
    """

    backend = ToBinaryMask.backend

    def __init__(
        self,
        keys: KeysCollection,
        *,
        hu_threshold: float = 300.0,
        largest_component: bool | Literal["ct"] = "ct",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.transform = ToBinaryMask(hu_threshold=hu_threshold, largest_component=largest_component)

    def __call__(self, data: Mapping[Hashable, NdarrayOrTensor]) -> dict[Hashable, NdarrayOrTensor]:
        """Apply to every key of a dictionary of [1, X, Y, Z] volumes."""
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self.transform(d[key])
        return d


def _name(img: Any) -> str:
    """What to call a volume in an error message: its file where it knows one."""
    file = getattr(img, "meta", {}).get("filename_or_obj")
    return case_name(file) if file else "volume"


ToBinaryMaskD = ToBinaryMaskDict = ToBinaryMaskd
