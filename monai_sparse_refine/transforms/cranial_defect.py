"""Random cranial defects: cut a hole into a complete skull; what was taken is the implant to find."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.config.type_definitions import NdarrayOrTensor
from monai.data import MetaTensor
from monai.transforms import MapTransform, RandomizableTransform
from monai.utils import TransformBackends, convert_to_dst_type

from monai_sparse_refine.errors import InputError
from monai_sparse_refine.transforms.defect_cut import cut_defect
from monai_sparse_refine.transforms.defect_shapes import DEFECT_KINDS, DEFECT_SIZES_MM, Defect, draw_defect
from monai_sparse_refine.transforms.head import without_holder
from monai_sparse_refine.transforms.vault import vault_of
from monai_sparse_refine.volume import spacing_of

__all__ = [
    "DEFECT_KINDS",
    "RandCranialDefect",
    "RandCranialDefectD",
    "RandCranialDefectDict",
    "RandCranialDefectd",
]

# Smallest and largest in mm, for all kinds or by kind.
Sizes = tuple[float, float] | Sequence[float] | Mapping[str, Sequence[float]] | None

_VAULT_POINTS = 16_000  # enough to fit a vault to


class RandCranialDefect(RandomizableTransform):
    """Cut a random full-thickness hole into the vault of a complete skull.

    Kinds: `bilateral`, a large hole across the midline; `frontoorbital`, forehead with the upper orbital rim;
    `parietotemporal`, one side; `random`, a cluster of overlapping balls; `cube`, a window with drilled
    corners; `anywhere`, a cluster of balls that may also lie on the face and the skull base and takes all bone it
    meets; `burred`, a rounded patch with burr holes on its rim; `cap`, all beyond a plane. The hole is drawn in
    world millimetres: spacing, flips and oblique axes do not change it.

    Args:
        kinds: kinds to draw from, with equal chance.
        size_mm: range of the hole's mean radius along the surface (half the side of a cube), one for all kinds or
            one by kind; None, or a kind that is not named: the kind's own.
        prob: how likely a skull gets a defect.
        spacing: mm, for arrays and tensors without an affine, which are taken to be in RAS orientation.
        border_roughness_mm: how irregular the border is, as a standard deviation.
        min_implant_ml: smaller holes are drawn again.
        max_tries: how often, for every kind.
        allow_intact: return a skull uncut where no hole can be cut (a cropped scan), instead of an error.

    Attributes:
        kind, size_mm, centre_mm: of the last hole; None where the last skull was left as it was.

    Raises:
        InputError: on bad arguments.
    """

    backend = [TransformBackends.NUMPY]

    def __init__(
        self,
        kinds: Sequence[str] = DEFECT_KINDS,
        *,
        size_mm: Sizes = None,
        prob: float = 1.0,
        spacing: float | Sequence[float] | None = None,
        border_roughness_mm: float = 1.5,
        min_implant_ml: float = 2.0,
        max_tries: int = 20,
        allow_intact: bool = False,
    ) -> None:
        RandomizableTransform.__init__(self, prob)
        self.kinds = (kinds,) if isinstance(kinds, str) else tuple(kinds)
        unknown = [kind for kind in self.kinds if kind not in DEFECT_KINDS]
        if unknown or not self.kinds:
            raise InputError(f"kinds is {self.kinds}; expected one or more of {DEFECT_KINDS}")
        self.size_ranges_mm = _size_ranges(size_mm, self.kinds)
        if border_roughness_mm < 0 or max_tries < 1:
            raise InputError(
                f"border_roughness_mm is {border_roughness_mm}, max_tries {max_tries}; expected >= 0 and >= 1"
            )
        self.spacing = spacing
        self.border_roughness_mm = float(border_roughness_mm)
        self.min_implant_ml = float(min_implant_ml)
        self.max_tries = int(max_tries)
        self.allow_intact = allow_intact
        self.kind: str | None = None
        self.size_mm: float | None = None
        self.centre_mm: tuple[float, float, float] | None = None
        self.defect: Defect | None = None
        self._seed = 0

    def set_random_state(
        self, seed: int | None = None, state: np.random.RandomState | None = None
    ) -> RandCranialDefect:
        """Seed the draws."""
        super().set_random_state(seed, state)
        return self

    def randomize(self, data: Any = None) -> None:
        """Draw whether there is a defect, and the seed that decides everything about it."""
        super().randomize(None)
        self._seed = int(self.R.randint(2**31 - 1))

    def __call__(self, img: NdarrayOrTensor, randomize: bool = True) -> NdarrayOrTensor:
        """Return the defective skull.

        Args:
            img: complete binary skull, [1, X, Y, Z].
            randomize: False repeats the last draw.

        Returns:
            The same type, dtype, shape and metadata; voxels are only ever removed.

        Raises:
            InputError: where the input is not one binary volume with bone, has no vault, or no spacing.
        """
        if randomize:
            self.randomize()
        self.kind = self.size_mm = self.centre_mm = self.defect = None
        if not self._do_transform:
            return img
        volume, affine = _checked(img, self.spacing)
        try:
            removed = self._draw(volume[0], affine)
        except InputError:
            if self.allow_intact:
                return img
            raise
        volume = volume.copy(order="K")  # NIfTI arrays come in Fortran order, and stay so
        volume[0][removed] = 0
        return convert_to_dst_type(volume, img)[0]

    def cut(self, img: NdarrayOrTensor) -> NdarrayOrTensor:
        """Cut the last hole into another mask of the same head, whatever its grid.

        Raises:
            InputError: as for a call.
        """
        if self.defect is None:
            return img
        volume, affine = _checked(img, self.spacing)
        volume = volume.copy(order="K")  # NIfTI arrays come in Fortran order, and stay so
        volume[0][cut_defect(volume[0] != 0, affine, self.defect)] = 0
        return convert_to_dst_type(volume, img)[0]

    def _draw(self, volume: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, ...]:
        """Draw until a hole is good; returns the index of its voxels."""
        random = np.random.default_rng(self._seed)
        mask = volume != 0
        vault = vault_of(without_holder(mask, affine), affine, points=_VAULT_POINTS)
        voxel_ml = abs(float(np.linalg.det(affine[:3, :3]))) / 1000.0
        # A cropped scan may have no room for one kind: then the next one is tried.
        for kind in random.permutation(np.asarray(self.kinds)).tolist():
            for _ in range(self.max_tries):
                defect = draw_defect(
                    kind,
                    vault,
                    random,
                    size_mm=self.size_ranges_mm[kind],
                    roughness_mm=self.border_roughness_mm,
                )
                if defect is None:
                    continue
                removed = cut_defect(mask, affine, defect)
                if removed[0].size and removed[0].size * voxel_ml >= self.min_implant_ml:
                    self.defect, self.kind, self.size_mm = defect, kind, defect.size_mm
                    x, y, z = (float(v) for v in defect.centre_mm)
                    self.centre_mm = (x, y, z)
                    return removed
        raise InputError(
            f"no defect of kinds {self.kinds} of {self.min_implant_ml} ml or more in {self.max_tries} tries "
            "each: the vault is incomplete there; allow more kinds or smaller implants, or leave the case out"
        )


class RandCranialDefectd(RandomizableTransform, MapTransform):
    """Dictionary version of `RandCranialDefect`: one hole for all the keys.

    Args:
        keys: complete skulls of one head; the first decides where the vault is.
        kinds, size_mm, prob, spacing: see `RandCranialDefect`.
        border_roughness_mm, min_implant_ml, max_tries, allow_intact: see `RandCranialDefect`.
        implant_key: where to write what was removed from the first key.
        kind_key: where to write the kind, "none" without a defect.
        allow_missing_keys: whether a missing key is passed over.
    """

    backend = RandCranialDefect.backend

    def __init__(
        self,
        keys: KeysCollection,
        kinds: Sequence[str] = DEFECT_KINDS,
        *,
        size_mm: Sizes = None,
        prob: float = 1.0,
        spacing: float | Sequence[float] | None = None,
        border_roughness_mm: float = 1.5,
        min_implant_ml: float = 2.0,
        max_tries: int = 20,
        allow_intact: bool = False,
        implant_key: str | None = None,
        kind_key: str | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, prob)
        self.implant_key = implant_key
        self.kind_key = kind_key
        self.converter = RandCranialDefect(
            kinds,
            size_mm=size_mm,
            prob=1.0,
            spacing=spacing,
            border_roughness_mm=border_roughness_mm,
            min_implant_ml=min_implant_ml,
            max_tries=max_tries,
            allow_intact=allow_intact,
        )

    def set_random_state(
        self, seed: int | None = None, state: np.random.RandomState | None = None
    ) -> RandCranialDefectd:
        """Seed the draws."""
        super().set_random_state(seed, state)
        self.converter.set_random_state(state=self.R)
        return self

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the dictionary with the defective skulls."""
        result = dict(data)
        self.randomize(None)
        first = True
        for key in self.key_iterator(result):
            complete = result[key]
            if first:
                defective = self.converter(complete) if self._do_transform else complete
                if self.implant_key is not None:
                    result[self.implant_key] = _difference(complete, defective)
                first = False
            else:
                defective = self.converter.cut(complete) if self._do_transform else complete
            result[key] = defective
        if self.kind_key is not None:
            result[self.kind_key] = (self.converter.kind if self._do_transform else None) or "none"
        return result


