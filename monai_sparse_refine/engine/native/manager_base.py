"""Storage of coordinate maps by key, and of the real coordinates of tensor fields."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import Tensor

from monai_sparse_refine.engine.native.coordinate_map import CoordinateMap, CoordinateMapKey
from monai_sparse_refine.engine.native.coordinates import (
    Stride,
    as_tuple,
    check_coordinates,
    from_cells,
    is_multiple,
    to_cells,
)

LOOKUPS_KEPT = 2


class CoordinateMapStore:
    """The part of a coordinate manager that knows maps by key.

    Args:
        dimension: number of spatial dimensions.
    """

    def __init__(self, dimension: int) -> None:
        self.D = dimension
        # Maps that can be found by their stride, or by a name that a program chose, last as long as the
        # manager.
        self._lasting: dict[tuple[Stride, str], CoordinateMap] = {}
        # Maps that layers made anonymously live as long as a key or a tensor uses them.
        self._fleeting: weakref.WeakValueDictionary[tuple[Stride, str], CoordinateMap]
        self._fleeting = weakref.WeakValueDictionary()
        self._fields: dict[tuple[Stride, str], Tensor] = {}
        self._voxels: dict[Any, tuple[CoordinateMapKey, tuple[Tensor, Tensor]]] = {}
        self._recent: list[weakref.ref[CoordinateMap]] = []
        self._serial = 0

    def coordinate_map(self, key: CoordinateMapKey) -> CoordinateMap:
        """The map that a key names.

        Raises:
            TypeError: if it is no key of this engine.
            KeyError: if this manager has no such map.
        """
        if not isinstance(key, CoordinateMapKey):
            raise TypeError(f"Expected a CoordinateMapKey, got {type(key).__name__}.")
        if key._map is not None:
            return key._map
        stride, string = key.get_key()
        name = (tuple(stride), string)
        found = self._lasting.get(name)
        if found is None:
            found = self._fleeting.get(name)
        if found is None:
            raise KeyError(f"{key!r} names no coordinate map of this coordinate manager.")
        key._map = found
        return found

    def register(self, coordinates: Tensor, stride: Stride, string_id: str | None = "") -> CoordinateMapKey:
        """Take over distinct int32 coordinates as a map; a string id of None makes an anonymous one."""
        return self._add(CoordinateMap(coordinates, stride), string_id)

    def exists(self, stride: Stride, string_id: str = "") -> bool:
        """Whether there is a map of that name."""
        return (stride, string_id) in self._lasting or (stride, string_id) in self._fleeting

    def size(self, coordinate_map_key: CoordinateMapKey) -> int:
        """Number of rows."""
        return len(self.coordinate_map(coordinate_map_key))

    def get_coordinates(self, coords_key_or_tensor_strides: Any) -> Tensor:
        """(N, 1 + D) int32 coordinates of a key or of a tensor stride."""
        return self.coordinate_map(self._get_coordinate_map_key(coords_key_or_tensor_strides)).coordinates

    def _get_coordinate_map_key(self, key_or_tensor_strides: Any) -> CoordinateMapKey:
        if isinstance(key_or_tensor_strides, CoordinateMapKey):
            return key_or_tensor_strides
        return CoordinateMapKey(as_tuple(key_or_tensor_strides, self.D, "tensor_stride"))

    def get_unique_coordinate_map_key(self, tensor_stride: Any) -> CoordinateMapKey:
        """A key of that stride that names no map yet."""
        return CoordinateMapKey(as_tuple(tensor_stride, self.D, "tensor_stride"), self._new_id())

    def insert_and_map(
        self, coordinates: Tensor, tensor_stride: Any = 1, string_id: str = ""
    ) -> tuple[CoordinateMapKey, tuple[Tensor, Tensor]]:
        """Add coordinates, duplicates allowed.

        Args:
            coordinates: (N, 1 + D) integer rows.
            tensor_stride: what the coordinates are multiples of.
            string_id: name; another one is made up if it is taken.

        Returns:
            The key, and the int64 pair (unique map, inverse map) with ``C = coordinates[unique]`` and
            ``coordinates = C[inverse]``. The first of several equal rows stays, in the given order.

        Raises:
            ValueError: for another width, or coordinates that are no multiples of the stride.
        """
        key, maps = self.insert(coordinates, tensor_stride, string_id)
        if maps is None:
            every = torch.arange(len(coordinates), device=coordinates.device)
            maps = every, every
        return key, maps

    def insert(
        self, coordinates: Tensor, tensor_stride: Any = 1, string_id: str = ""
    ) -> tuple[CoordinateMapKey, tuple[Tensor, Tensor] | None]:
        """:meth:`insert_and_map`, with None for the maps if all rows are distinct."""
        coordinates = check_coordinates(coordinates)
        stride = as_tuple(tensor_stride, self.D, "tensor_stride")
        if coordinates.shape[1] != self.D + 1:
            raise ValueError(
                f"coordinates must have {self.D + 1} columns (batch and {self.D} axes) for this coordinate "
                f"manager, got {coordinates.shape[1]}."
            )
        if any(s > 1 for s in stride) and not bool(is_multiple(coordinates, stride).all()):
            raise ValueError(f"coordinates must be multiples of the tensor stride {stride}.")
        candidate = CoordinateMap(coordinates, stride)
        maps = None
        lookup = candidate.lookup()
        if lookup.has_duplicates():
            maps = first_rows(lookup.own_keys)
            candidate = CoordinateMap(coordinates[maps[0]], stride)
        key = self._add(candidate, string_id)
        self.used(candidate)
        return key, maps

    def rows_at(self, key: CoordinateMapKey, coordinates: Tensor) -> Tensor:
        """(M,) int32: row + 1 of the cell that holds each (real) coordinate, 0 where there is none."""
        source = self.coordinate_map(key)
        self.used(source)
        integer = check_coordinates(coordinates)
        return source.lookup().find(from_cells(to_cells(integer, source.stride), source.stride))

    # Real coordinates

    def insert_field(
        self, coordinates: Tensor, tensor_stride: Any, string_id: str = ""
    ) -> tuple[CoordinateMapKey, tuple[Tensor, Tensor]]:
        """Add (N, 1 + D) real coordinates; the pair of maps is empty, every row stays."""
        stride = as_tuple(tensor_stride, self.D, "tensor_stride")
        if coordinates.ndim != 2 or coordinates.shape[1] != self.D + 1:
            raise ValueError(f"coordinates must be (N, {self.D + 1}), got {tuple(coordinates.shape)}.")
        if (stride, string_id) in self._fields:
            string_id = self._new_id(string_id)
        self._fields[(stride, string_id)] = coordinates
        empty = torch.empty(0, dtype=torch.int64, device=coordinates.device)
        return CoordinateMapKey(stride, string_id), (empty, empty)

    def get_coordinate_field(self, coords_key_or_tensor_strides: Any) -> Tensor:
        """(N, 1 + D) real coordinates of a field's key or tensor stride."""
        stride, string = self._get_coordinate_map_key(coords_key_or_tensor_strides).get_key()
        if (tuple(stride), string) not in self._fields:
            raise KeyError(f"{coords_key_or_tensor_strides!r} names no field of this coordinate manager.")
        return self._fields[(tuple(stride), string)]

    def field_to_sparse_insert_and_map(
        self, field_map_key: CoordinateMapKey, sparse_tensor_stride: Any, sparse_tensor_string_id: str = ""
    ) -> tuple[CoordinateMapKey, tuple[Tensor, Tensor]]:
        """Key of the voxels of a field, the first row in each, and the voxel of each row (int64)."""
        stride = as_tuple(sparse_tensor_stride, self.D, "sparse_tensor_stride")
        name = (field_map_key, stride, sparse_tensor_string_id)
        if name in self._voxels:
            return self._voxels[name]
        integer = check_coordinates(self.get_coordinate_field(field_map_key))
        cells = from_cells(to_cells(integer, stride), stride)
        key, (unique, inverse) = self.insert_and_map(cells, stride, sparse_tensor_string_id)
        self._voxels[name] = key, (unique, inverse)
        return self._voxels[name]

    def field_to_sparse_map(
        self, field_map_key: CoordinateMapKey, sparse_map_key: CoordinateMapKey
    ) -> tuple[Tensor, Tensor]:
        """(P,) int64 rows of a field that lie in voxels of a sparse map, and the row of that voxel."""
        found = self.rows_at(sparse_map_key, self.get_coordinate_field(field_map_key))
        rows = found.nonzero().squeeze(1)
        return rows, found[rows].long() - 1

    get_field_to_sparse_map = field_to_sparse_map

    def field_to_sparse_keys(self, field_map_key: CoordinateMapKey) -> list[CoordinateMapKey]:
        """Keys of the sparse maps that were made of a field."""
        return [key for (field, *_), (key, _) in self._voxels.items() if field == field_map_key]

    def exists_field_to_sparse(
        self, field_map_key: CoordinateMapKey, sparse_map_key: CoordinateMapKey
    ) -> bool:
        """Whether a sparse map was made of a field."""
        return sparse_map_key in self.field_to_sparse_keys(field_map_key)

    def used(self, source: CoordinateMap) -> None:
        """Keep the lookups of the maps used last, and free the others."""
        kept = [source]
        for reference in self._recent:
            other = reference()
            if other is None or other is source:
                continue
            if len(kept) < LOOKUPS_KEPT:
                kept.append(other)
            else:
                other.drop_lookup()
        self._recent = [weakref.ref(entry) for entry in kept]

    def _new_id(self, prefix: str = "") -> str:
        self._serial += 1
        return f"{prefix}#{self._serial}"

    def _add(self, new: CoordinateMap, string_id: str | None) -> CoordinateMapKey:
        lasting = string_id is not None
        if string_id is None or self.exists(new.stride, string_id):
            string_id = self._new_id(string_id or "")
        key = CoordinateMapKey(new.stride, string_id)
        key._map = new
        (self._lasting if lasting else self._fleeting)[(new.stride, string_id)] = new
        return key

    def __repr__(self) -> str:
        maps = {**self._lasting, **dict(self._fleeting)}
        lines = [
            f"\t{list(stride)}{'-' + string if string else ''}:\t{len(rows)} rows"
            for (stride, string), rows in maps.items()
        ]
        return "\n".join([f"{type(self).__name__}(D={self.D}", *lines, "  )"])


def first_rows(keys: Tensor) -> tuple[Tensor, Tensor]:
    """Rows of the first occurrence of every key, in order of appearance, and each row's place among them."""
    distinct, inverse = torch.unique(keys, return_inverse=True)
    row = torch.arange(len(keys), device=keys.device)
    first = torch.full((len(distinct),), len(keys), device=keys.device)
    first.scatter_reduce_(0, inverse, row, "amin")
    unique, order = torch.sort(first)
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order), device=keys.device)
    return unique, rank[inverse]
