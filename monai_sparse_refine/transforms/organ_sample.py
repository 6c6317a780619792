"""One organ of a case, cut out where its mask is wrong or its surface is, to train a refiner of several organs."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import MapTransform, RandomizableTransform
from monai.utils import TransformBackends
from torch import Tensor

from monai_sparse_refine.errors import InputError
from monai_sparse_refine.transforms.mask_corruption import RandMaskCorruption
from monai_sparse_refine.transforms.organ_features import ORGANS, typical_intensity
from monai_sparse_refine.volume import as_tensor

__all__ = ["RandOrganSampleD", "RandOrganSampleDict", "RandOrganSampled"]


class RandOrganSampled(RandomizableTransform, MapTransform):
    """Draw what a refiner trains on from a case with a label map and a dense network's probabilities.

    An organ is drawn, its mask to refine, what else the refiner is told, and a patch: half of them around a voxel in
    which mask and truth differ. The mask is the dense network's own with its probabilities, or, as where only masks
    are at hand, the dense network's or the true one, corrupted, without probabilities. Some are the truth as it is:
    from these a refiner learns to leave a good mask alone.

    Needs "label" (label map [1, X, Y, Z], ids 1, 2, ... in the order of ``organs``), "probability" (uint8
    [1 + organs, X, Y, Z], see ``DenseProbabilitiesd``), "intensity" (HU [1, X, Y, Z]) and "dense" (the dense network's
    label map, prepared as before a refinement, see ``OrganLabelsd``). Gives "image" (mask), "label"
    (truth), "organ" (name) and, unless they were dropped, "intensity" and "probability", all [1, *patch] MetaTensors;
    with intensities also "reference", the median of those in the whole mask.

    Args:
        organs: names in the order of the ids.
        patch: voxels along each axis; a smaller case is taken whole.
        untouched: probability that the mask is the true one, without probabilities.
        mask_only: of the others, probability of going without the dense network's probabilities.
        corrupted: of those, probability that the mask is corrupted.
        without_intensity: probability of going without intensities.
        weights: how often each organ is drawn, relative to the others; None for all alike.
    """

    backend = [TransformBackends.NUMPY]

    def __init__(
        self,
        *,
        organs: Sequence[str] = ORGANS,
        patch: Sequence[int] = (80, 80, 40),
        untouched: float = 0.0,
        mask_only: float = 0.4,
        corrupted: float = 0.7,
        without_intensity: float = 0.35,
        weights: Sequence[float] | None = None,
    ) -> None:
        MapTransform.__init__(self, ["label", "probability", "intensity", "dense"])
        RandomizableTransform.__init__(self, 1.0)
        for name, value in (
            ("untouched", untouched),
            ("mask_only", mask_only),
            ("corrupted", corrupted),
            ("without_intensity", without_intensity),
        ):
            if not 0 <= value <= 1:
                raise InputError(f"{name} is {value}; expected a probability from 0 to 1")
        self.organs = tuple(organs)
        self.patch = tuple(int(n) for n in patch)
        self.untouched = untouched
        self.mask_only = mask_only
        self.corrupted = corrupted
        self.without_intensity = without_intensity
        chance = np.ones(len(self.organs)) if weights is None else np.asarray(weights, dtype=float)
        self.chance = chance / chance.sum()
        self.corrupt = RandMaskCorruption()

    def set_random_state(
        self, seed: int | None = None, state: np.random.RandomState | None = None
    ) -> RandOrganSampled:
        super().set_random_state(seed, state)
        self.corrupt.set_random_state(seed, state)
        return self

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Draw from a case."""
        labels, soft, hu, found = (as_tensor(data[key]) for key in self.keys)
        affine = data["label"].affine
        truth_map = labels[0]
        # The first one drawn that the case has: to look for all of them would take longer than all the rest.
        order = self.R.choice(len(self.organs), np.count_nonzero(self.chance), replace=False, p=self.chance)
        position = next((int(i) for i in order if bool((truth_map == int(i) + 1).any())), None)
        if position is None:
            raise InputError("label has none of the organs; leave such a case out of the training")
        truth = truth_map == position + 1
        mask, mask_only = self._mask(truth, found[0] == position + 1, affine)
        centre = self._centre(mask.numpy(), truth.numpy())
        box = tuple(_span(c, n, size) for c, n, size in zip(centre, self.patch, truth.shape, strict=True))

        def cut(volume: Tensor) -> MetaTensor:
            return MetaTensor(volume[box][None].clone(), affine=affine)

        out: dict[Hashable, Any] = {
            "image": cut(mask.to(torch.uint8)),
            "label": cut(truth.float()),
            "organ": self.organs[position],
        }
        if not mask_only:
            out["probability"] = cut(soft[position + 1])
        if self.R.uniform() >= self.without_intensity:
            out["intensity"] = cut(hu[0])
            out["reference"] = typical_intensity(mask.numpy(), hu[0])
        return out

    def _mask(self, truth: Tensor, dense: Tensor, affine: Any) -> tuple[Tensor, bool]:
        """The mask to refine, and whether it comes without the dense network's probabilities."""
        if self.R.uniform() < self.untouched:
            return truth, True
        if self.R.uniform() >= self.mask_only:
            return dense, False
        mask = truth if self.R.uniform() < 0.5 or not bool(dense.any()) else dense
        if self.R.uniform() < self.corrupted:
            mask = as_tensor(self.corrupt(MetaTensor(mask[None].to(torch.uint8), affine=affine)))[0] > 0
        return mask, True

    def _centre(self, mask: np.ndarray, truth: np.ndarray) -> np.ndarray:
        """Where the patch lies: at a voxel that is wrong, or at any of mask or truth."""
        wrong = np.flatnonzero(mask != truth)
        pool = wrong if len(wrong) and self.R.uniform() < 0.5 else np.flatnonzero(mask | truth)
        centre = np.array(np.unravel_index(self.R.choice(pool), mask.shape))
        return centre + np.array([self.R.randint(-n // 6, n // 6 + 1) for n in self.patch])


def _span(centre: int, width: int, size: int) -> slice:
    """A range of `width` voxels around a centre, moved into the volume."""
    start = int(np.clip(centre - width // 2, 0, max(0, size - width)))
    return slice(start, min(size, start + width))


RandOrganSampleD = RandOrganSampleDict = RandOrganSampled
