"""Test cases of super-resolution: fine masks never trained on, made coarse, with the truth on the target grid."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from monai.data import MetaTensor
from monai.transforms import Compose, LoadImaged, Orientationd

from monai_sparse_refine.transforms import CoarsenMask, ToBinaryMaskd

# In-plane voxels, from and to: those of Table 6 of Li et al., Sci. Rep. 13:20229 (2023), and x4 to 512.
IN_PLANE_TASKS = ((64, 128), (64, 256), (64, 512), (128, 256), (128, 512))
RULES = ("half", "nearest", "any")


class FineCase(NamedTuple):
    """A coarse mask and the true one on the target grid; uint8 MetaTensors [1, X, Y, Z] of one box."""

    test_set: str
    name: str
    task: str
    coarse: MetaTensor
    truth: MetaTensor


def load_mask(file: str, *, label: int | None = None) -> MetaTensor:
    """A mask (or one label of a map) in RAS orientation, uint8 [1, X, Y, Z], with its affine alone."""
    steps: list[Any] = [LoadImaged("label", ensure_channel_first=True, dtype=np.float32)]
    if label is None:
        steps.append(ToBinaryMaskd("label"))
    steps.append(Orientationd("label", axcodes="RAS", labels=None))
    mask = Compose(steps)({"label": file})["label"]
    values = mask.as_tensor() if label is None else mask.as_tensor() == label
    return MetaTensor(values.to(torch.uint8), affine=mask.affine)


def in_plane_cases(test_set: str, name: str, fine: MetaTensor, *, rule: str = "half") -> Iterator[FineCase]:
    """The tasks of the paper that a scan is fine enough for; every axis is coarsened by the same factor."""
    side = max(fine.shape[1:3])
    for low, high in IN_PLANE_TASKS:
        if high > side:
            continue
        coarse, truth = coarsen(fine, side / low, rule=rule), coarsen(fine, side / high)
        yield FineCase(test_set, name, f"{low} to {high}", coarse, truth)
    if side > 256:
        yield FineCase(test_set, name, f"256 to {side}", coarsen(fine, side / 256, rule=rule), fine)


def factor_cases(
    test_set: str, name: str, fine: MetaTensor, factors: Sequence[int], *, rule: str = "half"
) -> Iterator[FineCase]:
    """The mask coarsened by each factor, to be brought back to its own grid."""
    for factor in factors:
        yield FineCase(test_set, name, f"x{factor}", coarsen(fine, factor, rule=rule), fine)


def coarsen(fine: MetaTensor, factor: float, *, rule: str = "half") -> MetaTensor:
    """Coarse mask by one rule: half a voxel or more ("half"), the voxel at its centre, or any foreground at all."""
    if factor == 1:
        return fine
    half = CoarsenMask(factor)(fine)
    if rule == "half":
        return half
    shape = tuple(half.shape[1:])
    values = fine.as_tensor()[None].float()
    if rule == "nearest":
        values = F.interpolate(values, size=shape, mode="nearest-exact")
    else:
        values = F.adaptive_max_pool3d(values, shape)
    return MetaTensor(values[0].to(torch.uint8), affine=half.affine)


def organ_cases(
    files: Sequence[Mapping[str, Any]], labels: Mapping[str, int], factors: Sequence[int]
) -> Iterator[FineCase]:
    """Every label of label maps as a mask of its own, cropped to it; labels that a map lacks are passed over."""
    for file in files:
        for organ, label in labels.items():
            mask = load_mask(file["label"], label=label)
            places = torch.nonzero(mask.as_tensor()[0])
            if len(places) < 200:
                continue
            low = (places.min(0).values - 16).clamp(min=0)
            high = places.max(0).values + 17
            box = (slice(None), *(slice(int(a), int(b)) for a, b in zip(low, high, strict=True)))
            cut: Any = mask[box]
            fine = MetaTensor(cut.as_tensor(), affine=mask.affine)
            yield from factor_cases(f"organs: {organ}", str(file["name"]), fine, factors)
