"""Do a step on a grid of another spacing, in RAS orientation, and bring the result back to the mask's own grid."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Orientation

from monai_sparse_refine.transforms.crop_head import head_box
from monai_sparse_refine.transforms.head import without_holder
from monai_sparse_refine.transforms.resample import ResampleToSpacing, resample_to_shape
from monai_sparse_refine.volume import affine_of_box, as_tensor

__all__ = ["on_grid_of", "on_ras_grid"]


def on_ras_grid(
    step: Callable[[Any], Any], mask: np.ndarray, like: MetaTensor, *, spacing: float
) -> np.ndarray:
    """Apply a step that wants left and right along the first axis, and a spacing, to a mask of any.

    Only the head is looked at (see :func:`head_box`): the whole of a body would take gigabytes at 1 mm, and a head
    holder would be taken for a piece of the vault (see :func:`without_holder`).

    Args:
        step: from fractions of foreground [1, X', Y', Z'], RAS, to values of that shape.
        mask: boolean [X, Y, Z].
        like: a volume on the mask's grid, for its affine.
        spacing: mm of the grid that the step works on.

    Returns:
        What the step gives, on the mask's grid [X, Y, Z], by linear interpolation; 0 far from the head.
    """
    world = like.affine.cpu().numpy().astype(float)
    mask = without_holder(mask, world)
    box = head_box(mask, world) or tuple(slice(0, n) for n in mask.shape)
    affine = torch.as_tensor(affine_of_box(like.affine, box))
    source = MetaTensor(torch.from_numpy(mask[box][None].astype(np.float32)), affine=affine)
    there: Any = ResampleToSpacing(spacing, threshold=None)(Orientation(axcodes="RAS", labels=None)(source))
    return on_grid_of(MetaTensor(as_tensor(step(there)), affine=there.affine), like)


def on_grid_of(values: MetaTensor, like: MetaTensor, *, channel: int = 0) -> np.ndarray:
    """Bring values from a grid over a box of another one, of any orientation and spacing, to that one.

    Args:
        values: [C, X', Y', Z']; its box ends between voxels of the other grid, as those that
            :class:`CropHeadd`, MONAI's ``Orientation`` and :class:`ResampleToSpacing` make.
        like: a volume [1, X, Y, Z] on the other grid.
        channel: the one to bring there.

    Returns:
        Float32 [X, Y, Z], by linear interpolation, or the mean where the other grid is coarser; 0 outside the box.
    """
    affine = like.affine.cpu().numpy().astype(float)
    codes = "".join(nib.orientations.aff2axcodes(affine))
    one = MetaTensor(values.as_tensor()[channel][None], affine=values.affine)
    turned: Any = Orientation(axcodes=codes, labels=None)(one)
    shape, whole_shape = np.asarray(turned.shape[1:]), tuple(like.shape[1:])
    # The corners of the box, which lie half a voxel before the first voxel's middle and behind the last one's.
    corners = np.array([np.full(3, -0.5), shape - 0.5])
    world = nib.affines.apply_affine(turned.affine.cpu().numpy().astype(float), corners)
    low, high = np.rint(nib.affines.apply_affine(np.linalg.inv(affine), world) + 0.5).astype(int)
    there = resample_to_shape(turned.as_tensor().cpu(), high - low)[0].numpy()
    if there.shape == whole_shape:
        return np.asarray(there)
    whole = np.zeros(whole_shape, dtype=there.dtype)
    whole[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = there
    return whole
