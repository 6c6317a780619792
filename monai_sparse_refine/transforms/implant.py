"""The implant: what a completed skull has and the defective one has not, without the noise along the bone."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from monai.config import KeysCollection
from monai.config.type_definitions import NdarrayOrTensor
from monai.data import MetaTensor
from monai.transforms import MapTransform, Transform
from monai.utils import TransformBackends, convert_to_dst_type

from monai_sparse_refine.errors import InputError
from monai_sparse_refine.transforms.head import cranial_middle
from monai_sparse_refine.transforms.implant_cleaning import clean_implant
from monai_sparse_refine.volume import as_mask, check_same_shape, spacing_of

__all__ = [
    "CompleteMask",
    "CompleteMaskD",
    "CompleteMaskDict",
    "CompleteMaskd",
    "ExtractImplant",
    "ExtractImplantD",
    "ExtractImplantDict",
    "ExtractImplantd",
]


class _Asked(NamedTuple):
    """All that an implant depends on but the options: spacing, affines, shape, and both masks, packed."""

    mm: tuple[float, float, float]
    affines: list[bytes]
    shape: tuple[int, ...]
    difference: bytes
    defective: bytes


class ExtractImplant(Transform):
    """Implant of one case: completed minus defective, cleaned of the noise along the bone.

    The result is a subset of the plain difference, so it never overlaps the defective skull, and it touches
    the bone where the completion does. How it is cleaned, and what the numbers mean, is told at
    `clean_implant`; `core_mm=0, min_volume_ml=0, min_relative_volume=0` gives the plain difference.

    Cleaning takes seconds on a large scan. Steps that each have to know the implant, most of which change nothing, may
    share one object: it remembers its last answer, and gives it again where it is asked for the same masks.

    Args:
        core_mm: an implant has voxels at least this far from all bone; 0 switches this off.
        lip_mm: how far noise at the rim may reach over the bone.
        min_volume_ml: smallest part that counts.
        min_relative_volume: smallest part that counts, as a fraction of the largest.
        reach_mm: how far from the rest of an implant a burr hole or slit may reach; 0 switches this off.
        film_mm: how far its thin edge may reach over bone that was cut aslant; 0 switches this off.
        corner_voxels: how far it may reach into the angle between the rest and the bone; 0 switches this off.
        spacing: mm, where the masks carry no affine. Without one, or without a vault, a filling that is told by its
            going through the wall, and a film by the bone below it, are not looked for (steps 3 and 4 of
            `clean_implant`).
    """

    backend = [TransformBackends.NUMPY]

    def __init__(
        self,
        *,
        core_mm: float = 3.0,
        lip_mm: float = 1.5,
        min_volume_ml: float = 0.2,
        min_relative_volume: float = 0.1,
        reach_mm: float = 20.0,
        film_mm: float = 4.0,
        corner_voxels: int = 2,
        spacing: float | Sequence[float] | None = None,
    ) -> None:
        options = {
            "core_mm": core_mm,
            "lip_mm": lip_mm,
            "min_volume_ml": min_volume_ml,
            "min_relative_volume": min_relative_volume,
            "reach_mm": reach_mm,
            "film_mm": film_mm,
        }
        for name, value in {**options, "corner_voxels": corner_voxels}.items():
            if not value >= 0:
                raise InputError(f"{name} is {value}; expected 0 (off) or more")
        self.options = options
        self.corner_voxels = corner_voxels
        self.spacing = spacing
        self._last: tuple[_Asked, np.ndarray] | None = None  # and the implant's voxels, packed

    def __call__(  # type: ignore[override]  # a transform of two masks
        self, completed: NdarrayOrTensor, defective: NdarrayOrTensor
    ) -> NdarrayOrTensor:
        """Extract the implant.

        Args:
            completed: mask [1, X, Y, Z] or [X, Y, Z].
            defective: mask of the same spatial shape.

        Returns:
            uint8 mask in the container and shape of `completed`.

        Raises:
            InputError: shapes that differ, or an unknown spacing where one is needed.
        """
        whole, bone = as_mask(completed, name="completed"), as_mask(defective, name="defective")
        check_same_shape(completed=whole, defective=bone)
        implant = whole & ~bone
        if any(self.options[name] > 0 for name in ("core_mm", "min_volume_ml", "min_relative_volume")):
            mm = spacing_of(completed, defective, spacing=self.spacing)
            affines = [
                np.asarray(volume.affine.cpu()).tobytes()
                for volume in (completed, defective)
                if isinstance(volume, MetaTensor)
            ]
            asked = _Asked(
                mm, affines, implant.shape, np.packbits(implant).tobytes(), np.packbits(bone).tobytes()
            )
            if self._last is None or self._last[0] != asked:
                middle = cranial_middle(bone, completed, defective) if implant.any() else None
                implant = clean_implant(
                    implant, bone, spacing=mm, middle=middle, corner_voxels=self.corner_voxels, **self.options
                )
                self._last = (asked, np.packbits(implant))
            else:
                implant = _unpacked(self._last[1], implant.shape)
        return _like(implant, completed)


class ExtractImplantd(MapTransform):
    """Dictionary version of `ExtractImplant`: reads the completed masks at `keys`, writes their implants.

    Args:
        keys: keys of the completed masks.
        defective_key: key of the defective mask.
        implant_key: key (or one for each of `keys`) to write to.
        extract: how; as :class:`ExtractImplant` does by default.
        allow_missing_keys: do not raise where a key is missing.
    """

    backend = ExtractImplant.backend

    def __init__(
        self,
        keys: KeysCollection,
        defective_key: Hashable = "image",
        implant_key: KeysCollection = "implant",
        *,
        extract: ExtractImplant | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.defective_key = defective_key
        self.implant_keys = _one_each(self.keys, implant_key, "implant_key")
        self.transform = ExtractImplant() if extract is None else extract

    def __call__(self, data: Mapping[Hashable, NdarrayOrTensor]) -> dict[Hashable, NdarrayOrTensor]:
        """Apply to a dictionary of [1, X, Y, Z] masks."""
        d = dict(data)
        for key, implant_key in self.key_iterator(d, self.implant_keys):
            d[implant_key] = self.transform(d[key], d[self.defective_key])
        return d


class CompleteMask(Transform):
    """Completed skull: defective or implant, so that every input voxel stays."""

    backend = [TransformBackends.NUMPY]

    def __call__(  # type: ignore[override]  # a transform of two masks
        self, defective: NdarrayOrTensor, implant: NdarrayOrTensor
    ) -> NdarrayOrTensor:
        """Join the two.

        Args:
            defective: mask [1, X, Y, Z] or [X, Y, Z].
            implant: mask of the same spatial shape.

        Returns:
            uint8 mask in the container and shape of `defective`.

        Raises:
            InputError: shapes that differ.
        """
        bone, plug = as_mask(defective, name="defective"), as_mask(implant, name="implant")
        check_same_shape(defective=bone, implant=plug)
        return _like(bone | plug, defective)


class CompleteMaskd(MapTransform):
    """Dictionary version of `CompleteMask`: writes defective or implant to `keys`.

    Args:
        keys: keys to write the completed masks to (there or not yet).
        defective_key: key of the defective mask.
        implant_key: key (or one for each of `keys`) of the implant.
        allow_missing_keys: skip a completion whose implant is missing.
    """

    backend = CompleteMask.backend

    def __init__(
        self,
        keys: KeysCollection,
        defective_key: Hashable = "image",
        implant_key: KeysCollection = "implant",
        *,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.defective_key = defective_key
        self.implant_keys = _one_each(self.keys, implant_key, "implant_key")
        self.transform = CompleteMask()

    def __call__(self, data: Mapping[Hashable, NdarrayOrTensor]) -> dict[Hashable, NdarrayOrTensor]:
        """Apply to a dictionary of [1, X, Y, Z] masks."""
        d = dict(data)
        for key, implant_key in zip(self.keys, self.implant_keys, strict=True):
            if implant_key not in d and self.allow_missing_keys:
                continue
            d[key] = self.transform(d[self.defective_key], d[implant_key])
        return d


def _like(mask: np.ndarray, reference: NdarrayOrTensor) -> NdarrayOrTensor:
    """A boolean array [X, Y, Z] as uint8 in the container, shape and metadata of another mask."""
    dtype: Any = torch.uint8 if isinstance(reference, torch.Tensor) else np.uint8
    result = mask.astype(np.uint8).reshape(tuple(reference.shape))
    return convert_to_dst_type(result, dst=reference, dtype=dtype)[0]


def _unpacked(bits: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """The bool array of such a shape that `numpy.packbits` packed."""
    return np.unpackbits(bits, count=int(np.prod(shape))).view(bool).reshape(shape)


def _one_each(keys: Sequence[Hashable], others: KeysCollection, name: str) -> tuple[Hashable, ...]:
    """One partner for every key, all of them different."""
    partners = tuple(others) if isinstance(others, (list, tuple)) else (others,)
    if len(partners) != len(keys) or len(set(partners)) != len(partners):
        raise InputError(
            f"{name} is {others!r}; expected {len(keys)} different keys, one for each of {tuple(keys)}"
        )
    return partners


ExtractImplantD = ExtractImplantDict = ExtractImplantd
CompleteMaskD = CompleteMaskDict = CompleteMaskd
