"""A cranial defect that is the same every time: for validation and test cases."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from monai.config import KeysCollection
from monai.transforms import MapTransform

from monai_sparse_refine.transforms.cranial_defect import RandCranialDefect, Sizes


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


FixedCranialDefectD = FixedCranialDefectDict = FixedCranialDefectd
