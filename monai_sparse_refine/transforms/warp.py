"""Random smooth deformation of masks: one affine and one elastic field, one interpolation."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.data.utils import affine_to_spacing
from monai.transforms import MapTransform, RandomizableTransform
from monai.utils import TransformBackends, convert_to_dst_type
from torch import Tensor

from monai_sparse_refine.volume import as_tensor


class RandWarpMask(RandomizableTransform):
    """Deform a 3D mask at random: anisotropic scale, rotation, mirror flip and a smooth elastic field.

    All parts are composed into one sampling field, so the mask is interpolated once (thin bone does not survive
    several interpolations). The output lies on the input's grid; what leaves it is cut off, as at the edge of a
    scan.

    Args:
        prob: probability of deforming at all.
        scale: largest relative change of size per axis (0.1: 0.9 to 1.1).
        rotation: largest rotation about each axis, in degrees.
        elastic_mm: largest displacement of the control points, in mm.
        control_mm: spacing of the control points, in mm; the field between them is interpolated.
        flip_prob: probability of mirroring the first axis (left and right in RAS).
        threshold: a voxel of the result is foreground from this interpolated value on.
        coarse_mm: a mask with a longer voxel side is too coarse to be interpolated (thin bone would not survive):
            it is flipped, and its voxel size scaled, by the affine alone. None: never.
        crop_end: crop a mask that goes on to the last slice of the third axis, as that of a head whose scan ends
            below the vertex, to the slices below what was not scanned. Its end would be tilted and wavy else, as no
            scan's is.
    """

    backend = [TransformBackends.TORCH]

    def __init__(
        self,
        *,
        prob: float = 1.0,
        scale: float = 0.12,
        rotation: float = 12.0,
        elastic_mm: float = 6.0,
        control_mm: float = 40.0,
        flip_prob: float = 0.5,
        threshold: float = 0.45,
        coarse_mm: float | None = None,
        crop_end: bool = False,
    ) -> None:
        RandomizableTransform.__init__(self, prob)
        self.scale = scale
        self.rotation = rotation
        self.elastic_mm = elastic_mm
        self.control_mm = control_mm
        self.flip_prob = flip_prob
        self.threshold = threshold
        self.coarse_mm = coarse_mm
        self.crop_end = crop_end
        self.factors = np.ones(3)
        self.linear = np.eye(3)
        self.seed = 0

    def set_random_state(
        self, seed: int | None = None, state: np.random.RandomState | None = None
    ) -> RandWarpMask:
        """Seed the draws."""
        super().set_random_state(seed, state)
        return self

    def randomize(self, data: Any = None) -> None:
        """Draw the linear part and the seed of the elastic field."""
        super().randomize(None)
        if not self._do_transform:
            return
        factors = 1 + self.R.uniform(-self.scale, self.scale, 3)
        if self.R.uniform() < self.flip_prob:
            factors[0] = -factors[0]
        angles = np.deg2rad(self.R.uniform(-self.rotation, self.rotation, 3))
        self.factors = factors
        self.linear = _rotation(angles) @ np.diag(factors)
        self.seed = int(self.R.randint(2**31))

    def __call__(self, mask: Tensor, randomize: bool = True) -> Tensor:
        """Deform a [C, X, Y, Z] mask; a MetaTensor's affine gives the spacing (else 1 mm)."""
        if randomize:
            self.randomize()
        warped, end = self.deform(mask)
        return warped[..., :end]

    def deform(self, mask: Tensor) -> tuple[Tensor, int]:
        """Repeat the last draw's deformation on a [C, X, Y, Z] mask.

        Returns:
            The mask on its whole grid, and its first slice beyond what was scanned.
        """
        if not self._do_transform:
            return mask, mask.shape[-1]
        affine = mask.affine if isinstance(mask, MetaTensor) else torch.eye(4)
        spacing = torch.as_tensor(affine_to_spacing(affine, r=3)).float()
        plain = as_tensor(mask)
        if self.coarse_mm is not None and float(spacing.max()) > self.coarse_mm:
            return self._scale_grid(plain, affine), mask.shape[-1]
        field = self._field(plain.shape[1:], spacing)  # (1, X, Y, Z, 3) mm from the centre, in the source
        half = torch.tensor([float(n) for n in plain.shape[1:]]) * spacing / 2
        grid = (field / half).flip(-1)  # grid_sample wants the last axis first
        values = F.grid_sample(plain[None].float(), grid, mode="bilinear", align_corners=False)[0]
        warped = (values >= self.threshold).to(plain.dtype)
        end = mask.shape[-1]
        if self.crop_end and bool(plain[..., -1].any()):
            columns = (warped != 0).any(dim=0).any(dim=-1)  # (X, Y): where there is bone at some height
            # A slice's last half voxel is interpolated with the nothing beyond.
            outside = field[0, ..., 2][columns] > half[2] - spacing[2] / 2
            beyond = outside.any(dim=0).nonzero()
            end = max(1, int(beyond[0])) if len(beyond) else end
        return convert_to_dst_type(warped, mask)[0], end

    def _scale_grid(self, plain: Tensor, affine: Tensor) -> MetaTensor:
        """The same voxels, flipped and with another size, about the middle of the volume."""
        flipped = plain.flip(1) if self.factors[0] < 0 else plain.clone()
        middle = affine.new_tensor([(n - 1) / 2 for n in plain.shape[1:]])
        scaled = affine.clone()
        scaled[:3, :3] = affine[:3, :3] @ torch.diag(affine.new_tensor(np.abs(self.factors)))
        scaled[:3, 3] = affine[:3, :3] @ middle + affine[:3, 3] - scaled[:3, :3] @ middle
        return MetaTensor(flipped, affine=scaled)

    def _field(self, shape: torch.Size, spacing: Tensor) -> Tensor:
        inverse = torch.as_tensor(np.linalg.inv(self.linear)).float()
        axes = [(torch.arange(n) + 0.5 - n / 2) * mm for n, mm in zip(shape, spacing.tolist(), strict=True)]
        field = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1) @ inverse.T  # (X, Y, Z, 3)
        if self.elastic_mm > 0:
            controls = [
                max(4, round(n * mm / self.control_mm) + 1)
                for n, mm in zip(shape, spacing.tolist(), strict=True)
            ]
            draw = np.random.RandomState(self.seed).uniform(-1, 1, (1, 3, *controls)) * self.elastic_mm
            smooth = F.avg_pool3d(
                torch.as_tensor(draw).float(), 2, stride=1
            )  # takes the corners off the field
            shift = F.interpolate(smooth, size=tuple(shape), mode="trilinear", align_corners=True)
            field = field + shift[0].movedim(0, -1)
        return field[None]


