"""Close gaps between an implant and the bone around it where a network finds bone likely."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, Transform
from monai.utils import TransformBackends
from scipy import ndimage
from skimage.graph import MCP_Geometric
from torch import Tensor

from monai_sparse_refine.errors import InputError
from monai_sparse_refine.transforms.ball_closing import closed_by_ball, joined_to, near_both
from monai_sparse_refine.transforms.implant import ExtractImplant
from monai_sparse_refine.transforms.probability_threshold import raised_over
from monai_sparse_refine.volume import as_mask, bounding_box, spacing_of

__all__ = ["CloseLikelyGaps", "CloseLikelyGapsD", "CloseLikelyGapsDict", "CloseLikelyGapsd"]

_STEP_MM = 1.5  # between the middles of balls, and from the middle of a path to its sides
_BLOCK = np.ones((3, 3, 3), dtype=bool)


class CloseLikelyGaps(Transform):
    """Raise a network's probability in gaps that implant and bone enclose, where it is not much too low.

    At thin bone, as around the orbits, and in the corners of a hole the probability falls off early, and an implant
    ends short of the bone in places. A gap shows in the shape: a ball of some radius cannot enter it, but could
    without the implant. In such places alone a lower threshold counts. What is likely there and not joined to the
    implant is joined along the likeliest path, for bone goes on. Gaps that are one voxel wide stay: they are no wider
    than what a mask's voxels may be wrong by.

    Args:
        threshold: probability from which a voxel belongs to the skull.
        gap_threshold: probability from which it does in a gap; None: no gap is closed.
        path_threshold: lowest probability along a path.
        radius_mm: radius of the ball; gaps up to twice as wide are closed.
        finest_mm: voxels with a longer side are too coarse: a gap of theirs is wider than the ball.
        extract: how the implant is told from noise; by default :class:`ExtractImplant` without parts below a fifth of
            the largest. Steps that share one find it once where it stays as it is.

    Raises:
        InputError: a threshold that is not between 0 and 1, or a radius that is not positive.
    """

    backend = [TransformBackends.NUMPY]

    def __init__(
        self,
        *,
        threshold: float = 0.5,
        gap_threshold: float | None = 0.25,
        path_threshold: float = 0.1,
        radius_mm: float = 8.0,
        finest_mm: float = 2.0,
        extract: ExtractImplant | None = None,
    ) -> None:
        thresholds = {
            "threshold": threshold,
            "gap_threshold": gap_threshold,
            "path_threshold": path_threshold,
        }
        for name, value in thresholds.items():
            if value is not None and not 0 < value < 1:
                raise InputError(f"{name} is {value}; expected a probability between 0 and 1")
        if not radius_mm > 0:
            raise InputError(f"radius_mm is {radius_mm}; expected mm, more than 0")
        self.threshold = threshold
        self.gap_threshold = gap_threshold
        self.path_threshold = path_threshold
        self.radius_mm = radius_mm
        self.finest_mm = finest_mm
        self.extract = ExtractImplant(min_relative_volume=0.2) if extract is None else extract

    def __call__(  # type: ignore[override]
        self, probability: Tensor, defective: MetaTensor, guesses: MetaTensor | None = None
    ) -> Tensor:
        """Raise.

        Args:
            probability: of the completed skull, [1, X, Y, Z].
            defective: the skull with the hole, of the same shape, with its affine.
            guesses: not looked at; steps around a network are all called alike.

        Returns:
            Probabilities in the container of ``probability``: just over the threshold where it was raised.
        """
        mm = np.asarray(spacing_of(defective), dtype=float)
        if self.gap_threshold is None or self.gap_threshold >= self.threshold or mm.max() > self.finest_mm:
            return probability
        plain = probability.as_tensor() if isinstance(probability, MetaTensor) else probability
        completed = MetaTensor((plain >= self.threshold).to(torch.uint8), affine=defective.affine)
        implant, bone = as_mask(self.extract(completed, defective)), as_mask(defective)
        raised = self._gaps(plain[0].float().cpu().numpy(), self.gap_threshold, implant, bone, mm)
        if not raised.any():
            return probability
        out = raised_over(plain, raised, threshold=self.threshold)
        return MetaTensor(out, meta=probability.meta) if isinstance(probability, MetaTensor) else out

    def _gaps(
        self, probability: np.ndarray, least: float, implant: np.ndarray, bone: np.ndarray, mm: np.ndarray
    ) -> np.ndarray:
        """What is filled of gaps that are more than a voxel wide: boolean array [X, Y, Z]."""
        filled = np.zeros_like(implant)
        lowest = min(self.path_threshold, least)
        points = near_both(implant, bone, mm=mm, radius=self.radius_mm, among=probability >= lowest)
        closed = closed_by_ball(points, implant, bone, mm=mm, radius=self.radius_mm, step_mm=_STEP_MM)
        gap = np.zeros_like(implant)
        gap[tuple(points[closed].T)] = True
        gap = joined_to(implant, gap)
        box = bounding_box(gap | implant, margin=1)
        if box is None or not gap.any():
            return filled
        gap, part, sure = gap[box], implant[box], probability[box]
        beside = ndimage.binary_dilation(part, structure=_BLOCK)
        likely = gap & (sure >= least)
        joined = _parts_with(joined_to(part, likely), ~beside)
        rest = _parts_with(likely & ~joined, ~beside)
        filled[box] = joined | rest | _paths(rest, part | joined, gap, sure, mm)
        return filled


def _parts_with(mask: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The parts of a mask [X, Y, Z] that have a voxel of another one."""
    labels, count = ndimage.label(mask, structure=_BLOCK)
    chosen = np.zeros(count + 1, dtype=bool)
    chosen[np.unique(labels[mask & other])] = True
    chosen[0] = False
    return np.asarray(chosen[labels])


