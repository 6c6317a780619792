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
from monai_sparse_refine.transforms.organ_features import ORGANS

__all__ = ["RandOrganSampleD", "RandOrganSampleDict", "RandOrganSampled"]


class RandOrganSampled(RandomizableTransform, MapTransform):
    """Draw what a refiner trains on from a case with a label map and a dense network's probabilities.

    An organ is drawn, its mask to refine, what else the refiner is told, and a patch: half of them around a voxel in
    which mask and truth differ. The mask is the dense network's own with its probabilities, or, as where only masks
    are at hand, the dense network's or the true one, corrupted, without probabilities.

    Needs "label" (label map [1, X, Y, Z], ids 1, 2, ... in the order of ``organs``), "probability" (uint8
    [1 + organs, X, Y, Z], see ``DenseProbabilitiesd``) and "intensity" (HU [1, X, Y, Z]). Gives "image" (mask), "label"
    (truth), "organ" (name) and, unless they were dropped, "intensity" and "probability", all [1, *patch] MetaTensors.

    Args:
        organs: names in the order of the ids.
        patch: voxels along each axis; a smaller case is taken whole.
        mask_only: probability of going without the dense network's probabilities.
        corrupted: probability that a mask without probabilities is corrupted.
        without_intensity: probability of going without intensities.
        weights: how often each organ is drawn, relative to the others; None for all alike.
    """

    backend = [TransformBackends.NUMPY]

    def __init__(
        self,
        *,
        organs: Sequence[str] = ORGANS,
        patch: Sequence[int] = (80, 80, 40),
        mask_only: float = 0.4,
        corrupted: float = 0.7,
        without_intensity: float = 0.35,
        weights: Sequence[float] | None = None,
    ) -> None:
        MapTransform.__init__(self, ["label", "probability", "intensity"])
        RandomizableTransform.__init__(self, 1.0)
        for name, value in (
            ("mask_only", mask_only),
            ("corrupted", corrupted),
            ("without_intensity", without_intensity),
        ):
            if not 0 <= value <= 1:
                raise InputError(f"{name} is {value}; expected a probability from 0 to 1")
        self.organs = tuple(organs)
        self.patch = tuple(int(n) for n in patch)
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
        labels, soft, hu = (data[key] for key in self.keys)
        affine = labels.affine
        truth_map, classes = _plain(labels)[0], _plain(soft)
        present = [i for i in range(len(self.organs)) if bool((truth_map == i + 1).any())]
        if not present:
            raise InputError("label has none of the organs; leave such a case out of the training")
        chance = self.chance[present] / self.chance[present].sum()
        position = int(self.R.choice(present, p=chance))
        truth = truth_map == position + 1
        own = classes[position + 1]
        # The voxels where this class has the highest probability.
        dense = own > torch.cat([classes[: position + 1], classes[position + 2 :]]).amax(0)
        mask_only = self.R.uniform() < self.mask_only
        mask = dense
        if mask_only:
            if self.R.uniform() < 0.5 or not bool(dense.any()):
                mask = truth
            if self.R.uniform() < self.corrupted:
                mask = _plain(self.corrupt(MetaTensor(mask[None].to(torch.uint8), affine=affine)))[0] > 0
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
            out["probability"] = cut(own)
        if self.R.uniform() >= self.without_intensity:
            out["intensity"] = cut(_plain(hu)[0])
        return out

    def _centre(self, mask: np.ndarray, truth: np.ndarray) -> np.ndarray:
        """Where the patch lies: at a voxel that is wrong, or at any of mask or truth."""
        wrong = np.flatnonzero(mask != truth)
        pool = wrong if len(wrong) and self.R.uniform() < 0.5 else np.flatnonzero(mask | truth)
        centre = np.array(np.unravel_index(self.R.choice(pool), mask.shape))
        return centre + np.array([self.R.randint(-n // 6, n // 6 + 1) for n in self.patch])


def _plain(x: Any) -> Tensor:
    return x.as_tensor() if isinstance(x, MetaTensor) else torch.as_tensor(x)


def _span(centre: int, width: int, size: int) -> slice:
    """A range of `width` voxels around a centre, moved into the volume."""
    start = int(np.clip(centre - width // 2, 0, max(0, size - width)))
    return slice(start, min(size, start + width))


RandOrganSampleD = RandOrganSampleDict = RandOrganSampled
