"""Growing 2D outlines with a gap: their pixels grow with the side, the image with its square."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

WIDTH = 3.0  # pixels, at every size: a sharper picture shows a thinner outline
GAP = 0.12  # of the outline, the defect to complete


def outline(size: int) -> tuple[np.ndarray, np.ndarray]:
    """A wavy closed curve, three pixels wide, on an image of ``size`` x ``size``.

    Returns:
        The complete curve and the one with a gap, uint8 [size, size].
    """
    x, y = np.mgrid[:size, :size].astype(np.float32) - np.float32((size - 1) / 2)
    angle = np.arctan2(y, x)
    radius = size * (0.36 + 0.05 * np.cos(2 * angle) + 0.02 * np.cos(5 * angle + 1))
    complete = np.abs(np.hypot(x, y) - radius) < WIDTH / 2
    defective = complete & (np.abs(angle) > GAP * np.pi)
    return complete.astype(np.uint8), defective.astype(np.uint8)


def make_outlines(sizes: Sequence[int], folder: Path) -> dict[int, dict[str, Any]]:
    """An outline of every size, as npz files for the measurements.

    Returns:
        By size: `file`, `shape` and the `occupied` pixels of the outline with the gap.
    """
    cases = {}
    for size in sizes:
        complete, defective = outline(size)
        file = folder / f"outline_{size}.npz"
        np.savez(file, complete=complete, defective=defective)
        cases[size] = {"file": file, "shape": (size, size), "occupied": int(defective.sum())}
    return cases
