"""Bring a binary mask to a finer grid with a network that restores what coarse voxels have lost."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Literal

import torch
from monai.config import KeysCollection
from monai.config.type_definitions import NdarrayOrTensor
from monai.data import MetaTensor
from monai.networks.utils import eval_mode
from monai.transforms import InvertibleTransform, MapTransform, Transform
from monai.utils import TransformBackends
from torch import Tensor, nn

from monai_sparse_refine.errors import InputError
from monai_sparse_refine.networks import flip_average
from monai_sparse_refine.transforms.probability_threshold import checked_threshold, dice_threshold
from monai_sparse_refine.transforms.target_grids import TargetGrid, average_onto, reversed_grid, target_grid
from monai_sparse_refine.volume import as_tensor, bounding_box

__all__ = [
    "SuperResolve",
    "SuperResolveD",
    "SuperResolveDict",
    "SuperResolved",
    "checked_axes",
    "super_resolve",
]

_MARGIN = 6  # coarse voxels around the foreground: more than the network grows beyond it
_MOST_VOXELS = 2**31  # of a grid on the way: 8 GiB for each copy


def super_resolve(
    network: nn.Module,
    mask: Tensor,
    grid: TargetGrid,
    *,
    flip_axes: Sequence[int] = (),
    threshold: float | Literal["auto"] | None = None,
) -> Tensor:
    """Probability of the foreground on a target grid, or the mask of a threshold.

    The network doubles the mask's resolution until no voxel is larger than the target's; the probabilities of what
    it made are then averaged over every voxel of the target. A target that is coarser on all axes takes the mean of
    the mask itself.

    Args:
        network: such as :class:`monai_sparse_refine.networks.MaskSuperResolver`; it runs where its parameters are.
        mask: [X, Y, Z], values above 0.5 are foreground.
        grid: target, made by :func:`monai_sparse_refine.transforms.target_grid` for this mask.
        flip_axes: the network also sees the mask flipped along each of these spatial axes, and its probabilities are
            averaged: a little better, and a run of the network each.
        threshold: probability from which a voxel belongs to the mask; "auto", for networks whose probabilities
            mean what they say, is :func:`monai_sparse_refine.transforms.dice_threshold`, and 0.5 where the target is
            coarser on all axes; None returns the probabilities.

    Returns:
        float32 [*grid.shape] on the network's device; 0 and 1 with a threshold.
    """
    device = next((parameter.device for parameter in network.parameters()), mask.device)
    coarse = mask.as_subclass(Tensor).to(device) > 0.5
    box = bounding_box(coarse.cpu().numpy(), margin=_MARGIN)
    if box is None:
        return torch.zeros(grid.shape, device=device)
    coarse = coarse[box]
    inner = grid.seen_from([side.start for side in box])
    left = doublings = grid.doublings
    made = coarse.numel() * 8**doublings
    if made > _MOST_VOXELS:
        raise InputError(
            f"target of {grid.shape} voxels needs {made / 1e9:.0f} billion on the way, {8**doublings} for each of "
            "the mask's: doubling goes by the axis that is to become finest against the mask's own voxels; ask for a "
            "coarser spacing along it, or coarsen the mask along the other axes first (CoarsenMask)"
        )
    probability = coarse.float()  # (x, y, z)
    while left:
        steps = min(left, getattr(network, "max_steps", left))
        with eval_mode(network):
            binary = (probability > 0.5).float()[None, None]
            probability = flip_average(network, binary, spatial_axes=flip_axes, steps=steps)[0, 0].float()
        left -= steps
    fine = average_onto(probability, inner, doublings=doublings)
    if threshold is None:
        return fine
    if threshold == "auto":
        threshold = dice_threshold(fine) if doublings else 0.5  # shares of known voxels are no guesses
    return (fine >= threshold).float()


def checked_axes(flip_axes: Sequence[int]) -> tuple[int, ...]:
    """Spatial axes to flip, or InputError for what is none."""
    axes = tuple(flip_axes)
    if any(axis not in (0, 1, 2) for axis in axes):
        raise InputError(f"flip_axes is {list(axes)}; expected some of the spatial axes 0, 1 and 2")
    return axes


class SuperResolve(InvertibleTransform, Transform):
    """Super-resolve a mask to a factor, a spacing or a shape; the affine follows.

    The inverse brings a mask of the fine grid back to the coarse one by the same rule that makes coarse masks: a
    voxel is foreground where at least half of it is.

    Args:
        network: such as :class:`monai_sparse_refine.networks.MaskSuperResolver`, with its weights.
        factor, spacing, target_shape: one of them; see
            :func:`monai_sparse_refine.transforms.target_grid`.
        scale_extent: as in ``monai.transforms.Spacing``: True keeps the edges of the volume, False the centres of its
            first voxels.
        flip_axes: spatial axes along which the network also sees the mask flipped; see :func:`super_resolve`.
        threshold: probability from which a voxel belongs to the mask, or "auto"; see :func:`super_resolve`. None
            returns the probabilities (float32).

    Raises:
        InputError: when called, for what is not [1, X, Y, Z], or an impossible grid.
    """

    backend = [TransformBackends.TORCH]

    def __init__(
        self,
        network: nn.Module,
        *,
        factor: float | Sequence[float] | None = None,
        spacing: float | Sequence[float] | None = None,
        target_shape: Sequence[int] | None = None,
        scale_extent: bool = True,
        flip_axes: Sequence[int] = (),
        threshold: float | Literal["auto"] | None = 0.5,
    ) -> None:
        self.network = network
        self.size: dict[str, Any] = {"factor": factor, "spacing": spacing, "target_shape": target_shape}
        self.scale_extent = scale_extent
        self.flip_axes = checked_axes(flip_axes)
        self.threshold = checked_threshold(threshold)
        target_grid(
            (1, 1, 1), torch.eye(4), **self.size
        )  # an impossible size is refused here, not with the data

    def __call__(self, mask: NdarrayOrTensor) -> MetaTensor:
        """Super-resolve a mask.

        Args:
            mask: [1, X, Y, Z]; without an affine a voxel counts as 1 mm.

        Returns:
            [1, *fine shape] in the mask's dtype (float32 for probabilities), with its metadata and the new affine.
        """
        source = mask if isinstance(mask, MetaTensor) else MetaTensor(as_tensor(mask))
        if source.ndim != 4 or source.shape[0] != 1:
            raise InputError(f"mask has shape {tuple(source.shape)}; expected one binary mask [1, X, Y, Z]")
        shape = tuple(source.shape[1:])
        grid = target_grid(shape, source.affine, scale_extent=self.scale_extent, **self.size)
        volume = source.as_tensor()[0]
        values = super_resolve(
            self.network, volume, grid, flip_axes=self.flip_axes, threshold=self.threshold
        )[None].to(source.device)
        if self.threshold is not None:
            values = values.to(source.dtype)
        out = MetaTensor(values, meta=dict(source.meta))
        out.affine = grid.affine
        out.applied_operations = list(source.applied_operations)
        info = {
            "shape": list(shape),
            "affine": source.affine.tolist(),
            "step": list(grid.step),
            "first": list(grid.first),
            "is_mask": self.threshold is not None,
        }
        self.push_transform(out, extra_info=info)
        return out

    def inverse(self, data: MetaTensor) -> MetaTensor:
        """Bring [1, *fine shape] back to the coarse grid: the mean of values, at least half for a mask."""
        info = self.pop_transform(data)["extra_info"]
        affine = torch.tensor(info["affine"], dtype=torch.float64)
        coarse = reversed_grid(info["shape"], affine, step=info["step"], first=info["first"])
        values = average_onto(data.as_tensor()[0].float(), coarse, doublings=0)[None]
        if info["is_mask"]:
            values = (values >= 0.5).to(data.dtype)
        out = MetaTensor(values, meta=dict(data.meta))
        out.affine = coarse.affine
        out.applied_operations = list(data.applied_operations)
        return out


class SuperResolved(MapTransform, InvertibleTransform):
    """Dictionary version of :class:`SuperResolve`.

    Args:
        keys: masks [1, X, Y, Z].
        network, factor, spacing, target_shape, scale_extent, flip_axes, threshold: see :class:`SuperResolve`.
        allow_missing_keys: whether a missing key is passed over.
    """

    backend = SuperResolve.backend

    def __init__(
        self,
        keys: KeysCollection,
        network: nn.Module,
        *,
        factor: float | Sequence[float] | None = None,
        spacing: float | Sequence[float] | None = None,
        target_shape: Sequence[int] | None = None,
        scale_extent: bool = True,
        flip_axes: Sequence[int] = (),
        threshold: float | Literal["auto"] | None = 0.5,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.transform = SuperResolve(
            network,
            factor=factor,
            spacing=spacing,
            target_shape=target_shape,
            scale_extent=scale_extent,
            flip_axes=flip_axes,
            threshold=threshold,
        )

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Super-resolve every key."""
        out = dict(data)
        for key in self.key_iterator(out):
            out[key] = self.transform(out[key])
        return out

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Bring every key back to its coarse grid."""
        out = dict(data)
        for key in self.key_iterator(out):
            out[key] = self.transform.inverse(out[key])
        return out


SuperResolveD = SuperResolveDict = SuperResolved
