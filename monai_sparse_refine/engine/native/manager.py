"""The coordinate manager: every coordinate map of a family of tensors, and what relates one to another."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import Tensor

from monai_sparse_refine.engine.native.coordinate_map import (
    CoordinateMap,
    CoordinateMapKey,
    all_shifted,
    strided_coordinates,
)
from monai_sparse_refine.engine.native.coordinates import (
    Box,
    Stride,
    as_tuple,
    check_coordinates,
    is_multiple,
)
from monai_sparse_refine.engine.native.enums import RegionType
from monai_sparse_refine.engine.native.kernel_map import KernelMap
from monai_sparse_refine.engine.native.kernel_region import KernelGenerator

LOOKUPS_KEPT = 2


class CoordinateManager:
    """Holds coordinate maps by key. Tensors can be combined only within one manager.

    Args:
        D: number of spatial dimensions.
        num_threads, coordinate_map_type, allocator_type, minkowski_algorithm: accepted for compatibility.
    """

    def __init__(
        self,
        D: int = 0,
        num_threads: int = -1,
        coordinate_map_type: Any = None,
        allocator_type: Any = None,
        minkowski_algorithm: Any = None,
    ) -> None:
        if not isinstance(D, int) or D < 1:
            raise ValueError(f"D must be the number of spatial dimensions (1 or more), got {D!r}.")
        self.D = D
        self._lasting: dict[tuple[Stride, str], CoordinateMap] = {}
        self._fleeting: weakref.WeakValueDictionary[tuple[Stride, str], CoordinateMap] = (
            weakref.WeakValueDictionary()
        )
        self._kernel_maps: weakref.WeakValueDictionary[Any, KernelMap] = weakref.WeakValueDictionary()
        self._recent: list[weakref.ref[CoordinateMap]] = []
        self._origins: dict[int, CoordinateMapKey] = {}
        self._serial = 0

    # Keys and maps

    def coordinate_map(self, key: CoordinateMapKey) -> CoordinateMap:
        """The map that a key names.

        Raises:
            KeyError: if this manager has no such map.
        """
        if key._map is not None:
            return key._map
        stride, string = key.get_key()
        name = (tuple(stride), string)
        found = self._lasting.get(name)
        if found is None:
            found = self._fleeting.get(name)
        if found is None:
            raise KeyError(
                f"{key!r} names no coordinate map of this coordinate manager; was it made by another one?"
            )
        key._map = found
        return found

    def register(self, coordinates: Tensor, stride: Stride, string_id: str | None = "") -> CoordinateMapKey:
        """Take over distinct int32 coordinates as a map; a string id of None makes an anonymous one."""
        return self._add(CoordinateMap(coordinates, stride), string_id)

    def _add(self, new: CoordinateMap, string_id: str | None) -> CoordinateMapKey:
        lasting = string_id is not None
        if string_id is None or (new.stride, string_id) in self._lasting:
            self._serial += 1
            string_id = f"{string_id}-{self._serial}" if string_id else f"#{self._serial}"
        key = CoordinateMapKey(new.stride, string_id)
        key._map = new
        (self._lasting if lasting else self._fleeting)[(new.stride, string_id)] = new
        return key

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
            ``coordinates = C[inverse]``; both are empty if there is no duplicate. The first of several equal rows
            stays, in the given order.
        """
        coordinates = check_coordinates(coordinates)
        stride = as_tuple(tensor_stride, self.D, "tensor_stride")
        if coordinates.shape[1] != self.D + 1:
            raise ValueError(
                f"coordinates must have {self.D + 1} columns (batch and {self.D} axes) for this coordinate manager, "
                f"got {coordinates.shape[1]}."
            )
        if not bool(is_multiple(coordinates, stride).all()):
            raise ValueError(f"coordinates must be multiples of the tensor stride {stride}.")
        candidate = CoordinateMap(coordinates, stride)
        empty = torch.empty(0, dtype=torch.int64, device=coordinates.device)
        unique, inverse = empty, empty
        lookup = candidate.lookup()
        if lookup.has_duplicates():
            unique, inverse = first_rows(lookup.own_keys)
            candidate = CoordinateMap(coordinates[unique], stride)
        key = self._add(candidate, string_id)
        self.used(candidate)
        return key, (unique, inverse)

    def get_coordinates(self, coords_key_or_tensor_strides: Any) -> Tensor:
        """(N, 1 + D) int32 coordinates of a key or of a tensor stride."""
        return self.coordinate_map(self._get_coordinate_map_key(coords_key_or_tensor_strides)).coordinates

    def _get_coordinate_map_key(self, key_or_tensor_strides: Any) -> CoordinateMapKey:
        if isinstance(key_or_tensor_strides, CoordinateMapKey):
            return key_or_tensor_strides
        return CoordinateMapKey(as_tuple(key_or_tensor_strides, self.D, "tensor_stride"))

    def get_unique_coordinate_map_key(self, tensor_stride: Any) -> CoordinateMapKey:
        """A key of that stride that names no map yet."""
        self._serial += 1
        return CoordinateMapKey(as_tuple(tensor_stride, self.D, "tensor_stride"), f"#{self._serial}")

    def exists(self, stride: Stride, string_id: str = "") -> bool:
        """Whether there is a map of that name."""
        return (stride, string_id) in self._lasting or (stride, string_id) in self._fleeting

    def size(self, coordinate_map_key: CoordinateMapKey) -> int:
        """Number of rows."""
        return len(self.coordinate_map(coordinate_map_key))

    # Derived maps

    def stride(
        self, coordinate_map_key: CoordinateMapKey, stride: Any, string_id: str = ""
    ) -> CoordinateMapKey:
        """Key of the map of floor(c / (s * stride)) * (s * stride); made once per source."""
        factor = as_tuple(stride, self.D, "stride")
        source = self.coordinate_map(coordinate_map_key)
        target = tuple(a * b for a, b in zip(source.stride, factor, strict=True))
        string = string_id or coordinate_map_key.get_key()[1]
        if target == source.stride and string == coordinate_map_key.get_key()[1]:
            return coordinate_map_key
        key = CoordinateMapKey(target, string)
        if self.exists(target, string):
            self.coordinate_map(key)
            return key
        key._map = CoordinateMap(strided_coordinates(source, target), target)
        anonymous = string.startswith("#")
        (self._fleeting if anonymous else self._lasting)[(target, string)] = key._map
        return key

    def expand(
        self, key: CoordinateMapKey, offsets: Tensor, stride: Stride, *, distinct: bool
    ) -> CoordinateMapKey:
        """Key of a new map that holds every coordinate plus every offset (K, D), given in voxels."""
        return self.register(
            all_shifted(self.coordinate_map(key), offsets, stride, distinct=distinct), stride, None
        )

    def origin(self) -> CoordinateMapKey:
        """Key of the map with one row per batch index at spatial position 0 (tensor stride 0, as in MinkowskiEngine)."""
        if not self._lasting and not self._fleeting:
            raise ValueError("This coordinate manager has no coordinates yet.")
        found = next(iter(self._lasting.values() if self._lasting else self._fleeting.values()))
        return self.origin_of(found)

    def origin_of(self, source: CoordinateMap) -> CoordinateMapKey:
        """The origin map of this manager, made from a map whose batch indices it covers."""
        name = ((0,) * self.D, "")
        if name not in self._lasting:
            rows = torch.zeros(0, self.D + 1, dtype=torch.int32, device=source.coordinates.device)
            batches = torch.unique(source.coordinates[:, 0])
            rows = torch.zeros(len(batches), self.D + 1, dtype=torch.int32, device=batches.device)
            rows[:, 0] = batches
            self._lasting[name] = CoordinateMap(rows, (0,) * self.D)
        key = CoordinateMapKey((0,) * self.D)
        self.coordinate_map(key)
        return key

    def number_of_unique_batch_indices(self) -> int:
        """Number of batch items."""
        return self.size(self.origin())

    # Relations between maps

    def kernel_table(
        self, coarse: CoordinateMapKey, fine: CoordinateMapKey, generator: KernelGenerator
    ) -> KernelMap:
        """The neighbour tables of a kernel that sits on the coarse map and reads or writes the fine one."""
        coarse_map, fine_map = self.coordinate_map(coarse), self.coordinate_map(fine)
        dilation = torch.tensor(generator.kernel_dilation)
        offsets = generator.offsets * dilation  # cells of the fine side
        name = (id(coarse_map), id(fine_map), tuple(map(tuple, offsets.tolist())))
        found = self._kernel_maps.get(name)
        if found is None:
            extent = offsets.amax(0) - offsets.amin(0)
            ratio = [a // b if b else 1 for a, b in zip(coarse_map.stride, fine_map.stride, strict=True)]
            regular = all(int(e) < r for e, r in zip(extent, ratio, strict=True))
            found = KernelMap(coarse_map, fine_map, offsets, regular=regular)
            self._kernel_maps[name] = found
        self.used(fine_map)
        return found

    def kernel_map(
        self,
        in_key: CoordinateMapKey,
        out_key: CoordinateMapKey,
        stride: Any = 1,
        kernel_size: Any = 3,
        dilation: Any = 1,
        region_type: RegionType = RegionType.HYPER_CUBE,
        region_offset: Tensor | None = None,
        is_transpose: bool = False,
        is_pool: bool = False,
    ) -> dict[int, Tensor]:
        """Pairs of rows per kernel offset: {k: (2, n) int32, input rows above output rows}; no entry without pairs."""
        generator = KernelGenerator(
            kernel_size,
            stride,
            dilation,
            region_type=region_type,
            region_offsets=region_offset,
            dimension=self.D,
        )
        coarse, fine = (in_key, out_key) if is_transpose else (out_key, in_key)
        table = self.kernel_table(coarse, fine, generator)
        rows = table.fine_rows(0, table.n_coarse)
        pairs = {}
        for k in range(table.volume):
            here = rows[:, k].nonzero().squeeze(1)
            if len(here):
                there = rows[:, k].index_select(0, here) - 1
                both = (here.to(torch.int32), there) if is_transpose else (there, here.to(torch.int32))
                pairs[k] = torch.stack(both)
        return pairs

    get_kernel_map = kernel_map

    def used(self, used: CoordinateMap) -> None:
        """Keep the lookups of the maps used last, and free the others."""
        kept = [used]
        for reference in self._recent:
            other = reference()
            if other is None or other is used:
                continue
            if len(kept) < LOOKUPS_KEPT:
                kept.append(other)
            else:
                other.drop_lookup()
        self._recent = [weakref.ref(entry) for entry in kept]

    def __repr__(self) -> str:
        maps = {**self._lasting, **dict(self._fleeting)}
        lines = [
            f"\t{list(stride)}{'-' + string if string else ''}:\t{len(rows)} rows"
            for (stride, string), rows in maps.items()
        ]
        return "\n".join([f"{type(self).__name__}(D={self.D}", *lines, ")"])


CoordsManager = CoordinateManager


def first_rows(keys: Tensor) -> tuple[Tensor, Tensor]:
    """Rows of the first occurrence of every key, in order of appearance, and for every row its place among them."""
    distinct, inverse = torch.unique(keys, return_inverse=True)
    row = torch.arange(len(keys), device=keys.device)
    first = torch.full((len(distinct),), len(keys), device=keys.device).scatter_reduce_(
        0, inverse, row, "amin"
    )
    unique, order = torch.sort(first)
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order), device=keys.device)
    return unique, rank[inverse]


def boxes_joined(a: Box, b: Box) -> Box:
    """Smallest box around two."""
    return Box(tuple(map(min, a.low, b.low)), tuple(map(max, a.high, b.high)))
