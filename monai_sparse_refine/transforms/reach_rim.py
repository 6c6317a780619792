"""Let an implant reach the rim of its hole, where the network is less sure."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, Transform
from monai.utils import TransformBackends
from scipy import ndimage
from torch import Tensor

from monai_sparse_refine.errors import InputError
from monai_sparse_refine.transforms.guess_average import MIRROR
from monai_sparse_refine.transforms.head import cranial_middle, without_holder
from monai_sparse_refine.transforms.implant import ExtractImplant
from monai_sparse_refine.transforms.implant_cleaning import through_wall
from monai_sparse_refine.transforms.mirror import MirrorImage
from monai_sparse_refine.transforms.probability_threshold import raised_over
from monai_sparse_refine.transforms.ras_grid import on_grid_of, on_ras_grid
from monai_sparse_refine.transforms.vault import vault_of
from monai_sparse_refine.transforms.vault_surface import InterpolateVault
from monai_sparse_refine.volume import as_mask, spacing_of

__all__ = ["ReachRim", "ReachRimD", "ReachRimDict", "ReachRimd"]

_SHARE = 0.1  # of a small hole's implant, even a small gap is much


class ReachRim(Transform):
    """Raise a network's probability between an implant and the rim of its hole, where it is nearly sure.

    One threshold has to decide two things: how thick an implant is, and how far it goes. At a thin rim, as over the
    orbits, the probability falls off early, and the implant ends short. A lower threshold for all would make all of
    it too thick. So the lower one counts only in directions, seen from the middle of the head, in which neither bone
    nor implant lies: it closes gaps and thickens nothing.

    What is open after that, the mirror image may close: a network finds much of a thin rim improbable that the other
    side of the head has. At last, at the glabella and high up, the interpolated vault: near the midline a hole lacks
    its mirror image too. Over the orbits it would close what is open in every head, and high up it would fill small
    openings that a mask has where the bone is thin, so that only larger ones count there.

    Args:
        threshold: probability from which a voxel belongs to the skull.
        rim_threshold: probability from which it does in such a direction.
        mirror_threshold: in a second step, fraction of bone in the mirror image from which it does; None: no such step.
        vault_threshold: in a third step, fraction of a voxel between the interpolated surfaces of the vault from which
            it does; None: no such step.
        vault_above_mm: how far above the base of the vault (:meth:`Vault.above_base`) that step begins.
        vault_least_ml: volume from which it closes a gap there; or a tenth of the implant, where that is less.
        midline_mm: how far to the right and left of the midline that step goes lower in front: between the orbits, at
            the glabella, there is bone in every head. 0: nowhere.
        midline_below_mm: how far below the base of the vault it goes there.
        guess_spacing: voxel size of mirror image and interpolated vault, mm.
        through_mm: how far in and out neither bone nor implant may lie.
        reach_mm: how far from the implant.
        extract: how the implant is told from noise; by default :class:`ExtractImplant` without parts below a fifth of
            the largest. Steps that share one find it once where it stays as it is.

    Raises:
        InputError: thresholds that are not 0 < rim_threshold <= threshold < 1, or another one not between 0 and 1.
    """

    backend = [TransformBackends.NUMPY]

    def __init__(
        self,
        *,
        threshold: float = 0.5,
        rim_threshold: float = 0.3,
        mirror_threshold: float | None = None,
        vault_threshold: float | None = None,
        vault_above_mm: float = 30.0,
        vault_least_ml: float = 1.0,
        midline_mm: float = 6.0,
        midline_below_mm: float = 10.0,
        guess_spacing: float = 1.0,
        through_mm: float = 10.0,
        reach_mm: float = 20.0,
        extract: ExtractImplant | None = None,
    ) -> None:
        if not 0 < rim_threshold <= threshold < 1:
            raise InputError(
                f"rim_threshold is {rim_threshold} and threshold {threshold}; expected "
                "0 < rim_threshold <= threshold < 1"
            )
        for name, value in (("mirror_threshold", mirror_threshold), ("vault_threshold", vault_threshold)):
            if value is not None and not 0 < value < 1:
                raise InputError(f"{name} is {value}; expected a fraction between 0 and 1, or None")
        self.threshold = threshold
        self.rim_threshold = rim_threshold
        self.mirror_threshold = mirror_threshold
        self.vault_threshold = vault_threshold
        self.vault_above_mm = vault_above_mm
        self.vault_least_ml = vault_least_ml
        self.midline_mm = midline_mm
        self.midline_below_mm = midline_below_mm
        self.guess_spacing = guess_spacing
        self.through_mm = through_mm
        self.reach_mm = reach_mm
        self.extract = ExtractImplant(min_relative_volume=0.2) if extract is None else extract
        self.mirror = MirrorImage(threshold=None, register=True)
        self.interpolate = InterpolateVault(below_mm=midline_below_mm)

    def __call__(  # type: ignore[override]
        self, probability: Tensor, defective: MetaTensor, guesses: MetaTensor | None = None
    ) -> Tensor:
        """Raise.

        Args:
            probability: of the completed skull, [1, X, Y, Z].
            defective: the skull with the hole, of the same shape, with its affine.
            guesses: skull and mirror image as they were made for a network, [2 or more, X', Y', Z'], in RAS
                orientation over a box of the same grid; None: the mirror image is made here.

        Returns:
            Probabilities in the container of ``probability``: just over the threshold where it was raised.
        """
        plain = probability.as_tensor() if isinstance(probability, MetaTensor) else probability
        bone = as_mask(defective)
        middle = cranial_middle(bone, defective)
        if middle is None:
            return probability
        out = plain
        implant: np.ndarray | None = None
        for candidates, least_ml in self._candidates(plain, bone, defective, guesses):
            # Telling the implant from noise takes longest, and a step that raises nothing leaves it as it is.
            if implant is None:
                completed = MetaTensor((out >= self.threshold).to(torch.uint8), affine=defective.affine)
                solid = as_mask(completed) | bone
                implant = as_mask(self.extract(completed, defective))
            gaps = self._gaps(candidates, implant, solid, defective, middle)
            least = least_ml * 1000 / float(np.prod(spacing_of(defective)))  # voxels
            raised = _large(gaps, min(least, _SHARE * int(implant.sum())))
            if raised.any():
                out = raised_over(out, raised, threshold=self.threshold)
                implant = None
        if out is plain:
            return probability
        return MetaTensor(out, meta=probability.meta) if isinstance(probability, MetaTensor) else out

    def _candidates(
        self, plain: Tensor, bone: np.ndarray, defective: MetaTensor, guesses: MetaTensor | None
    ) -> Iterator[tuple[np.ndarray, float]]:
        """What each step would raise where it closes a gap, [X, Y, Z], and from which volume on, in ml."""
        yield (plain[0] >= self.rim_threshold).cpu().numpy(), 0.0
        if self.mirror_threshold is not None:
            if guesses is None:
                other_side = on_ras_grid(self.mirror, bone, defective, spacing=self.guess_spacing)
            else:
                other_side = on_grid_of(guesses, defective, channel=MIRROR)
            yield other_side >= self.mirror_threshold, 0.0
        if self.vault_threshold is not None:
            fill = on_ras_grid(self.interpolate, bone, defective, spacing=self.guess_spacing)
            glabella, high = self._where_bone_is(fill >= self.vault_threshold, bone, defective)
            yield glabella, 0.0
            yield high, self.vault_least_ml

    def _where_bone_is(
        self, filled: np.ndarray, bone: np.ndarray, defective: MetaTensor
    ) -> tuple[np.ndarray, np.ndarray]:
        """The voxels of a mask [X, Y, Z] at the glabella, and those high above the base of the vault."""
        affine = defective.affine.cpu().numpy().astype(float)
        vault = vault_of(without_holder(bone, affine), affine)
        points = np.argwhere(filled)
        local = vault.local(points @ affine[:3, :3].T + affine[:3, 3])
        above = vault.above_base(local)
        front = (np.abs(local[:, 0]) < self.midline_mm) & (local[:, 1] > 0)
        is_high = above >= self.vault_above_mm
        glabella, high = np.zeros_like(filled), np.zeros_like(filled)
        glabella[tuple(points[front & ~is_high & (above >= -self.midline_below_mm)].T)] = True
        high[tuple(points[is_high].T)] = True
        return glabella, high

    def _gaps(
        self,
        candidates: np.ndarray,
        implant: np.ndarray,
        solid: np.ndarray,
        defective: MetaTensor,
        middle: np.ndarray,
    ) -> np.ndarray:
        """The candidates [X, Y, Z] between an implant and the rim, that nothing solid lies before or behind."""
        joined = through_wall(
            candidates & ~solid,
            implant,
            solid,
            spacing=spacing_of(defective),
            middle=middle,
            through_mm=self.through_mm,
            reach_mm=self.reach_mm,
        )
        return joined & ~solid


def _large(mask: np.ndarray, voxels: float) -> np.ndarray:
    """The parts of a mask [X, Y, Z] that have so many voxels; they may touch over edges and corners."""
    if voxels <= 1 or not mask.any():
        return mask
    labels, _ = ndimage.label(mask, structure=np.ones((3, 3, 3), dtype=bool))
    large = np.bincount(labels.ravel()) >= voxels
    large[0] = False
    return np.asarray(large[labels])


class ReachRimd(MapTransform):
    """Dictionary version of :class:`ReachRim`: changes the probabilities at ``keys``.

    A mirror image that lies at ``guesses_key`` is not made again; none has to.
    """

    backend = ReachRim.backend

    def __init__(
        self,
        keys: KeysCollection,
        defective_key: Hashable = "image",
        *,
        threshold: float = 0.5,
        rim_threshold: float = 0.3,
        mirror_threshold: float | None = None,
        vault_threshold: float | None = None,
        vault_above_mm: float = 30.0,
        vault_least_ml: float = 1.0,
        midline_mm: float = 6.0,
        midline_below_mm: float = 10.0,
        guess_spacing: float = 1.0,
        through_mm: float = 10.0,
        reach_mm: float = 20.0,
        extract: ExtractImplant | None = None,
        guesses_key: Hashable | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.defective_key = defective_key
        self.guesses_key = guesses_key
        self.reach = ReachRim(
            threshold=threshold,
            rim_threshold=rim_threshold,
            mirror_threshold=mirror_threshold,
            vault_threshold=vault_threshold,
            vault_above_mm=vault_above_mm,
            vault_least_ml=vault_least_ml,
            midline_mm=midline_mm,
            midline_below_mm=midline_below_mm,
            guess_spacing=guess_spacing,
            through_mm=through_mm,
            reach_mm=reach_mm,
            extract=extract,
        )

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        out = dict(data)
        for key in self.key_iterator(out):
            out[key] = self.reach(out[key], out[self.defective_key], out.get(self.guesses_key))
        return out


ReachRimD = ReachRimDict = ReachRimd
