"""Super-resolution inside a MONAI evaluator: coarse masks in, probabilities or masks on the target grid out."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from monai.data import MetaTensor
from monai.data.utils import collate_meta_tensor
from monai.inferers import Inferer
from torch import Tensor, nn

from monai_sparse_refine.errors import InputError
from monai_sparse_refine.transforms import super_resolve, target_grid
from monai_sparse_refine.transforms.probability_threshold import checked_threshold
from monai_sparse_refine.transforms.super_resolution import checked_axes

__all__ = ["SuperResolutionInferer"]


class SuperResolutionInferer(Inferer):
    """Run a super-resolution network to a factor, a spacing or a shape; the affine of the result follows.

    Args:
        factor, spacing, target_shape: one of them; see :func:`monai_sparse_refine.transforms.target_grid`.
        scale_extent: as in ``monai.transforms.Spacing``: True keeps the edges of the volume, False the centres of its
            first voxels.
        flip_axes: spatial axes along which the network also sees the mask flipped, and is averaged.
        threshold: probability from which a voxel belongs to the mask, or "auto"; see
            :func:`monai_sparse_refine.transforms.super_resolve`. None returns the probabilities.

    Raises:
        InputError: for an impossible size or threshold; when called, for a batch of more than one channel, or of cases
            whose fine grids differ.
    """

    def __init__(
        self,
        *,
        factor: float | Sequence[float] | None = None,
        spacing: float | Sequence[float] | None = None,
        target_shape: Sequence[int] | None = None,
        scale_extent: bool = True,
        flip_axes: Sequence[int] = (),
        threshold: float | Literal["auto"] | None = None,
    ) -> None:
        self.size: dict[str, Any] = {"factor": factor, "spacing": spacing, "target_shape": target_shape}
        self.scale_extent = scale_extent
        self.options: dict[str, Any] = {
            "flip_axes": checked_axes(flip_axes),
            "threshold": checked_threshold(threshold),
        }
        target_grid((1, 1, 1), torch.eye(4), **self.size)

    def __call__(self, inputs: Tensor, network: Callable, *args: Any, **kwargs: Any) -> Tensor:
        """Super-resolve a batch.

        Args:
            inputs: [B, 1, X, Y, Z] masks; without affines a voxel counts as 1 mm.
            network: such as :class:`monai_sparse_refine.networks.MaskSuperResolver`.
            args, kwargs: unused.

        Returns:
            Probabilities, or masks of 0 and 1, [B, 1, *fine shape], a float32 MetaTensor with the affines of the
            fine grids and the files' names.
        """
        if inputs.ndim != 5 or inputs.shape[1] != 1:
            raise InputError(f"batch has shape {tuple(inputs.shape)}; expected binary masks [B, 1, X, Y, Z]")
        affines = inputs.affine if isinstance(inputs, MetaTensor) else torch.eye(4)
        affines = affines.reshape(-1, 4, 4).expand(len(inputs), 4, 4)
        if not isinstance(network, nn.Module):
            raise InputError(
                "network is no torch module; SuperResolutionInferer runs one of MaskSuperResolver's kind"
            )
        names = inputs.meta.get("filename_or_obj") if isinstance(inputs, MetaTensor) else None
        if isinstance(names, (str, os.PathLike)):  # of one case that was not collated
            names = [names] * len(inputs)
        results = []
        for index, mask in enumerate(inputs.as_subclass(Tensor)[:, 0]):
            grid = target_grid(tuple(mask.shape), affines[index], scale_extent=self.scale_extent, **self.size)
            # The name alone: nothing else of a file's metadata holds for another grid.
            meta = {} if names is None else {"filename_or_obj": names[index]}
            fine = super_resolve(network, mask, grid, **self.options)
            results.append(MetaTensor(fine[None], affine=grid.affine, meta=meta))
        shapes = [tuple(result.shape[1:]) for result in results]
        if len(set(shapes)) > 1:
            raise InputError(
                f"cases of the batch get grids of {shapes}, which no batch can hold; use a batch size of 1"
            )
        return collate_meta_tensor(results)
