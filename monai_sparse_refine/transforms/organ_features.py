"""What a refiner of several organs gets for each voxel in and around a mask: mask, prior, intensity, which organ."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
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
from monai_sparse_refine.volume import as_tensor, spacing_of

__all__ = ["OrganFeatures", "OrganFeaturesD", "OrganFeaturesDict", "OrganFeaturesd"]

ORGANS = ("esophagus", "heart", "trachea", "aorta")
MIXED = ("heart",)  # muscle, and blood that may carry contrast


class OrganFeatures(Transform):
    """Make the input of a :class:`monai_sparse_refine.networks.MaskRefiner` that serves several organs.

    Channels, 0 outside the band but for what is said:

    0. band: 1 up to ``band_mm`` from the mask's surface to either side (along each axis); the network's active voxels;
    1. the mask; 0.5 in its core, deeper inside than the band, which the network takes as it is (``core_channel``);
    2. prior: the dense network's probability, or without one the mask blurred by ``blur_mm``;
    3. and 4. intensity, from -1 to 1 over either window, 0 where there are no intensities;
    5. and 6. 1 where intensities, and where a probability, were given;
    7. and on: 1 in the channel of the organ;
    last: how far the intensity is from the organ's own in this scan, from -1 to 1 over ``own_hu`` to either side, 0
    where there are no intensities. The organ's own is the median over the whole mask: a patch of the surface alone
    does not tell contrast from bone beside a vessel without. 0 for organs of more than one tissue, such as the heart.

    Args:
        organs: names of the organs, in the order of their channels.
        band_mm: width of the band to either side of the surface, mm.
        blur_mm: standard deviation of the Gaussian that blurs the mask, mm.
        windows: (low, high) in HU of the two intensity channels.
        own_hu: HU from the organ's own intensity to the end of the last channel's window.
        mixed: those of ``organs`` that have no one intensity of their own.
    """

    backend = [TransformBackends.TORCH]

    def __init__(
        self,
        *,
        organs: Sequence[str] = ORGANS,
        band_mm: float = 5.0,
        blur_mm: float = 2.0,
        windows: Sequence[Sequence[float]] = ((-200.0, 400.0), (-1000.0, 200.0)),
        own_hu: float = 100.0,
        mixed: Sequence[str] = MIXED,
    ) -> None:
        if not organs:
            raise InputError("organs is empty; name at least one")
        if not (band_mm >= 0 and blur_mm > 0):
            raise InputError(
                f"band_mm is {band_mm} and blur_mm {blur_mm}; expected 0 or more, and more than 0"
            )
        if len(windows) != 2 or not all(low < high for low, high in windows):
            raise InputError(f"windows is {windows}; expected two pairs of HU, low < high")
        if not own_hu > 0:
            raise InputError(f"own_hu is {own_hu}; expected more than 0 HU")
        self.organs = tuple(organs)
        self.band_mm = band_mm
        self.blur_mm = blur_mm
        self.windows = tuple((float(low), float(high)) for low, high in windows)
        self.own_hu = own_hu
        self.mixed = tuple(mixed)

    @property
    def channels(self) -> int:
        """Number of channels."""
        return 8 + len(self.organs)

    def __call__(  # type: ignore[override]
        self,
        mask: Tensor,
        organ: str,
        intensity: Tensor | None = None,
        probability: Tensor | None = None,
        reference: float | None = None,
    ) -> MetaTensor:
        """Make the features.

        Args:
            mask: binary [1, X, Y, Z] MetaTensor; its affine gives the spacing.
            organ: one of ``organs``.
            intensity: HU [1, X, Y, Z] on the same grid.
            probability: of this organ, [1, X, Y, Z]: 0 to 1, or 0 to 255 in uint8.
            reference: the organ's own intensity, HU, where the mask is a part of it; None takes the mask's.

        Returns:
            float32 MetaTensor [channels, X, Y, Z].

        Raises:
            InputError: another organ, or another grid.
        """
        if organ not in self.organs:
            raise InputError(
                f"label {organ!r} is none of the organs {', '.join(self.organs)}: choose a label_preset, or name it, "
                f"as labels={{{self.organs[0]!r}: ID}}"
            )
        source = mask if isinstance(mask, MetaTensor) else MetaTensor(as_tensor(mask))
        plain = (as_tensor(source)[0] > 0.5).numpy()  # (X, Y, Z)
        for name, volume in (("intensity", intensity), ("probability", probability)):
            if volume is not None and tuple(volume.shape) != tuple(source.shape):
                raise InputError(f"{name} has shape {tuple(volume.shape)}, the mask {tuple(source.shape)}")
        mm = spacing_of(source)
        reach = [int(self.band_mm / step) for step in mm]
        # A scan that ends within an organ has no surface there.
        core = ~_within_reach(~plain, reach)
        band = torch.from_numpy(_within_reach(plain, reach) & ~core).float()
        # Memory from numpy is zero without being written, which is faster where most of it stays so.
        out = torch.from_numpy(np.zeros((self.channels, *plain.shape), dtype=np.float32))
        out[0] = band
        torch.sub(
            torch.from_numpy(plain.astype(np.float32)),
            torch.from_numpy(core.view(np.uint8)),
            alpha=0.5,
            out=out[1],
        )
        if probability is None:
            sigma = [self.blur_mm / step for step in mm]
            blurred = ndimage.gaussian_filter(plain.astype(np.float32), sigma, mode="nearest", truncate=2.5)
            torch.mul(torch.from_numpy(blurred), band, out=out[2])
        else:
            given = as_tensor(probability)
            torch.mul(given[0].float(), band / 255 if given.dtype == torch.uint8 else band, out=out[2])
            out[6] = band
        if intensity is not None:
            hu = as_tensor(intensity)[0].float()
            for channel, (low, high) in enumerate(self.windows, start=3):
                scaled = ((hu - low) * (2 / (high - low)) - 1).clamp_(-1, 1)
                torch.mul(scaled, band, out=out[channel])
            out[5] = band
            if organ not in self.mixed:
                own = typical_intensity(plain, hu) if reference is None else reference
                torch.mul(((hu - own) * (1 / self.own_hu)).clamp_(-1, 1), band, out=out[-1])
        out[7 + self.organs.index(organ)] = band
        return MetaTensor(out, meta=dict(source.meta), applied_operations=list(source.applied_operations))


class OrganFeaturesd(MapTransform):
    """Dictionary version of :class:`OrganFeatures`, as a recipe's preprocessing uses it.

    Args:
        keys: keys of the masks; each is replaced by its features.
        organ_key: key of the organ's name.
        intensity_key, probability_key, reference_key: keys of what there may be besides; a missing one is left out.
        organs, band_mm, blur_mm, windows, own_hu, mixed: see :class:`OrganFeatures`.
        allow_missing_keys: do not raise where a key is missing.
    """

    backend = OrganFeatures.backend

    def __init__(
        self,
        keys: KeysCollection,
        *,
        organ_key: Hashable = "label",
        intensity_key: Hashable = "intensity",
        probability_key: Hashable = "probability",
        reference_key: Hashable = "reference",
        organs: Sequence[str] = ORGANS,
        band_mm: float = 5.0,
        blur_mm: float = 2.0,
        windows: Sequence[Sequence[float]] = ((-200.0, 400.0), (-1000.0, 200.0)),
        own_hu: float = 100.0,
        mixed: Sequence[str] = MIXED,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.organ_key = organ_key
        self.intensity_key = intensity_key
        self.probability_key = probability_key
        self.reference_key = reference_key
        self.features = OrganFeatures(
            organs=organs, band_mm=band_mm, blur_mm=blur_mm, windows=windows, own_hu=own_hu, mixed=mixed
        )

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Replace the [1, X, Y, Z] masks of a dictionary by their features."""
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self.features(
                d[key],
                d[self.organ_key],
                d.get(self.intensity_key),
                d.get(self.probability_key),
                d.get(self.reference_key),
            )
        return d


def typical_intensity(mask: np.ndarray, intensity: Tensor) -> float:
    """Median of the intensities [X, Y, Z] within a boolean mask, which half of wrong voxels cannot move; 0 for none."""
    inside = intensity.numpy()[mask]
    return float(np.median(inside)) if len(inside) else 0.0


def _within_reach(mask: np.ndarray, reach: Sequence[int]) -> np.ndarray:
    """Voxels with one of a boolean mask within so many voxels to either side, one axis after the other.

    The same as a maximum filter, by shifts, three times as fast.
    """
    out = mask
    for axis, radius in enumerate(reach):
        done = 0
        while done < radius:
            step = min(2 * done + 1, radius - done)  # a longer one would leave gaps
            wider = out.copy()
            away, back = np.moveaxis(out, axis, 0), np.moveaxis(wider, axis, 0)
            back[step:] |= away[:-step]
            back[:-step] |= away[step:]
            out, done = wider, done + step
    return out


OrganFeaturesD = OrganFeaturesDict = OrganFeaturesd
