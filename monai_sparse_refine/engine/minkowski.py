"""The real MinkowskiEngine, guarded: this module is the namespace that ``get_engine("minkowski")`` returns.

It has all names of the library (0.5.4); those defined here replace the library's where it errs or crashes:

- A union names its coordinate map after nothing but its stride, so that a second union in one coordinate
  manager silently gets the coordinates of the first; a map strided from a pruned one can meet an earlier
  pruning in the same way. Here every union and every pruning has a name of its own. ``a + b`` calls a method
  of the library's own tensors, so that method (``SparseTensor._binary_functor``) is replaced in the library.
- A kernel map from or to no voxel ends the process. Here the result has no voxel, or zeros (plus the bias)
  where the output's coordinates are given.
- The kernels compute in float32 and float64 only. Half-precision features, which autocast makes, are taken
  back to the precision of the weights.

On the CPU the library multiplies many small matrices. A BLAS that starts threads for each was measured up to
ten times slower, so OpenBLAS is loaded with one thread; ``OPENBLAS_NUM_THREADS`` decides otherwise.
``OMP_NUM_THREADS`` (read when this module is imported) bounds the library's own threads; with more than one,
the order of the voxels, and with it the rounding, can differ between two runs.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from monai_sparse_refine.engine.library import import_library

library: Any = import_library()
"""The unguarded library itself, for comparisons."""


def __getattr__(name: str) -> Any:
    return getattr(library, name)


def supports_device(kind: str) -> bool:
    """Whether the installed build computes on this kind of device ("cpu", "cuda", ...)."""
    return kind == "cpu" or (kind == "cuda" and bool(library.is_cuda_available()))


def _insert(manager: Any, coordinates: Tensor, tensor_stride: Sequence[int]) -> tuple[Any, Tensor, Tensor]:
    """A new map of the distinct coordinates (N, 1 + D), under a name that no other map has or will get.

    Returns:
        Its key, the row of ``coordinates`` that each of its M rows is from (M), and the row each went to (N).
    """
    key, (first, into) = manager.insert_and_map(
        coordinates.int().contiguous(), list(tensor_stride), uuid.uuid4().hex
    )
    first = first.long()
    if len(into) < len(coordinates):  # the library leaves this out where nothing is there twice
        into = torch.empty(len(coordinates), dtype=torch.long, device=coordinates.device)
        into[first] = torch.arange(len(first), device=coordinates.device)
    return key, first, into.long()


def _sparse_tensor(features: Tensor, key: Any, manager: Any) -> Any:
    return library.SparseTensor(features, coordinate_map_key=key, coordinate_manager=manager)


def _merge(tensors: Sequence[Any]) -> tuple[Any, int, list[Tensor]]:
    """Key and size of the union of the coordinates, and for each tensor the rows where its own went."""
    manager = tensors[0].coordinate_manager
    if any(tensor.coordinate_manager != manager for tensor in tensors):
        raise ValueError(
            "the sparse tensors have different coordinate managers, expected one: make the second with "
            "SparseTensor(..., coordinate_manager=first.coordinate_manager)"
        )
    widths = [tensor.F.shape[1] for tensor in tensors]
    if len(set(widths)) > 1:
        raise ValueError(f"the sparse tensors have {widths} channels, expected the same number in each")
    stride = [min(strides) for strides in zip(*(tensor.tensor_stride for tensor in tensors), strict=True)]
    key, first, into = _insert(manager, torch.cat([tensor.C for tensor in tensors]), stride)
    return key, len(first), list(into.split([len(tensor) for tensor in tensors]))


def _combine(self: Any, other: Any, operation: Callable[[Tensor, Tensor], Tensor]) -> Any:
    """``self operation other``, over the union of their coordinates where those differ (missing: 0)."""
    if isinstance(other, Tensor):
        return _sparse_tensor(operation(self.F, other), self.coordinate_map_key, self.coordinate_manager)
    if not isinstance(other, library.SparseTensor):
        raise TypeError(f"the second operand is {type(other).__name__}, expected a SparseTensor or a Tensor")
    if (
        self.coordinate_manager == other.coordinate_manager
        and self.coordinate_map_key == other.coordinate_map_key
    ):
        return _sparse_tensor(operation(self.F, other.F), self.coordinate_map_key, self.coordinate_manager)
    key, size, (rows, other_rows) = _merge((self, other))
    left = self.F.new_zeros(size, self.F.shape[1]).index_add(0, rows, self.F)  # (M, C)
    features = left.index_copy(0, other_rows, operation(left[other_rows], other.F))
    return _sparse_tensor(features, key, self.coordinate_manager)


library.SparseTensor._binary_functor = _combine


class MinkowskiUnion(torch.nn.Module):
    """The sum of sparse tensors over the union of their coordinates, a missing feature being 0."""

    def forward(self, *inputs: Any) -> Any:
        """Add two or more SparseTensors (N_i, C) of one coordinate manager.

        Raises:
            ValueError: fewer than two, different coordinate managers, or different numbers of channels.
        """
        if len(inputs) < 2:
            raise ValueError(f"a union takes 2 or more sparse tensors, got {len(inputs)}")
        key, size, rows = _merge(inputs)
        features = torch.cat([tensor.F for tensor in inputs])
        summed = features.new_zeros(size, features.shape[1]).index_add(0, torch.cat(rows), features)  # (M, C)
        return _sparse_tensor(summed, key, inputs[0].coordinate_manager)


class MinkowskiPruning(torch.nn.Module):
    """Keep the voxels where a mask is true."""

    def forward(self, input: Any, mask: Tensor) -> Any:
        """Keep the rows of the SparseTensor (N, C) where ``mask`` (N) is true; none at all is allowed.

        Raises:
            ValueError: the mask is not boolean, or not of N elements.
        """
        if mask.dtype != torch.bool or mask.shape != (len(input),):
            raise ValueError(f"mask is {mask.dtype} {tuple(mask.shape)}, expected torch.bool ({len(input)},)")
        key, first, _ = _insert(input.coordinate_manager, input.C[mask], input.tensor_stride)
        return _sparse_tensor(input.F[mask][first], key, input.coordinate_manager)


class _KernelGuard:
    """Mixed into a layer that needs a kernel map: computes without one where there is no voxel to map."""

    kernel_generator: Any
    transposed = False

    def no_rows(self, features: Tensor) -> Tensor:
        """Features (0, C) -> (0, C') the way the layer would, so that gradients (of zero) flow."""
        return features

    def forward(self, input: Any, coordinates: Any = None) -> Any:
        """Apply the layer to a SparseTensor (N, C); see the library for ``coordinates``."""
        features = input.F
        kernel: Tensor | None = getattr(self, "kernel", None)
        dtype = torch.float32 if kernel is None else kernel.dtype
        if dtype not in (torch.float32, torch.float64):
            raise TypeError(
                f"the weights are {dtype}, but MinkowskiEngine needs float32 or float64: keep the model "
                "in float32 (autocast is fine), or use the native engine"
            )
        if features.dtype in (torch.float16, torch.bfloat16):
            input = _sparse_tensor(features.to(dtype), input.coordinate_map_key, input.coordinate_manager)
        elif kernel is not None and features.dtype != dtype:
            raise TypeError(f"the features are {features.dtype} and the weights {dtype}, expected the same")
        with torch.autocast(device_type=features.device.type, enabled=False):
            key = self._given_key(input, coordinates)
            if getattr(self, "use_mm", False) or (
                len(input) and (key is None or input.coordinate_manager.size(key))
            ):
                return super().forward(input, key)  # type: ignore[misc]
            return self._from_or_to_nothing(input, key)

    def _out_stride(self, input: Any) -> list[int]:
        strides = zip(input.tensor_stride, self.kernel_generator.kernel_stride, strict=True)
        return [old // new if self.transposed else old * new for old, new in strides]

    def _given_key(self, input: Any, coordinates: Any) -> Any:
        if isinstance(coordinates, Tensor):
            return _insert(input.coordinate_manager, coordinates, self._out_stride(input))[0]
        return getattr(coordinates, "coordinate_map_key", coordinates)

    def _own_key(self, input: Any) -> Any:
        """The map the library would choose: a new one, or on the way up the first that is there."""
        manager, stride = input.coordinate_manager, self._out_stride(input)
        if self.transposed and not self.kernel_generator.expand_coordinates:
            for key in manager._manager.get_coordinate_map_keys(stride):
                if key.get_key()[1] == "":
                    return key
        return _insert(manager, input.C[:0], stride)[0]

    def _from_or_to_nothing(self, input: Any, key: Any) -> Any:
        manager = input.coordinate_manager
        if key is None:
            key = self._own_key(input)
        rows = self.no_rows(input.F[:0])  # (0, C')
        nowhere = torch.zeros(0, dtype=torch.long, device=rows.device)
        features = rows.new_zeros(manager.size(key), rows.shape[1]).index_add(0, nowhere, rows)  # (M, C')
        bias: Tensor | None = getattr(self, "bias", None)
        return _sparse_tensor(features if bias is None else features + bias, key, manager)


class _ConvolutionGuard(_KernelGuard):
    kernel: Tensor  # (K, C, C')

    def no_rows(self, features: Tensor) -> Tensor:
        return features @ self.kernel[0]


class MinkowskiConvolution(_ConvolutionGuard, library.MinkowskiConvolution):
    """Sparse convolution."""


class MinkowskiConvolutionTranspose(_ConvolutionGuard, library.MinkowskiConvolutionTranspose):
    """Transposed sparse convolution onto coordinates that are there already."""

    transposed = True


class MinkowskiGenerativeConvolutionTranspose(
    _ConvolutionGuard, library.MinkowskiGenerativeConvolutionTranspose
):
    """Transposed sparse convolution that makes its output's coordinates."""

    transposed = True


class MinkowskiChannelwiseConvolution(_KernelGuard, library.MinkowskiChannelwiseConvolution):
    """Sparse convolution of each channel by itself."""

    def no_rows(self, features: Tensor) -> Tensor:
        return features * self.kernel[0]


class MinkowskiSumPooling(_KernelGuard, library.MinkowskiSumPooling):
    """Sum over the voxels under the kernel."""


class MinkowskiAvgPooling(_KernelGuard, library.MinkowskiAvgPooling):
    """Mean over the voxels under the kernel."""


class MinkowskiMaxPooling(_KernelGuard, library.MinkowskiMaxPooling):
    """Maximum over the voxels under the kernel."""


class MinkowskiPoolingTranspose(_KernelGuard, library.MinkowskiPoolingTranspose):
    """Distribute features over the voxels under the kernel."""

    transposed = True