def _size_ranges(sizes: Sizes, kinds: Sequence[str]) -> dict[str, tuple[float, float]]:
    """The range of sizes of every kind."""
    chosen: dict[str, Sequence[float]] = {kind: DEFECT_SIZES_MM[kind] for kind in kinds}
    if isinstance(sizes, Mapping):
        unknown = [kind for kind in sizes if kind not in DEFECT_KINDS]
        if unknown:
            raise InputError(f"size_mm names the kinds {unknown}; expected some of {DEFECT_KINDS}")
        chosen.update({kind: size for kind, size in sizes.items() if kind in chosen})
    elif sizes is not None:
        chosen = dict.fromkeys(kinds, sizes)
    for size in chosen.values():
        if not (len(size) == 2 and 0 < size[0] <= size[1]):
            raise InputError(f"size_mm is {sizes}; expected (smallest, largest) in mm, both positive")
    return {kind: (float(size[0]), float(size[1])) for kind, size in chosen.items()}


def _difference(complete: NdarrayOrTensor, defective: NdarrayOrTensor) -> NdarrayOrTensor:
    """What the complete skull has and the defective one has not, in the complete one's type and dtype."""
    before, after = (
        v.detach().cpu().numpy() if isinstance(v, torch.Tensor) else v for v in (complete, defective)
    )
    return convert_to_dst_type(np.where(after != 0, np.zeros_like(before), before), complete)[0]


def _checked(img: NdarrayOrTensor, spacing: float | Sequence[float] | None) -> tuple[np.ndarray, np.ndarray]:
    """The volume as an array [1, X, Y, Z] and its affine in float64."""
    volume = img.detach().cpu().numpy() if isinstance(img, torch.Tensor) else np.asarray(img)
    if volume.ndim != 4 or volume.shape[0] != 1:
        raise InputError(f"img has shape {tuple(volume.shape)}; expected one binary skull [1, X, Y, Z]")
    if not volume.any():
        raise InputError("img has no foreground; expected a complete binary skull")
    whole = volume.dtype.kind in "bui"
    if not (volume.min() >= 0 and volume.max() <= 1) or not (whole or ((volume == 0) | (volume == 1)).all()):
        values = np.unique(volume[volume != 0])[:5].tolist()
        raise InputError(
            f"img has the values {values} beside 0; expected a binary skull of 0 and 1: threshold it first"
        )
    if isinstance(img, MetaTensor) and spacing is None:
        return volume, img.affine.detach().cpu().numpy().astype(float)
    return volume, np.diag([*spacing_of(img, spacing=spacing), 1.0])


RandCranialDefectD = RandCranialDefectDict = RandCranialDefectd
