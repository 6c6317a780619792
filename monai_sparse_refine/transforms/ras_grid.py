"""Do a step on a grid of another spacing, in RAS orientation, and bring the result back to the mask's own grid."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Orientation

from monai_sparse_refine.transforms.crop_head import head_box
from monai_sparse_refine.transforms.resample import ResampleToSpacing
from monai_sparse_refine.volume import affine_of_box

__all__ = ["on_ras_grid"]


def on_ras_grid(
    step: Callable[[Any], Any], mask: np.ndarray, like: MetaTensor, *, spacing: float
) -> np.ndarray:
    """Apply a step that wants left and right along the first axis, and a spacing, to a mask of any.

    Only the head is looked at (see :func:`head_box`): the whole of a body would take gigabytes at 1 mm.

    Args:
        step: from fractions of foreground [1, X', Y', Z'], RAS, to values of that shape.
        mask: boolean [X, Y, Z].
        like: a volume on the mask's grid, for its affine.
        spacing: mm of the grid that the step works on.

    Returns:
        What the step gives, on the mask's grid [X, Y, Z], by linear interpolation; 0 far from the head.
    """
    box = head_box(mask, like.affine.cpu().numpy().astype(float)) or tuple(slice(0, n) for n in mask.shape)
    affine = affine_of_box(like.affine, box)
    to_ras = Orientation(axcodes="RAS", labels=None)
    resample = ResampleToSpacing(spacing, threshold=None)
    source = MetaTensor(torch.from_numpy(mask[box][None].astype(np.float32)), affine=torch.as_tensor(affine))
    there: Any = resample(to_ras(source))
    result = MetaTensor(step(there), meta=dict(there.meta))
    result.applied_operations = list(there.applied_operations)
    back: Any = to_ras.inverse(resample.inverse(result))
    values = back.as_tensor()[0].numpy()
    if values.shape == mask.shape:
        return np.asarray(values)
    whole = np.zeros(mask.shape, dtype=values.dtype)
    whole[box] = values
    return whole
