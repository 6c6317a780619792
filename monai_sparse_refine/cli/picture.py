"""A picture of a label map before and after: three slices, what was added and what was taken away."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from monai_sparse_refine.files import atomic_path
from monai_sparse_refine.volume import bounding_box

__all__ = ["before_after_figure"]

SAME, ADDED, REMOVED, EMPTY = (to_rgb(c) for c in ("#c9c2b0", "#21b3c2", "#ff9d3c", "#14171c"))
PLANES = (("sagittal", 0), ("coronal", 1), ("axial", 2))


def before_after_figure(
    before: np.ndarray, after: np.ndarray, *, affine: Any, path: str | Path, title: str
) -> Path:
    """Draw three slices through the middle of what changed, or of the labels where nothing did.

    Args:
        before: label map [X, Y, Z], 0 where there is nothing to show.
        after: the refined one.
        affine: voxel to world mm, RAS, [4, 4].
        path: PNG to write.
        title: heading.

    Returns:
        The path written.
    """
    matrix = np.asarray(affine, dtype=float)
    turned = [nib.as_closest_canonical(nib.Nifti1Image(m.astype(np.int32), matrix)) for m in (before, after)]
    mm = np.linalg.norm(turned[0].affine[:3, :3], axis=0)
    old, new = (np.asarray(image.dataobj) for image in turned)
    changed = old != new
    shown = changed if changed.any() else new > 0
    middle = [int(np.median(where)) for where in np.nonzero(shown)]
    box = bounding_box((old > 0) | (new > 0), margin=3)
    assert box is not None
    figure = Figure(figsize=(11, 4.4), facecolor=EMPTY)
    FigureCanvasAgg(figure)
    added, removed = int(np.count_nonzero(changed & (new > 0))), int(np.count_nonzero(changed & (new == 0)))
    figure.suptitle(
        f"{title}:  {added} voxels added or relabelled, {removed} removed", color="w", fontsize=12
    )
    for column, (name, axis) in enumerate(PLANES, start=1):
        axes = figure.add_subplot(1, 3, column)
        at = middle[axis]
        cut = [box[a] for a in range(3) if a != axis]
        a, b = (np.take(volume, at, axis=axis)[tuple(cut)].T for volume in (old, new))
        colours = np.full((*a.shape, 3), EMPTY)
        colours[b > 0] = SAME
        colours[(b > 0) & (a != b)] = ADDED
        colours[(b == 0) & (a > 0)] = REMOVED
        across, up = (mm[i] for i in range(3) if i != axis)
        axes.imshow(colours, origin="lower", interpolation="nearest", aspect=up / across)
        axes.set_title(name, color="w", fontsize=10)
        axes.set_axis_off()
    for i, (text, colour) in enumerate((("unchanged", SAME), ("added", ADDED), ("removed", REMOVED))):
        figure.text(0.36 + 0.12 * i, 0.03, text, color=colour, fontsize=10)
    target = Path(path)
    with atomic_path(target) as temporary:
        figure.savefig(temporary, format="png", dpi=110, facecolor=EMPTY)
    return target
