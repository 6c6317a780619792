"""Test cases of skull completion: skulls never trained on, with holes cut on their native grid."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, LoadImaged, Orientationd

from monai_sparse_refine.data import defect_cases
from monai_sparse_refine.errors import InputError
from monai_sparse_refine.transforms import FixedCranialDefectd, MakeMultiResolution, ToBinaryMaskd

SEEN_KINDS = ("bilateral", "parietotemporal", "random")
UNSEEN_KINDS = ("frontoorbital", "cube")

# An in-plane resolution, or None for the native grid.
Grid = int | None


class SkullCase(NamedTuple):
    """One hole in one skull on one grid; masks are uint8 MetaTensors [1, X, Y, Z] in RAS orientation."""

    test_set: str
    name: str
    kind: str
    grid: Grid
    complete: MetaTensor
    defective: MetaTensor

    @property
    def true_implant(self) -> torch.Tensor:
        """What was cut out."""
        return self.complete * (self.defective == 0).to(self.complete.dtype)


def skull_cases(
    test_set: str,
    skulls: Sequence[Mapping[str, Any]],
    *,
    kinds: Sequence[str],
    grids: Sequence[Grid] = (None,),
    seed: int = 0,
    skipped: Callable[[str], object] = lambda text: None,
) -> Iterator[SkullCase]:
    """Cut one hole of every kind into every skull.

    The hole is cut once, on the native grid, and brought to the other grids with the skull.

    Args:
        test_set: name of the set.
        skulls: ``{"label": file, "name": name}`` each.
        kinds: kinds of holes.
        grids: in-plane resolutions; None is the native grid.
        seed: decides the holes.
        skipped: called with set, name and kind where a skull has no room for such a hole.
    """
    load = Compose(
        [
            LoadImaged("label", ensure_channel_first=True, dtype=np.float32),
            ToBinaryMaskd("label"),
            Orientationd("label", axcodes="RAS", labels=None),
        ]
    )
    cut = FixedCranialDefectd("image")
    low = MakeMultiResolution([grid for grid in grids if grid is not None] or [1])
    for skull, first in zip(skulls, range(seed, seed + 97 * len(skulls), 97), strict=True):
        complete = _plain(load(dict(skull))["label"])
        for item in defect_cases([dict(skull)], kinds=kinds, seed=first):
            try:
                defective = _plain(cut({**item, "image": complete})["image"])
            except InputError:
                skipped(f"{test_set}: {skull['name']}, {item['kind']}")
                continue
            for grid in grids:
                pair = (complete, defective)
                if grid is not None:
                    whole, holed = (low(mask)[grid] for mask in pair)
                    pair = (_plain(whole), _plain(holed))
                    # A coarse grid may not resolve a small hole at all.
                    if not bool((pair[0] != pair[1]).any()):
                        skipped(f"{test_set}: {skull['name']}, {item['kind']}")
                        continue
                yield SkullCase(test_set, str(skull["name"]), item["kind"], grid, *pair)


def _plain(mask: MetaTensor) -> MetaTensor:
    """The mask with its affine alone: what was done to it before is not to be inverted later."""
    return MetaTensor(mask.as_tensor().to(torch.uint8), affine=mask.affine)
