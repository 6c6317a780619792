"""Continue a map smoothly into the pixels where it is not known."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_matrix, diags, identity, kron
from scipy.sparse.linalg import spsolve

__all__ = ["inpaint_tension"]


def inpaint_tension(values: np.ndarray, unknown: np.ndarray, *, length: float = 0.0) -> np.ndarray:
    """Continue a map into its unknown pixels as a plate under tension, or as a membrane.

    Solves (L^2 + L / length^2) u = 0 at the unknown pixels, L being the map's Laplacian: of a thin plate under
    tension (a spline in tension: Smith and Wessel, Geophysics 55:293, 1990). Slopes are carried on over about
    ``length`` pixels; farther in, the answer comes near that of a membrane, which never leaves the range of the
    values around it.

    Args:
        values: the map, (M, N); what it holds at unknown pixels does not matter.
        unknown: bool (M, N); some pixel must be known.
        length: in pixels; 0 is the membrane, L u = 0.

    Returns:
        The map with its unknown pixels filled, float64 (M, N).
    """
    laplacian = kron(_second_difference(values.shape[0]), identity(values.shape[1])) + kron(
        identity(values.shape[0]), _second_difference(values.shape[1])
    )
    plate = csr_matrix(laplacian if length == 0 else laplacian @ laplacian + laplacian / length**2)
    at, out = unknown.ravel(), values.astype(np.float64).ravel()
    if at.any():
        rows = plate[at]
        out[at] = spsolve(rows[:, at].tocsc(), -(rows[:, ~at] @ out[~at]))
    return out.reshape(values.shape)


def _second_difference(count: int) -> csr_matrix:
    """Negative second difference along an axis without a slope at its ends (count, count)."""
    step = diags([-np.ones(count), np.ones(count - 1)], [0, 1], shape=(count - 1, count))
    return csr_matrix(step.T @ step)
