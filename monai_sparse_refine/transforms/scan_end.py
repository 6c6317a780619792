"""Where a head scan ends that was cut off below the vertex: what is missing above is no hole."""

from __future__ import annotations

import numpy as np

__all__ = ["end_of_scan"]

_BELOW_MM = 20.0
_SHARE = 0.5  # of the most bone in a slice below


def end_of_scan(bone: np.ndarray, slice_mm: float) -> int:
    """First slice beyond the scan: a scan cut off below the vertex ends with a full ring of bone.

    A whole head ends with a small cap, one with a hole at the vertex with a ragged rim.

    Args:
        bone: bool [X, Y, Z] with some bone, the last axis running up.
        slice_mm: distance of its slices.

    Returns:
        The slice after the topmost bone, or the number of slices where the head does not end level.
    """
    count = np.count_nonzero(bone, axis=(0, 1))
    top = int(np.flatnonzero(count)[-1])
    below = count[max(0, top - round(_BELOW_MM / slice_mm)) : top + 1]
    return top + 1 if count[top] > _SHARE * below.max() else bone.shape[2]
