"""A cranial defect that is the same every time: for validation and test cases."""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.transforms import LoadImage, MapTransform

from monai_sparse_refine.errors import InputError
from monai_sparse_refine.transforms.binary_mask import ToBinaryMask
from monai_sparse_refine.transforms.cranial_defect import RandCranialDefect, Sizes

__all__ = ["FixedCranialDefectD", "FixedCranialDefectDict", "FixedCranialDefectd", "cases_with_room"]


class FixedCranialDefectd(MapTransform):
    """Cut the defect that an item names by its kind and seed (see :func:`monai_sparse_refine.data.defect_cases`).

    Deterministic, so that ``CacheDataset`` may cache it and every validation sees the same holes.

    Args:
        keys: complete masks [1, X, Y, Z] to cut; all get the same defect.
        kind_key: key of the defect kind, one of ``DEFECT_KINDS``.
        seed_key: key of the defect's seed (int).
        implant_key: where to put what was cut out; None for nowhere.
        size_mm: range of sizes in mm, also by kind; None for the kind's own.
        size_key: where to write the size that was drawn, in mm; None for nowhere.
    """

    backend = RandCranialDefect.backend

    def __init__(
        self,
        keys: KeysCollection,
        *,
        kind_key: str = "kind",
        seed_key: str = "seed",
        implant_key: str | None = None,
        size_mm: Sizes = None,
        size_key: str | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.kind_key = kind_key
        self.seed_key = seed_key
        self.implant_key = implant_key
        self.size_mm = size_mm
        self.size_key = size_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        out = dict(data)
        for key in self.key_iterator(out):
            complete = out[key]
            cut = RandCranialDefect(kinds=(str(out[self.kind_key]),), size_mm=self.size_mm)
            cut.set_random_state(int(out[self.seed_key]))
            out[key] = cut(complete)
            if self.size_key is not None:
                out[self.size_key] = cut.size_mm
            if self.implant_key is not None:
                implant = complete.clone()
                implant[out[key] > 0] = 0
                out[self.implant_key] = implant
        return out


def cases_with_room(
    cases: Sequence[Mapping[str, Any]], *, hu_threshold: float = 300.0, size_mm: Sizes = None
) -> list[dict[str, Any]]:
    """Those of the cases whose skull has room for their defect; a warning names the others.

    So that an evaluation or a training says so before it starts, instead of ending at the first such case.

    Args:
        cases: of :func:`monai_sparse_refine.data.defect_cases`: the file at "image", "kind", "seed" and "name".
        hu_threshold: of bone, where the file is a CT, HU.
        size_mm: as for ``FixedCranialDefectd``.

    Raises:
        InputError: if there are cases, and none has room.
    """
    load, binarise = (
        LoadImage(image_only=True, ensure_channel_first=True, dtype=np.float32),
        ToBinaryMask(hu_threshold=hu_threshold),
    )
    cut = FixedCranialDefectd("image", size_mm=size_mm)
    kept: list[dict[str, Any]] = []
    lacking = []
    for file, items in groupby(cases, key=lambda case: case["image"]):
        mask = binarise(load(file))
        for item in items:
            try:
                cut({"image": mask, "kind": item["kind"], "seed": item["seed"]})
            except InputError:
                lacking.append(str(item["name"]))
            else:
                kept.append(dict(item))
    if lacking:
        told = f"{len(lacking)} of {len(cases)} cases have no room for their hole: {', '.join(lacking)}"
        if not kept:
            raise InputError(
                f"{told}. Give skulls with a complete vault, other kinds of holes or smaller ones."
            )
        warnings.warn(f"{told}. They are left out.", stacklevel=2)
    return kept


FixedCranialDefectD = FixedCranialDefectDict = FixedCranialDefectd
