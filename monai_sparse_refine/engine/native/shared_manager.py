"""The operation mode of MinkowskiEngine: one coordinate manager per tensor, or one for all."""

from __future__ import annotations

from monai_sparse_refine.engine.native.enums import SparseTensorOperationMode
from monai_sparse_refine.engine.native.manager import CoordinateManager


class _State:
    """MinkowskiEngine's API makes this a setting of the process."""

    mode = SparseTensorOperationMode.SEPARATE_COORDINATE_MANAGER
    manager: CoordinateManager | None = None


def set_sparse_tensor_operation_mode(operation_mode: SparseTensorOperationMode) -> None:
    """Let new tensors share one coordinate manager, or give each its own (the default).

    Raises:
        TypeError: for anything but a SparseTensorOperationMode.
    """
    if not isinstance(operation_mode, SparseTensorOperationMode):
        raise TypeError(f"operation_mode must be a SparseTensorOperationMode, got {operation_mode!r}.")
    _State.mode = operation_mode
    if operation_mode == SparseTensorOperationMode.SEPARATE_COORDINATE_MANAGER:
        _State.manager = None


def sparse_tensor_operation_mode() -> SparseTensorOperationMode:
    """The current operation mode."""
    return _State.mode


def global_coordinate_manager() -> CoordinateManager | None:
    """The shared coordinate manager, if there is one."""
    return _State.manager


def set_global_coordinate_manager(coordinate_manager: CoordinateManager) -> None:
    """Replace the shared coordinate manager."""
    _State.manager = coordinate_manager


def clear_global_coordinate_manager() -> None:
    """Forget the shared coordinate manager, and with it the coordinates it holds."""
    _State.manager = None


def manager_for(dimension: int) -> CoordinateManager:
    """The coordinate manager of a new tensor that was given none."""
    if _State.mode == SparseTensorOperationMode.SEPARATE_COORDINATE_MANAGER:
        return CoordinateManager(D=dimension)
    if _State.manager is None:
        _State.manager = CoordinateManager(D=dimension)
    return _State.manager
