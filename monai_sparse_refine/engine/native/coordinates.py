"""Pure functions on integer coordinates: rows [batch, x, y, ...] of shape (N, 1 + D), int32."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from monai_sparse_refine.engine.native.compiled.calls import usable_coordinates
from monai_sparse_refine.engine.native.compiled.index import bounds

Stride = tuple[int, ...]

INT32_LIMIT = 2**31 - 1


class Box(NamedTuple):
    """Inclusive bounds of coordinates, batch axis first. An empty set has ``high < low``."""

    low: tuple[int, ...]
    high: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of cells along each axis."""
        return tuple(max(0, top - bottom + 1) for bottom, top in zip(self.low, self.high, strict=True))


def as_tuple(value: Any, dimension: int, name: str, *, minimum: int = 1) -> Stride:
    """One integer per axis from an integer, a sequence, an array or a tensor.

    Raises:
        ValueError: for a wrong number of values, or values that are no integers or below ``minimum``.
    """
    if isinstance(value, Tensor | np.ndarray):
        value = value.tolist()
    values = tuple(value) if isinstance(value, Sequence) else (value,) * dimension
    if len(values) != dimension or any(int(v) != v or v < minimum for v in values):
        raise ValueError(
            f"{name} must be one integer >= {minimum}, or {dimension} of them (one per spatial axis), got "
            f"{value!r}."
        )
    return tuple(int(v) for v in values)


def check_coordinates(coordinates: Any, name: str = "coordinates") -> Tensor:
    """Return ``coordinates`` as contiguous int32 rows [batch, x, y, ...].

    Raises:
        TypeError: if it is no tensor.
        ValueError: for a wrong shape, values that are not finite or exceed 32 bits.
    """
    if not isinstance(coordinates, Tensor):
        raise TypeError(
            f"{name} must be a torch.Tensor of integer rows [batch, x, y, ...], got "
            f"{type(coordinates).__name__}. "
            "Use utils.batched_coordinates to make one."
        )
    if coordinates.ndim != 2 or coordinates.shape[1] < 2:
        raise ValueError(
            f"{name} must have shape (N, 1 + D) with the batch index first, got {tuple(coordinates.shape)}."
        )
    if coordinates.is_complex() or coordinates.dtype == torch.bool:
        raise ValueError(f"{name} must hold integers, got dtype {coordinates.dtype}.")
    if coordinates.is_floating_point():
        coordinates = coordinates.detach().floor()
    if coordinates.dtype != torch.int32:
        if len(coordinates):
            low, high = coordinates.amin().item(), coordinates.amax().item()
            if not (low >= -INT32_LIMIT and high <= INT32_LIMIT):  # false for NaN, too
                raise ValueError(
                    f"{name} must lie within +-{INT32_LIMIT} (32-bit integers), got values from {low} to "
                    f"{high}."
                )
        coordinates = coordinates.to(torch.int32)
    return coordinates.contiguous()


def bounding_box(coordinates: Tensor) -> Box:
    """Inclusive bounds of the rows; of no rows: an empty box."""
    width = coordinates.shape[1]
    if len(coordinates) == 0:
        return Box((0,) * width, (-1,) * width)
    if usable_coordinates(coordinates):
        least, most = bounds(coordinates)
        return Box(tuple(least), tuple(most))
    low, high = torch.aminmax(coordinates, dim=0)
    return Box(tuple(low.tolist()), tuple(high.tolist()))


def floor_divide(values: Tensor, divisor: int) -> Tensor:
    """Floor division of integers; a power of two is a shift, which is exact for negative values."""
    if divisor == 1:
        return values
    if divisor & (divisor - 1) == 0:
        return values >> (divisor.bit_length() - 1)
    return values.div(divisor, rounding_mode="floor")


def to_cells(coordinates: Tensor, stride: Stride) -> Tensor:
    """Rows [batch, floor(x / stride), ...]."""
    if all(s == 1 for s in stride):
        return coordinates
    if len(set(stride)) == 1:
        cells = floor_divide(coordinates, stride[0])
        cells[:, 0] = coordinates[:, 0]
        return cells
    columns = [coordinates[:, 0], *(floor_divide(coordinates[:, 1 + i], s) for i, s in enumerate(stride))]
    return torch.stack(columns, dim=1)


def from_cells(cells: Tensor, stride: Stride) -> Tensor:
    """Inverse of :func:`to_cells` for coordinates that are multiples of ``stride``."""
    if all(s == 1 for s in stride):
        return cells
    return cells * torch.tensor([1, *stride], dtype=cells.dtype, device=cells.device)


def is_multiple(coordinates: Tensor, stride: Stride) -> Tensor:
    """(N,) bool: True where every spatial coordinate is a multiple of the stride."""
    result = torch.ones(len(coordinates), dtype=torch.bool, device=coordinates.device)
    for axis, step in enumerate(stride):
        if step > 1:
            result &= coordinates[:, 1 + axis] % step == 0
    return result
