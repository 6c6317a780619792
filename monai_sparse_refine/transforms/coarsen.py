"""Make coarse masks from fine ones: the task that super-resolution undoes."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.config.type_definitions import NdarrayOrTensor
from monai.data import MetaTensor
from monai.transforms import MapTransform, Transform
from monai.utils import TransformBackends

from monai_sparse_refine.errors import InputError
from monai_sparse_refine.transforms.target_grids import average_onto, target_grid
from monai_sparse_refine.volume import as_tensor

__all__ = ["CoarsenMask", "CoarsenMaskD", "CoarsenMaskDict", "CoarsenMaskd", "check_whole_factor"]


def check_whole_factor(factor: Any) -> Any:
    """The factor, one number or one for each axis, or InputError where masks cannot be cut into blocks by it."""
    factors = list(factor) if isinstance(factor, Sequence) and not isinstance(factor, str) else [factor]
    if not all(isinstance(f, (int, float)) and f >= 1 and float(f).is_integer() for f in factors):
        raise InputError(
            f"factor is {factor}; masks are coarsened and refined again by whole factors: give one, such as 2 or "
            "[2, 2, 4], and neither spacing nor target_shape"
        )
    return factor


class CoarsenMask(Transform):
    """Bring a mask to a coarser grid over the same box; a voxel is foreground where enough of it is.

    Args:
        factor: fine voxels per coarse voxel, one number or one for each axis (the shape is rounded).
        target_shape: voxels, instead of a factor.
        threshold: fraction of a voxel that must be foreground; None keeps the fractions (float32).

    Raises:
        InputError: both or neither of factor and target_shape, or values that are not positive; when called, for
            what is not [C, X, Y, Z].
    """

    backend = [TransformBackends.TORCH]

    def __init__(
        self,
        factor: float | Sequence[float] | None = None,
        *,
        target_shape: Sequence[int] | None = None,
        threshold: float | None = 0.5,
    ) -> None:
        if factor is None:
            self.size: dict[str, Any] = {"target_shape": target_shape}
        else:
            shares = [1 / f if f else 0 for f in (factor if isinstance(factor, Sequence) else [factor])]
            self.size = {"factor": shares if len(shares) > 1 else shares[0], "target_shape": target_shape}
        self.threshold = threshold
        target_grid((1, 1, 1), torch.eye(4), **self.size)

    def __call__(self, mask: NdarrayOrTensor) -> MetaTensor:
        """Coarsen [C, X, Y, Z]; without an affine a voxel counts as 1 mm."""
        source = mask if isinstance(mask, MetaTensor) else MetaTensor(as_tensor(mask))
        if source.ndim != 4:
            raise InputError(f"mask has shape {tuple(source.shape)}; expected one case [C, X, Y, Z]")
        grid = target_grid(tuple(source.shape[1:]), source.affine, **self.size)
        fractions = torch.stack([average_onto(c.float(), grid, doublings=0) for c in source.as_tensor()])
        values = fractions if self.threshold is None else (fractions >= self.threshold).to(source.dtype)
        out = MetaTensor(values, meta=dict(source.meta))
        out.affine = grid.affine
        return out


class CoarsenMaskd(MapTransform):
    """Dictionary version of :class:`CoarsenMask`.

    Args:
        keys: masks [C, X, Y, Z].
        factor, target_shape, threshold: see :class:`CoarsenMask`.
        allow_missing_keys: whether a missing key is passed over.
    """

    backend = CoarsenMask.backend

    def __init__(
        self,
        keys: KeysCollection,
        factor: float | Sequence[float] | None = None,
        *,
        target_shape: Sequence[int] | None = None,
        threshold: float | None = 0.5,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.transform = CoarsenMask(factor, target_shape=target_shape, threshold=threshold)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Coarsen every key."""
        out = dict(data)
        for key in self.key_iterator(out):
            out[key] = self.transform(out[key])
        return out


CoarsenMaskD = CoarsenMaskDict = CoarsenMaskd
