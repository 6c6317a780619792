"""Test cases of skull completion: skulls never trained on, with holes cut on their native grid."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, LoadImaged, Orientationd

from monai_sparse_refine.data import defect_cases
from monai_sparse_refine.errors import InputError
from monai_sparse_refine.transforms import FixedCranialDefectd, MakeMultiResolution, ToBinaryMaskd

BUNDLE = Path(__file__).resolve().parents[1] / "bundles" / "skull_completion"
# What training cut: kinds and sizes in mm. Holes of other kinds, or larger ones, it never saw.
_TRAINING = json.loads((BUNDLE / "configs" / "train.json").read_text(encoding="utf-8"))
TRAINED_SIZES_MM: dict[str, tuple[float, float]] = {
    kind: tuple(_TRAINING["sizes_mm"][kind]) for kind in _TRAINING["kinds"]
}
# One hole of each into every skull, at the kind's own range of sizes.
TEST_KINDS = ("bilateral", "parietotemporal", "random", "frontoorbital", "cube")
SEEN_KINDS = tuple(kind for kind in TEST_KINDS if kind in TRAINED_SIZES_MM)
UNSEEN_KINDS = tuple(kind for kind in TEST_KINDS if kind not in TRAINED_SIZES_MM)

# Scans that are not complete: the middle of the hole they have (world mm, RAS) and a radius around it, in mm.
# Nothing is cut there, and what a method adds there is not scored, for no truth is known. The cranium's is in the
# right forehead.
OWN_HOLES: dict[str, tuple[tuple[float, float, float], float]] = {
    "invesalius_cranium_skull": ((-93.0, -61.0, 103.0), 40.0)
}
_DRAWS = 20  # holes drawn for a skull that has one of its own, until one is clear of it

# An in-plane resolution, or None for the native grid.
Grid = int | None


class SkullCase(NamedTuple):
    """One hole in one skull on one grid; masks are uint8 MetaTensors [1, X, Y, Z] in RAS orientation.

    ``unscored`` tells the voxels around a hole that the scan had before; None where it had none.
    """

    test_set: str
    name: str
    kind: str
    size_mm: float
    grid: Grid
    complete: MetaTensor
    defective: MetaTensor
    unscored: torch.Tensor | None = None

    @property
    def group(self) -> str:
        """What training has seen of such holes."""
        if self.kind not in TRAINED_SIZES_MM:
            return "unseen kinds"
        return "seen kinds" if self.size_mm <= TRAINED_SIZES_MM[self.kind][1] else "seen kinds, larger"

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

    The hole is cut once, on the native grid, and brought to the other grids with the skull. In a scan of
    `OWN_HOLES` it is drawn again until it is clear of the scan's own.

    Args:
        test_set: name of the set.
        skulls: ``{"label": file, "name": name}`` each.
        kinds: kinds of holes.
        grids: in-plane resolutions; None is the native grid.
        seed: decides the holes.
        skipped: called with set, name and kind where a skull has no room for such a hole.
    """
    cut = FixedCranialDefectd("image", size_key="size_mm")
    low = MakeMultiResolution([grid for grid in grids if grid is not None] or [1])
    for skull, first in zip(skulls, range(seed, seed + 97 * len(skulls), 97), strict=True):
        complete = complete_skull(skull)
        own = own_hole(str(skull["name"]), complete)
        for item in defect_cases([dict(skull)], kinds=kinds, seed=first):
            draws = range(item["seed"], item["seed"] + (1 if own is None else _DRAWS * 1000), 1000)
            holed = _holed(cut, item, complete, own, draws)
            if holed is None:
                skipped(f"{test_set}: {skull['name']}, {item['kind']}")
                continue
            defective, size = _plain(holed["image"]), float(holed["size_mm"])
            for grid in grids:
                pair = (complete, defective)
                if grid is not None:
                    pair = (_plain(low(complete)[grid]), _plain(low(defective)[grid]))
                    # A coarse grid may not resolve a small hole at all.
                    if not bool((pair[0] != pair[1]).any()):
                        skipped(f"{test_set}: {skull['name']}, {item['kind']}")
                        continue
                unscored = own_hole(str(skull["name"]), pair[0])
                yield SkullCase(test_set, str(skull["name"]), item["kind"], size, grid, *pair, unscored)


def complete_skull(skull: Mapping[str, Any]) -> MetaTensor:
    """Mask [1, X, Y, Z] of ``{"label": file, ...}``, uint8, in RAS orientation."""
    load = Compose(
        [
            LoadImaged("label", ensure_channel_first=True, dtype=np.float32),
            ToBinaryMaskd("label"),
            Orientationd("label", axcodes="RAS", labels=None),
        ]
    )
    return _plain(load(dict(skull))["label"])


def own_hole(name: str, mask: MetaTensor) -> torch.Tensor | None:
    """Voxels [1, X, Y, Z] around the hole that a scan has before any is cut; None where it has none."""
    if name not in OWN_HOLES:
        return None
    middle, radius = OWN_HOLES[name]
    affine = mask.affine.to(torch.float64)
    axes = [torch.arange(size, dtype=torch.float64) for size in mask.shape[1:]]
    voxels = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
    places = voxels @ affine[:3, :3].T + affine[:3, 3]
    return ((places - torch.tensor(middle, dtype=torch.float64)).norm(dim=-1) <= radius)[None]


def _holed(
    cut: FixedCranialDefectd,
    item: Mapping[str, Any],
    complete: MetaTensor,
    own: torch.Tensor | None,
    draws: Sequence[int],
) -> dict[Any, Any] | None:
    """The item with the first hole that is clear of the skull's own; None where there is no room."""
    for seed in draws:
        drawn: dict[Any, Any] = {**item, "seed": seed, "image": complete}
        try:
            holed = cut(drawn)
        except InputError:
            continue
        lost = complete.as_tensor() != torch.as_tensor(holed["image"])
        if own is None or not bool((lost & own).any()):
            return holed
    return None


def _plain(mask: MetaTensor) -> MetaTensor:
    """The mask with its affine alone: what was done to it before is not to be inverted later."""
    return MetaTensor(mask.as_tensor().to(torch.uint8), affine=mask.affine)
