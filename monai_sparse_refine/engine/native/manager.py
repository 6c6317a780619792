"""The coordinate manager: every coordinate map of a family of tensors, and what relates one to another."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from monai_sparse_refine.engine.native.coordinate_map import (
    CoordinateMap,
    CoordinateMapKey,
    all_shifted,
    strided_coordinates,
)
from monai_sparse_refine.engine.native.coordinates import Stride, as_tuple, is_multiple
from monai_sparse_refine.engine.native.enums import RegionType
from monai_sparse_refine.engine.native.interpolate import interpolation_weights
from monai_sparse_refine.engine.native.kernel_map import KernelMap
from monai_sparse_refine.engine.native.kernel_region import KernelGenerator, pooling_kernel
from monai_sparse_refine.engine.native.manager_base import CoordinateMapStore
from monai_sparse_refine.engine.native.reduce import RowGroups, row_groups


class CoordinateManager(CoordinateMapStore):
    """Holds coordinate maps by key. Tensors can be combined only within one manager.

    Args:
        D: number of spatial dimensions.
        num_threads, coordinate_map_type, allocator_type, minkowski_algorithm: accepted for compatibility.

    Raises:
        ValueError: for a number of dimensions below 1.
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
        super().__init__(D)
        self._kernel_maps: weakref.WeakValueDictionary[Any, KernelMap] = weakref.WeakValueDictionary()

    def stride(
        self, coordinate_map_key: CoordinateMapKey, stride: Any, string_id: str = ""
    ) -> CoordinateMapKey:
        """Key of the map of floor(c / (s * stride)) * (s * stride); made once per source."""
        factor = as_tuple(stride, self.D, "stride")
        source = self.coordinate_map(coordinate_map_key)
        target = tuple(a * b for a, b in zip(source.stride, factor, strict=True))
        own = coordinate_map_key.get_key()[1]
        string = string_id or own
        if target == source.stride and string == own:
            return coordinate_map_key
        key = CoordinateMapKey(target, string)
        if self.exists(target, string):
            self.coordinate_map(key)
            return key
        key._map = CoordinateMap(strided_coordinates(source, target), target)
        (self._fleeting if "#" in string else self._lasting)[(target, string)] = key._map
        return key

    def expand(
        self,
        key: CoordinateMapKey,
        offsets: Tensor,
        stride: Stride,
        *,
        distinct: bool,
        string_id: str | None = None,
    ) -> CoordinateMapKey:
        """Key of a new map: coordinates plus offsets (K, D, in voxels), where a multiple of ``stride``."""
        source = self.coordinate_map(key)
        if all(a % b == 0 for a, b in zip(source.stride, stride, strict=True)):
            shifted = all_shifted(source, offsets, stride, distinct=distinct)
        else:
            every = all_shifted(source, offsets, (1,) * self.D, distinct=False)
            shifted = every[is_multiple(every, stride)]
        return self.register(shifted, stride, string_id)

    # Batches

    def origin(self) -> CoordinateMapKey:
        """Key of the map with one row per batch index, at position 0 and tensor stride 0."""
        if not self._lasting and not self._fleeting and not self._fields:
            raise ValueError("This coordinate manager has no coordinates yet.")
        maps = self._lasting or dict(self._fleeting)
        rows = next(iter(maps.values())).coordinates if maps else next(iter(self._fields.values()))
        return self.origin_of(rows[:, 0])

    def origin_of(self, batch: Tensor) -> CoordinateMapKey:
        """The origin map, which covers at least the batch indices (N,)."""
        name = ((0,) * self.D, "")
        if name in self._lasting:
            key = CoordinateMapKey((0,) * self.D)
            known = self.coordinate_map(key).coordinates[:, 0]
            if len(batch) == 0 or bool(torch.isin(_distinct(batch), known).all()):
                return key
        present = _distinct(batch)
        rows = torch.zeros(len(present), self.D + 1, dtype=torch.int32, device=batch.device)
        rows[:, 0] = present
        return self.register(rows, (0,) * self.D)

    def batch_groups(self, batch: Tensor) -> tuple[CoordinateMapKey, RowGroups]:
        """Origin key, and the groups of rows by batch index (N,) that match its rows."""
        if not self.exists((0,) * self.D) and (self._lasting or self._fields):
            self.origin()  # also counts items that this tensor has lost
        key = self.origin_of(batch)
        items = self.coordinate_map(key).coordinates[:, 0].contiguous()
        return key, row_groups(torch.searchsorted(items, batch.to(items.dtype).contiguous()), len(items))

    def number_of_unique_batch_indices(self) -> int:
        """Number of batch items."""
        return self.size(self.origin())

    def origin_map(self, key: CoordinateMapKey) -> tuple[Tensor, list[Tensor]]:
        """Batch indices, and for each the rows (int64) of a map that belong to it."""
        return _rows_by_item(self.get_coordinates(key)[:, 0])

    def origin_field(self) -> CoordinateMapKey:
        """Key of the origin map of the fields; the same as that of sparse maps."""
        return self.origin()

    def origin_field_map(self, key: CoordinateMapKey) -> tuple[Tensor, list[Tensor]]:
        """Batch indices, and for each the rows (int64) of a field that belong to it."""
        return _rows_by_item(self.get_coordinate_field(key)[:, 0])

    # Relations between maps

    def kernel_table(
        self, coarse: CoordinateMapKey, fine: CoordinateMapKey, generator: KernelGenerator
    ) -> KernelMap:
        """The neighbour tables of a kernel that sits on the coarse map and reads or writes the fine one."""
        coarse_map, fine_map = self.coordinate_map(coarse), self.coordinate_map(fine)
        offsets = generator.offsets * torch.tensor(generator.kernel_dilation)  # cells of the fine side
        name = (id(coarse_map), id(fine_map), tuple(map(tuple, offsets.tolist())))
        found = self._kernel_maps.get(name)
        if found is None:
            extent = (offsets.amax(0) - offsets.amin(0)).tolist()
            regular = all(
                f and e < c // f and c % f == 0
                for e, c, f in zip(extent, coarse_map.stride, fine_map.stride, strict=True)
            )
            found = KernelMap(coarse_map, fine_map, offsets, regular=regular, on_use=self.used)
            self._kernel_maps[name] = found
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
        """Pairs per offset: {k: (2, n) int32, input rows above output rows}; no entry without pairs."""
        generator = KernelGenerator(
            kernel_size,
            stride,
            dilation,
            region_type=region_type,
            region_offsets=region_offset,
            dimension=self.D,
        )
        generator = pooling_kernel(generator) if is_pool else generator
        coarse, fine = (in_key, out_key) if is_transpose else (out_key, in_key)
        table = self.kernel_table(coarse, fine, generator)
        rows = table.fine_rows(0, table.n_coarse)
        pairs = {}
        for k in range(table.volume):
            here = rows[:, k].nonzero().squeeze(1)
            if len(here):
                there, here = rows[:, k].index_select(0, here) - 1, here.to(torch.int32)
                pairs[k] = torch.stack((here, there) if is_transpose else (there, here))
        return pairs

    get_kernel_map = kernel_map

    def stride_map(self, in_key: CoordinateMapKey, stride_key: CoordinateMapKey) -> tuple[Tensor, Tensor]:
        """(P,) int64 rows of a map, and the row of the strided map that each falls into."""
        found = self.rows_at(stride_key, self.get_coordinates(in_key))
        rows = found.nonzero().squeeze(1)
        return rows, found[rows].long() - 1

    def interpolation_map_weight(
        self, key: CoordinateMapKey, samples: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Rows, sample numbers and weights of multilinear interpolation at (M, 1 + D) coordinates."""
        weights = interpolation_weights(self.coordinate_map(key), samples)
        return weights.rows, weights.samples, weights.weights

    def union_map(
        self, in_keys: Sequence[CoordinateMapKey], out_key: CoordinateMapKey | None = None
    ) -> list[Tensor]:
        """For each map (2, n) int64: its rows above those of the union; ``out_key`` is set to the union."""
        from monai_sparse_refine.engine.native.union import union_maps

        union = union_maps(self, in_keys)
        if out_key is not None:
            out_key.set_key(union.key.get_tensor_stride(), union.key.get_key()[1])
            out_key._map = self.coordinate_map(union.key)
        pairs = []
        for key, target in zip(in_keys, union.targets, strict=True):
            rows = torch.arange(self.size(key), device=self.get_coordinates(key).device)
            pairs.append(torch.stack([rows, rows if target is None else target.long()]))
        return pairs


CoordsManager = CoordinateManager


def _rows_by_item(batch: Tensor) -> tuple[Tensor, list[Tensor]]:
    items = torch.unique(batch)
    return items.long(), [(batch == item).nonzero().squeeze(1) for item in items]


def _distinct(batch: Tensor) -> Tensor:
    """Distinct batch indices, ascending, int32."""
    if len(batch) == 0:
        return batch.to(torch.int32)
    low, high = (int(v) for v in torch.aminmax(batch))
    if high - low > 2**20:
        return torch.unique(batch).to(torch.int32)
    present = torch.zeros(high - low + 1, dtype=torch.bool, device=batch.device)
    present[batch.long() - low] = True
    return (present.nonzero().squeeze(1) + low).to(torch.int32)
