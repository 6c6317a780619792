"""Calls of the compiled kernels: pointers of contiguous tensors, and the number of threads."""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor

from monai_sparse_refine.engine.native.compiled.build import library

NAMES = {torch.float32: "float32", torch.float64: "float64"}


def usable(*tensors: Tensor) -> bool:
    """Whether the kernels are there and take these tensors: on the CPU, all float32 or all float64."""
    dtype = tensors[0].dtype
    if dtype not in NAMES or any(t.dtype != dtype or t.device.type != "cpu" for t in tensors):
        return False
    return library() is not None


def usable_coordinates(coordinates: Tensor) -> bool:
    """Whether the kernels are there and take these (N, 1 + D) int32 coordinates."""
    if coordinates.device.type != "cpu" or coordinates.dtype != torch.int32 or coordinates.shape[1] > 8:
        return False
    return library() is not None


def call(name: str, *arguments: Any) -> int:
    """Result of a kernel of 32 or 64 bits: tensors are passed by address, integers as 64 bits, None as null."""
    found = library()
    assert found is not None
    function = getattr(found, name)
    function.restype = ctypes.c_int64
    return int(function(*(_converted(argument) for argument in arguments)))


def run(name: str, *arguments: Any) -> None:
    """Call a kernel that works on several threads, whose last parameter is their number.

    Raises:
        MemoryError: it found no memory for its buffers.
    """
    if call(name, *arguments, torch.get_num_threads()):
        raise MemoryError(f"the native engine's kernel {name} found no memory for its buffers")


def _converted(argument: Any) -> Any:
    if isinstance(argument, Tensor):
        return ctypes.c_void_p(argument.data_ptr())
    if argument is None:
        return ctypes.c_void_p()
    return ctypes.c_int64(argument) if isinstance(argument, int) else argument