def _paths(
    ends: np.ndarray, start: np.ndarray, gap: np.ndarray, probability: np.ndarray, mm: np.ndarray
) -> np.ndarray:
    """The likeliest path through a gap to each part of a mask, and what of the gap lies beside it: [X, Y, Z].

    A path's length is weighted by minus the logarithm of the probability.
    """
    paths = np.zeros_like(ends)
    labels, count = ndimage.label(ends, structure=_BLOCK)
    if count == 0:
        return paths
    costs = np.where(gap, 0.01 - np.log(np.clip(probability, 1e-3, 1)), -1.0)  # negative: no way
    costs[start] = 0.01
    router = MCP_Geometric(costs, sampling=tuple(mm))
    # Only what a path may leave the implant from has to be a start.
    border = start & ndimage.binary_dilation(gap, structure=_BLOCK)
    lengths, _ = router.find_costs(np.argwhere(border))
    for number in range(1, count + 1):
        voxels = np.argwhere(labels == number)
        nearest = voxels[np.argmin(lengths[tuple(voxels.T)])]
        if np.isfinite(lengths[tuple(nearest)]):
            paths[tuple(np.array(router.traceback(nearest)).T)] = True
    reach = max(1, round(_STEP_MM / float(mm.min())))
    return np.asarray((paths | ndimage.binary_dilation(paths, iterations=reach)) & gap)


class CloseLikelyGapsd(MapTransform):
    """Dictionary version of :class:`CloseLikelyGaps`: changes the probabilities at ``keys``.

    Args:
        keys: keys of the probabilities.
        defective_key: key of the defective mask.
        threshold, gap_threshold, path_threshold, radius_mm, finest_mm, extract: as in :class:`CloseLikelyGaps`.
        allow_missing_keys: do not raise where a key is missing.
    """

    backend = CloseLikelyGaps.backend

    def __init__(
        self,
        keys: KeysCollection,
        defective_key: Hashable = "image",
        *,
        threshold: float = 0.5,
        gap_threshold: float | None = 0.25,
        path_threshold: float = 0.1,
        radius_mm: float = 8.0,
        finest_mm: float = 2.0,
        extract: ExtractImplant | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.defective_key = defective_key
        self.close = CloseLikelyGaps(
            threshold=threshold,
            gap_threshold=gap_threshold,
            path_threshold=path_threshold,
            radius_mm=radius_mm,
            finest_mm=finest_mm,
            extract=extract,
        )

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        out = dict(data)
        for key in self.key_iterator(out):
            out[key] = self.close(out[key], out[self.defective_key])
        return out


CloseLikelyGapsD = CloseLikelyGapsDict = CloseLikelyGapsd
