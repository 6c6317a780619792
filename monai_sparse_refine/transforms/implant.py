"""The implant: what a completed skull has and the defective one has not, without the noise along the bone."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.config.type_definitions import NdarrayOrTensor
from monai.transforms import MapTransform, Transform
from monai.utils import TransformBackends, convert_to_dst_type
from scipy import ndimage
from scipy.spatial import cKDTree

from monai_sparse_refine.errors import InputError
from monai_sparse_refine.volume import as_mask, bounding_box, check_same_shape, spacing_of, surface

__all__ = [
    "CompleteMask",
    "CompleteMaskD",
    "CompleteMaskDict",
    "CompleteMaskd",
    "ExtractImplant",
    "ExtractImplantD",
    "ExtractImplantDict",
    "ExtractImplantd",
    "clean_implant",
]

# Points looked up at a time: bounds the memory where a network fills the whole volume.
CHUNK = 1_000_000


def _distance(points: np.ndarray, targets: np.ndarray, spacing: np.ndarray, limit: float) -> np.ndarray:
    """Distance in mm from every voxel to the nearest target voxel; infinite beyond the limit.

    Args:
        points: voxel indices (N, 3).
        targets: voxel indices (M, 3).
        spacing: mm (3,).
        limit: mm up to which the distance is wanted.

    Returns:
        Distances (N,).
    """
    distances = np.full(len(points), np.inf)
    if len(targets):
        tree = cKDTree(targets * spacing)
        for start in range(0, len(points), CHUNK):
            chunk = slice(start, start + CHUNK)
            # The bound is exclusive; a hair more makes it inclusive.
            distances[chunk] = tree.query(
                points[chunk] * spacing, distance_upper_bound=limit * (1 + 1e-9) + 1e-9
            )[0]
    return distances


def clean_implant(
    difference: np.ndarray,
    defective: np.ndarray,
    *,
    spacing: Sequence[float],
    core_mm: float = 3.0,
    lip_mm: float = 1.5,
    min_volume_ml: float = 0.2,
    min_relative_volume: float = 0.1,
) -> np.ndarray:
    """Keep of a difference what bridges a hole, and drop what merely clings to the bone.

    Noise of a completion lies along the intact bone, a voxel or two thick. An implant spans a hole, so its
    middle (the core) is far from all bone, however thin the implant is. So:

    1. The core is every voxel at least `core_mm` from the bone, and more than two voxels, so that a film two
       voxels thick is none on a coarse grid either.
    2. A voxel nearer to the bone belongs to the implant where it lies between core and bone, which is where
       its distance to the core and its distance to the bone sum up to no more than `core_mm + lip_mm`; or
       where the difference is at least two voxels thick in every direction and the core is no farther than `2
       * core_mm` (the corners of an angular hole). A film on the bone beyond the rim is neither.
    3. Parts without a core, parts below `min_volume_ml`, and parts below `min_relative_volume` times the
       largest go.

    Args:
        difference: boolean array [X, Y, Z], completed and not defective.
        defective: boolean array [X, Y, Z].
        spacing: mm for each axis.
        core_mm: 0 skips steps 1 and 2. A hole narrower than twice this is not seen as a hole.
        lip_mm: how far noise at the rim may reach over the bone. It counts as one voxel at least.
        min_volume_ml: 0 keeps parts of any size.
        min_relative_volume: 0 keeps parts of any size.

    Returns:
        Boolean array [X, Y, Z], a subset of the difference.
    """
    mm = np.asarray(spacing, dtype=float)
    kept = difference.copy()
    core = None
    if core_mm > 0:
        depth = max(core_mm, 2.001 * float(mm.max()))
        core, kept = _bridge(difference, defective, mm, depth, max(lip_mm, float(mm.max())))
    box = bounding_box(kept)
    if box is None:
        return kept
    # Parts may touch over edges and corners: a thin implant on a coarse grid does.
    labels, count = ndimage.label(kept[box], structure=np.ones((3, 3, 3), dtype=bool))
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    sizes[0] = 0
    large = sizes * mm.prod() / 1000 >= min_volume_ml
    if core is not None:
        cored = np.zeros(count + 1, dtype=bool)
        cored[np.unique(labels[core[box]])] = True
        large &= cored
    large &= sizes >= min_relative_volume * sizes[large].max(initial=0)
    large[0] = False
    kept[box] = large[labels]
    return kept


def _bridge(
    difference: np.ndarray, defective: np.ndarray, mm: np.ndarray, core_mm: float, lip_mm: float
) -> tuple[np.ndarray, np.ndarray]:
    """Core, and core with what ties it to the bone: steps 1 and 2 of `clean_implant`."""
    points = np.argwhere(difference)  # (N, 3)
    to_bone = _distance(points, np.argwhere(surface(defective)), mm, core_mm)  # (N,)
    is_core = to_bone >= core_mm
    core = np.zeros_like(difference)
    core[tuple(points[is_core].T)] = True
    rest, to_bone = points[~is_core], to_bone[~is_core]
    # Only the core's own surface can be the nearest to a voxel outside it.
    to_core = _distance(rest, np.argwhere(surface(core)), mm, 2 * core_mm)
    near = np.isfinite(to_core)
    # The nearest bone voxel's centre is one voxel inside the bone, hence the extra voxel between core and
    # bone.
    tied = near & (to_core + to_bone <= core_mm + lip_mm)
    kept = core.copy()
    kept[tuple(rest[tied].T)] = True
    reach = [int(n) + 1 for n in np.ceil(2 * core_mm / mm)]
    box = bounding_box(core, margin=reach)
    if box is not None:
        thick = np.zeros_like(difference)
        # An axis of one slice cannot be two voxels thick.
        block = np.ones([min(2, size) for size in difference.shape], dtype=bool)
        thick[box] = ndimage.binary_opening(difference[box], structure=block)
        corner = rest[near & ~tied]
        corner = corner[thick[tuple(corner.T)]]
        kept[tuple(corner.T)] = True
    return core, kept


class ExtractImplant(Transform):
    """Implant of one case: completed minus defective, cleaned of the noise along the bone.

    The result is a subset of the plain difference, so it never overlaps the defective skull, and it touches
    the bone where the completion does. How it is cleaned, and what the numbers mean, is told at
    `clean_implant`; `core_mm=0, min_volume_ml=0, min_relative_volume=0` gives the plain difference.

    Args:
        core_mm: an implant has voxels at least this far from all bone; 0 switches this off.
        lip_mm: how far noise at the rim may reach over the bone.
        min_volume_ml: smallest part that counts.
        min_relative_volume: smallest part that counts, as a fraction of the largest.
        spacing: mm, where the masks carry no affine.
    """

    backend = [TransformBackends.NUMPY]

    def __init__(
        self,
        *,
        core_mm: float = 3.0,
        lip_mm: float = 1.5,
        min_volume_ml: float = 0.2,
        min_relative_volume: float = 0.1,
        spacing: float | Sequence[float] | None = None,
    ) -> None:
        options = {
            "core_mm": core_mm,
            "lip_mm": lip_mm,
            "min_volume_ml": min_volume_ml,
            "min_relative_volume": min_relative_volume,
        }
        for name, value in options.items():
            if not value >= 0:
                raise InputError(f"{name} is {value}; expected 0 (off) or more")
        self.options = options
        self.spacing = spacing

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
            implant = clean_implant(implant, bone, spacing=mm, **self.options)
        return _like(implant, completed)


class ExtractImplantd(MapTransform):
    """Dictionary version of `ExtractImplant`: reads the completed masks at `keys`, writes their implants.

    Args:
        keys: keys of the completed masks.
        defective_key: key of the defective mask.
        implant_key: key (or one for each of `keys`) to write to.
        core_mm, lip_mm, min_volume_ml, min_relative_volume, spacing: as in `ExtractImplant`.
        allow_missing_keys: do not raise where a key is missing.
    """

    backend = ExtractImplant.backend

    def __init__(
        self,
        keys: KeysCollection,
        defective_key: Hashable = "image",
        implant_key: KeysCollection = "implant",
        *,
        core_mm: float = 3.0,
        lip_mm: float = 1.5,
        min_volume_ml: float = 0.2,
        min_relative_volume: float = 0.1,
        spacing: float | Sequence[float] | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.defective_key = defective_key
        self.implant_keys = _one_each(self.keys, implant_key, "implant_key")
        self.transform = ExtractImplant(
            core_mm=core_mm,
            lip_mm=lip_mm,
            min_volume_ml=min_volume_ml,
            min_relative_volume=min_relative_volume,
            spacing=spacing,
        )

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
