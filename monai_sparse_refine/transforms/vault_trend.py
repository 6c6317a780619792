"""The overall shape of a cranial vault, fitted to what is there of its wall."""

from __future__ import annotations

import numpy as np

__all__ = ["mean_trend", "wall_trend"]

_LARGE = 0.03  # residuals beyond this share of the vault's radius count less
_STEPS = 6
_RIDGE = 0.1
_DEGREES = (2, 4)


def mean_trend(share: np.ndarray, known: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """Mean of the model of the vault and of its wall's quadratic and quartic trends (see :func:`wall_trend`).

    Each extrapolates into a large hole with an error of its own, so their mean is better than any one.
    """
    trends = [wall_trend(share, known, directions, degree=degree) for degree in _DEGREES]
    return np.asarray(np.mean([np.ones_like(share), *trends], axis=0))


def wall_trend(share: np.ndarray, known: np.ndarray, directions: np.ndarray, *, degree: int) -> np.ndarray:
    """Fit a polynomial of the direction, the same on the left and on the right, to the distance of a vault's wall.

    Ridge regression towards 1, the vault's model, with Huber's weights (Huber, Ann. Math. Statist. 35:73, 1964): a
    burr hole, a plate or a chip of bone does not count as much as the wall.

    Args:
        share: distance of the wall from the middle of the head, as a share of the model's (N, N): a map over the
            directions around straight up (azimuthal equidistant).
        known: bool (N, N), where that is known.
        directions: unit vectors to the right, front and top (N, N, 3).
        degree: of the polynomial.

    Returns:
        The polynomial's values everywhere, (N, N).
    """
    right, front, up = np.moveaxis(directions, -1, 0)
    # Even powers of right alone; up squared is what right and front squared leave.
    terms = [
        right**i * front**j * up**k
        for i in range(0, degree + 1, 2)
        for j in range(degree + 1 - i)
        for k in (0, 1)
        if i + j + k <= degree
    ]
    basis = np.stack(terms, axis=-1)
    rows, values = basis[known], share[known] - 1.0
    angle = np.arccos(np.clip(up[known], -1.0, 1.0))
    # A pixel far from the middle of the map stands for less of the sphere.
    area = np.sqrt(np.sinc(angle / np.pi))
    weights, penalty = area, _RIDGE * np.eye(rows.shape[1])
    for _ in range(_STEPS):
        system = np.concatenate([rows * weights[:, None], penalty])
        answer = np.concatenate([values * weights, np.zeros(rows.shape[1])])
        solution = np.linalg.lstsq(system, answer, rcond=None)[0]
        residual = np.abs(values - rows @ solution)
        weights = area / np.sqrt(np.maximum(1.0, residual / _LARGE))
    return np.asarray(1.0 + basis @ solution)
