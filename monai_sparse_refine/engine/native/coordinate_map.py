"""A set of distinct coordinates at one tensor stride, and the key by which programs refer to it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from monai_sparse_refine.engine.native.compiled.calls import usable_coordinates
from monai_sparse_refine.engine.native.compiled.index import Grid, distinct_cells
from monai_sparse_refine.engine.native.coordinates import (
    Box,
    Stride,
    bounding_box,
    floor_divide,
    from_cells,
)
from monai_sparse_refine.engine.native.lookup import (
    KEY_LIMIT,
    CoordinateLookup,
    grid_affordable,
    unique_keys,
)

DEFAULT_MARGIN = 2  # what a kernel of 2 or 3 needs, so that one lookup serves both


class CoordinateMap:
    """Distinct coordinates, with a lazily built lookup.

    Args:
        coordinates: (N, 1 + D) int32 rows [batch, x, y, ...], distinct, in multiples of ``stride``.
        stride: tensor stride per spatial axis.
    """

    def __init__(self, coordinates: Tensor, stride: Stride) -> None:
        self.coordinates = coordinates
        self.stride = stride
        self._box: Box | None = None
        self._lookup: CoordinateLookup | None = None

    def __len__(self) -> int:
        return len(self.coordinates)

    @property
    def box(self) -> Box:
        """Inclusive bounds of the coordinates."""
        if self._box is None:
            self._box = bounding_box(self.coordinates)
        return self._box

    def lookup(self, margin: Sequence[int] | None = None) -> CoordinateLookup:
        """The lookup of these coordinates, with at least the given margin."""
        wanted = tuple(max(DEFAULT_MARGIN, m) for m in (margin or (0,) * len(self.stride)))
        if self._lookup is None or any(
            have < want for have, want in zip(self._lookup.margin, wanted, strict=True)
        ):
            self._lookup = None  # free the old grid before the new one is made
            self._lookup = CoordinateLookup(self.coordinates, self.stride, margin=wanted, box=self.box)
        return self._lookup

    def drop_lookup(self) -> None:
        """Forget the lookup; it is built again when needed."""
        self._lookup = None


class CoordinateMapKey:
    """Name of a coordinate map in its manager: tensor stride and a string.

    A key keeps its map alive. Maps with an empty string are found by their stride, as in MinkowskiEngine;
    maps that
    a layer made anonymously (pruned, generated, united) vanish with the last key that names them.
    """

    def __init__(self, tensor_stride: int | Sequence[int], string_id: str = "") -> None:
        if isinstance(tensor_stride, int):
            # MinkowskiEngine's constructor takes the coordinate size for a key that is to be set later.
            self._stride: Stride = ()
            self._size, self._string_id, self._set = tensor_stride, "", False
        else:
            self._stride = tuple(int(s) for s in tensor_stride)
            self._size, self._string_id, self._set = len(self._stride) + 1, str(string_id), True
        self._map: CoordinateMap | None = None

    def get_coordinate_size(self) -> int:
        """1 + D."""
        return self._size

    def get_tensor_stride(self) -> list[int]:
        """Tensor stride per axis."""
        return list(self._stride)

    def get_key(self) -> tuple[list[int], str]:
        """Tensor stride and string."""
        return list(self._stride), self._string_id

    def is_key_set(self) -> bool:
        """Whether the key names a map."""
        return self._set

    def set_key(self, tensor_stride: Sequence[int], string_id: str = "") -> None:
        """Let the key name another map."""
        self._stride, self._string_id, self._set = tuple(int(s) for s in tensor_stride), str(string_id), True
        self._map = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CoordinateMapKey) and self.get_key() == other.get_key()

    def __hash__(self) -> int:
        return hash((self._stride, self._string_id))

    def __repr__(self) -> str:
        return f"coordinate map key:{list(self._stride)}" + (f":{self._string_id}" if self._string_id else "")


def strided_coordinates(source: CoordinateMap, stride: Stride) -> Tensor:
    """Distinct floor(c / stride) * stride of a map's coordinates, in ascending order; (M, 1 + D) int32."""
    if len(source) == 0:
        return source.coordinates
    box = source.box
    low = [box.low[0], *(box.low[1 + i] // s for i, s in enumerate(stride))]
    high = [box.high[0], *(box.high[1 + i] // s for i, s in enumerate(stride))]
    return unique_cells(source.coordinates, (1, *stride), low, high)


def unique_coordinates(coordinates: Tensor, stride: Stride) -> Tensor:
    """Distinct rows of coordinates that are multiples of ``stride``, in ascending order."""
    return strided_coordinates(CoordinateMap(coordinates, stride), stride)


def unique_cells(
    coordinates: Tensor, steps: Sequence[int], low: Sequence[int], high: Sequence[int]
) -> Tensor:
    """Distinct floor(c / step) * step per axis, cells bounded by ``low`` and ``high``."""
    shape = [top - bottom + 1 for bottom, top in zip(low, high, strict=True)]
    cells = 1
    for length in shape:
        cells *= length
    if cells > KEY_LIMIT:
        raise ValueError(
            f"coordinates span a box of {tuple(shape)} cells; the native engine's 64-bit keys cover at "
            "most 2^62. "
            "Bring far-apart coordinates closer, or use separate tensors."
        )
    if grid_affordable(cells, len(coordinates)) and usable_coordinates(coordinates):
        return distinct_cells(coordinates, Grid(steps, low, shape))
    dtype = torch.int32 if grid_affordable(cells, len(coordinates)) else torch.int64
    far = max(map(abs, (*low, *high))) > 2**29
    columns = coordinates.long() if far or dtype == torch.int64 else coordinates
    key = torch.zeros(len(coordinates), dtype=columns.dtype, device=coordinates.device)
    for axis, (length, step, bottom) in enumerate(zip(shape, steps, low, strict=True)):
        key = key.mul_(length).add_(floor_divide(columns[:, axis], step) - bottom)
    found = unique_keys(key, cells)
    parts = []
    for length, step, bottom in zip(reversed(shape), reversed(list(steps)), reversed(list(low)), strict=True):
        quotient = found.div(length, rounding_mode="floor") if length > 1 else found
        parts.append((found - quotient * length + bottom).mul_(step).to(torch.int32))
        found = quotient
    return torch.stack(parts[::-1], dim=1)


def all_shifted(source: CoordinateMap, offsets: Tensor, stride: Stride, *, distinct: bool) -> Tensor:
    """Coordinates of ``source`` plus every offset; (N * K, 1 + D), or its distinct rows in ascending order.

    Args:
        offsets: (K, D) integers in voxels.
        stride: tensor stride of the result.
        distinct: True where no two sums can coincide; then row ``n * K + k`` is row n plus offset k.
    """
    shift = torch.zeros(len(offsets), 1 + len(stride), dtype=torch.int32, device=source.coordinates.device)
    shift[:, 1:] = offsets.to(shift)
    shifted = (source.coordinates[:, None] + shift).view(-1, shift.shape[1])
    if distinct or len(source) == 0:
        return shifted
    return unique_coordinates(from_cells(shifted, (1,) * len(stride)), stride)
