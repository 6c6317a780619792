"""Run the network again around the implant, on other grids, and average its answers."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from itertools import product

import nibabel as nib
import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.inferers import Inferer, SimpleInferer
from monai.networks.utils import eval_mode
from torch import Tensor, nn

from monai_sparse_refine.errors import InputError
from monai_sparse_refine.transforms.guess_average import AverageAround, AverageGuessd, Surroundings
from monai_sparse_refine.transforms.implant import ExtractImplant
from monai_sparse_refine.transforms.ras_grid import on_grid_of
from monai_sparse_refine.transforms.resample import ResampleToSpacing
from monai_sparse_refine.volume import affine_of_box, bounding_box, spacing_of

__all__ = ["AverageGrids", "AverageGridsD", "AverageGridsDict", "AverageGridsd"]


class AverageGrids(AverageAround):
    """Mean of a network's probability and its answers on other grids, around an implant.

    What a network answers depends a little on where the voxels of its grid lie and how large they are: a mean of
    several answers is better than each, and a finer grid shows it detail. It does not have to see the whole head on
    each: it gets the box around the implant that it has found, with some context, which costs a fraction of the
    first run and lets no false parts in elsewhere. Away from the implant the probability stays as it is.

    Args:
        network: from [1, C, X', Y', Z'] to logits [1, 1, X', Y', Z']; C channels as the guesses have them.
        spacings: mm of the other grids; each answer counts as much as the probability there is. None at all: that
            stays as it is.
        inferer: how the network is run, such as :class:`monai_sparse_refine.inferers.FlipAverageInferer`;
            ``SimpleInferer`` by default.
        threshold: probability from which a voxel belongs to the skull.
        context_mm: how far around the implant the network sees.
        max_box_voxels: most voxels of the box on any grid: a larger box, such as that of weights which fill the whole
            head, gets a grid as much coarser as this takes. Holes of 12 cm fit on 1 mm.
        margin_mm: how far around the implant the mean is taken.
        extract: how the implant is told from noise; by default :class:`ExtractImplant` without parts below a fifth of
            the largest. Steps that share one find it once where it stays as it is.

    Raises:
        InputError: a spacing or number of voxels that is not above 0; when called, no guesses.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        spacings: Sequence[float] = (1.75, 1.25, 1.0),
        inferer: Inferer | None = None,
        threshold: float = 0.5,
        context_mm: float = 16.0,
        max_box_voxels: int = 4_000_000,
        margin_mm: float = 8.0,
        extract: ExtractImplant | None = None,
    ) -> None:
        if not all(spacing > 0 for spacing in spacings):
            raise InputError(f"spacings are {tuple(spacings)}; expected mm, each above 0")
        if max_box_voxels < 1:
            raise InputError(f"max_box_voxels is {max_box_voxels}; expected at least 1")
        super().__init__(
            threshold=threshold,
            weight=len(spacings) / (1 + len(spacings)),
            finest_mm=float("inf") if spacings else 0.0,
            margin_mm=margin_mm,
            extract=extract,
        )
        self.network = network
        self.spacings = tuple(spacings)
        self.inferer = SimpleInferer() if inferer is None else inferer
        self.context_mm = context_mm
        self.max_box_voxels = max_box_voxels

    def other(self, defective: MetaTensor, guesses: MetaTensor | None, around: Surroundings) -> np.ndarray:
        """Mean of the answers on the other grids; 0 far from the implant.

        Raises:
            InputError: no guesses.
        """
        if guesses is None:
            raise InputError(
                "AverageGrids needs what the network was given, before it went to the working grid: copy it with "
                "CopyItemsd in the preprocessing, and give its key as guesses_key"
            )
        box = self._box(defective, guesses, around)
        affine = torch.as_tensor(affine_of_box(guesses.affine, box))
        region = (slice(None), *box)
        part = MetaTensor(guesses.as_tensor()[region].float(), affine=affine)
        whole = torch.zeros(1, *guesses.shape[1:])
        whole[region] = sum(self._answer(part, spacing) for spacing in self.spacings)
        return on_grid_of(MetaTensor(whole / len(self.spacings), affine=guesses.affine), defective)

    def trusts(self, other: np.ndarray, around: Surroundings, defective: MetaTensor) -> bool:
        """Always: it is the same network."""
        return True

    def _box(
        self, defective: MetaTensor, guesses: MetaTensor, around: Surroundings
    ) -> tuple[slice, slice, slice]:
        """The box around the implant, with the context, on the guesses' grid."""
        found = bounding_box(around.implant)
        assert found is not None  # an implant that has surroundings is not empty
        corners = np.array(list(product(*((part.start - 0.5, part.stop - 0.5) for part in found))))
        there, here = (volume.affine.cpu().numpy().astype(float) for volume in (guesses, defective))
        voxels = nib.affines.apply_affine(np.linalg.inv(there) @ here, corners)
        context = self.context_mm / np.asarray(spacing_of(guesses))
        # Rounded, so that a turned volume has the same box in spite of the last bits.
        low = np.floor((voxels.min(0) + 0.5 - context).round(3)).astype(int).clip(0)
        high = np.ceil((voxels.max(0) + 0.5 + context).round(3)).astype(int)
        x, y, z = (slice(a, min(b, n)) for a, b, n in zip(low, high, guesses.shape[1:], strict=True))
        return x, y, z

    def _least_spacing(self, part: MetaTensor) -> float:
        """Spacing in mm of the finest grid on which the box [C, X', Y', Z'] is not too large."""
        volume = float(np.prod(part.shape[1:])) * float(np.prod(spacing_of(part)))
        return float(np.cbrt(volume / self.max_box_voxels))

    def _answer(self, part: MetaTensor, spacing: float) -> Tensor:
        """Probability [1, X', Y', Z'] on the grid of [C, X', Y', Z'], found on one of another spacing."""
        resample = ResampleToSpacing(max(spacing, self._least_spacing(part)), threshold=None)
        seen = resample(part)
        device = next((parameter.device for parameter in self.network.parameters()), torch.device("cpu"))
        with torch.no_grad(), eval_mode(self.network):
            logits = self.inferer(seen.as_tensor()[None].to(device), self.network)
        answer = MetaTensor(logits[0].float().sigmoid().cpu(), meta=seen.meta)
        answer.applied_operations = seen.applied_operations
        return resample.inverse(answer).as_tensor()


class AverageGridsd(AverageGuessd):
    """Dictionary version of :class:`AverageGrids`: changes the probabilities at ``keys``."""

    def __init__(
        self,
        keys: KeysCollection,
        network: nn.Module,
        defective_key: Hashable = "image",
        *,
        guesses_key: Hashable = "guesses",
        spacings: Sequence[float] = (1.75, 1.25, 1.0),
        inferer: Inferer | None = None,
        threshold: float = 0.5,
        context_mm: float = 16.0,
        max_box_voxels: int = 4_000_000,
        margin_mm: float = 8.0,
        extract: ExtractImplant | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        average = AverageGrids(
            network,
            spacings=spacings,
            inferer=inferer,
            threshold=threshold,
            context_mm=context_mm,
            max_box_voxels=max_box_voxels,
            margin_mm=margin_mm,
            extract=extract,
        )
        super().__init__(
            keys, defective_key, average, guesses_key=guesses_key, allow_missing_keys=allow_missing_keys
        )


AverageGridsD = AverageGridsDict = AverageGridsd