class RandWarpMaskd(MapTransform, RandomizableTransform):
    """Dictionary version of :class:`RandWarpMask`: the same deformation for every key, cropped as the first."""

    backend = RandWarpMask.backend

    def __init__(
        self,
        keys: KeysCollection,
        *,
        prob: float = 1.0,
        scale: float = 0.12,
        rotation: float = 12.0,
        elastic_mm: float = 6.0,
        control_mm: float = 40.0,
        flip_prob: float = 0.5,
        threshold: float = 0.45,
        coarse_mm: float | None = None,
        crop_end: bool = False,
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, 1.0)
        self.warp = RandWarpMask(
            prob=prob,
            scale=scale,
            rotation=rotation,
            elastic_mm=elastic_mm,
            control_mm=control_mm,
            flip_prob=flip_prob,
            threshold=threshold,
            coarse_mm=coarse_mm,
            crop_end=crop_end,
        )

    def set_random_state(
        self, seed: int | None = None, state: np.random.RandomState | None = None
    ) -> RandWarpMaskd:
        self.warp.set_random_state(seed, state)
        super().set_random_state(seed, state)
        return self

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        out = dict(data)
        self.warp.randomize()
        end = None
        for key in self.key_iterator(out):
            warped, own_end = self.warp.deform(out[key])
            end = own_end if end is None else end
            out[key] = warped[..., :end]
        return out


def _rotation(angles: np.ndarray) -> np.ndarray:
    """Rotation matrix about the three axes in turn (radians)."""
    matrix = np.eye(3)
    for axis, angle in enumerate(angles):
        cosine, sine = np.cos(angle), np.sin(angle)
        turn = np.eye(3)
        a, b = [i for i in range(3) if i != axis]
        turn[a, a] = turn[b, b] = cosine
        turn[a, b], turn[b, a] = -sine, sine
        matrix = turn @ matrix
    return matrix


RandWarpMaskD = RandWarpMaskDict = RandWarpMaskd
