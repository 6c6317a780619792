"""Dense masks to the engine's sparse tensors, back, and collation of sparse tensors for loaders."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor, list_data_collate
from monai.transforms import MapTransform, Transform
from monai.utils import TransformBackends
from torch import Tensor

from monai_sparse_refine.engine import get_engine
from monai_sparse_refine.volume import as_tensor


class DenseToSparse(Transform):
    """Turn a dense mask into the engine's SparseTensor of its foreground voxels.

    Args:
        threshold: a voxel is active where any channel exceeds this value.
        engine: "auto", "minkowski" or "native".
        dtype: dtype of the features.
    """

    backend = [TransformBackends.TORCH]

    def __init__(
        self, *, threshold: float = 0.5, engine: str = "auto", dtype: torch.dtype = torch.float32
    ) -> None:
        self.threshold = threshold
        self.engine = engine
        self.dtype = dtype

    def __call__(self, mask: Any) -> Any:
        """Convert [C, *spatial] to a SparseTensor: rows [0, *voxel], features (N, C).

        Raises:
            ValueError: if there is no channel dimension or no active voxel (an engine has no empty tensor).
        """
        dense = as_tensor(mask)
        if dense.ndim < 2:
            raise ValueError(f"DenseToSparse expects [C, *spatial], got shape {tuple(dense.shape)}.")
        voxels = (dense > self.threshold).any(dim=0).nonzero()  # (N, D)
        if len(voxels) == 0:
            raise ValueError(
                "DenseToSparse got a mask without foreground: skip empty masks before this transform."
            )
        features = dense.movedim(0, -1)[tuple(voxels.unbind(1))].to(self.dtype)  # (N, C)
        coordinates = torch.cat([torch.zeros_like(voxels[:, :1]), voxels], dim=1)
        return get_engine(self.engine).SparseTensor(
            features=features.contiguous(), coordinates=coordinates.int().contiguous()
        )


class SparseToDense(Transform):
    """Turn a SparseTensor of one item (batch index 0) into a dense volume.

    Args:
        shape: spatial shape of the volume in voxels; needed unless a reference is given at the call.
        fill: value of the inactive voxels.
    """

    backend = [TransformBackends.TORCH]

    def __init__(self, *, shape: Sequence[int] | None = None, fill: float = 0.0) -> None:
        self.shape = None if shape is None else tuple(int(n) for n in shape)
        self.fill = fill

    def __call__(self, sparse: Any, reference: Any = None) -> Tensor:
        """Convert to [C, *spatial]; a ``reference`` [C, *spatial] gives shape and, as a MetaTensor, metadata.

        Raises:
            ValueError: without a shape, with more than one batch item, or with voxels outside the shape.
        """
        shape = self.shape if reference is None else tuple(reference.shape[1:])
        if shape is None:
            raise ValueError("SparseToDense needs the volume's shape: pass shape=, or a reference volume.")
        batch, voxels = sparse.C[:, 0], sparse.C[:, 1:].long()
        if len(voxels):
            if int(batch.max()) > 0:
                raise ValueError(
                    f"SparseToDense expects one item, got {int(batch.max()) + 1}: decompose the batch first."
                )
            low, high = voxels.amin(0).tolist(), voxels.amax(0).tolist()
            if min(low) < 0 or any(top >= n for top, n in zip(high, shape, strict=True)):
                raise ValueError(f"Voxels from {low} to {high} do not fit the shape {shape}.")
        features = sparse.F
        dense = features.new_full((*shape, features.shape[1]), self.fill)
        dense[tuple(voxels.unbind(1))] = features
        dense = dense.movedim(-1, 0).contiguous()
        if isinstance(reference, MetaTensor):
            return MetaTensor(dense, meta=reference.meta, applied_operations=reference.applied_operations)
        return dense


class DenseToSparsed(MapTransform):
    """Dictionary version of :class:`DenseToSparse`."""

    backend = DenseToSparse.backend

    def __init__(
        self,
        keys: KeysCollection,
        *,
        threshold: float = 0.5,
        engine: str = "auto",
        dtype: torch.dtype = torch.float32,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.convert = DenseToSparse(threshold=threshold, engine=engine, dtype=dtype)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        out = dict(data)
        for key in self.key_iterator(out):
            out[key] = self.convert(out[key])
        return out


class SparseToDensed(MapTransform):
    """Dictionary version of :class:`SparseToDense`; ``reference_key`` is the volume that gives shape and metadata."""

    backend = SparseToDense.backend

    def __init__(
        self,
        keys: KeysCollection,
        *,
        shape: Sequence[int] | None = None,
        reference_key: str | None = None,
        fill: float = 0.0,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.convert = SparseToDense(shape=shape, fill=fill)
        self.reference_key = reference_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        out = dict(data)
        reference = None if self.reference_key is None else out[self.reference_key]
        for key in self.key_iterator(out):
            out[key] = self.convert(out[key], reference)
        return out


def sparse_collate(batch: Sequence[Mapping[Hashable, Any]], *, engine: str = "auto") -> dict[Hashable, Any]:
    """Collate items for a DataLoader: sparse tensors are joined with their batch index, the rest as MONAI does.

    Args:
        batch: dictionaries with the same keys.
        engine: engine of the joined tensors.

    Raises:
        ValueError: for an empty batch or items with different keys.
    """
    if not batch:
        raise ValueError("sparse_collate got an empty batch.")
    if any(set(item) != set(batch[0]) for item in batch):
        raise ValueError("sparse_collate needs the same keys in every item of a batch.")
    sparse_keys = [key for key, value in batch[0].items() if _is_sparse(value)]
    out: dict[Hashable, Any] = {}
    dense = [{key: value for key, value in item.items() if key not in sparse_keys} for item in batch]
    if dense[0]:
        out.update(list_data_collate(dense))
    for key in sparse_keys:
        out[key] = _join([item[key] for item in batch], engine)
    return out


def _join(tensors: Sequence[Any], engine: str) -> Any:
    rows = []
    for index, tensor in enumerate(tensors):
        coordinates = tensor.C.clone()
        coordinates[:, 0] = index
        rows.append(coordinates)
    return get_engine(engine).SparseTensor(
        features=torch.cat([tensor.F for tensor in tensors]), coordinates=torch.cat(rows)
    )


def _is_sparse(value: Any) -> bool:
    return all(hasattr(value, name) for name in ("C", "F", "coordinate_manager"))


DenseToSparseD = DenseToSparseDict = DenseToSparsed
SparseToDenseD = SparseToDenseDict = SparseToDensed
