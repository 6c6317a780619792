"""Start training from weights of a network with fewer inputs or without optional layers."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from monai_sparse_refine.errors import InputError


def warm_start(network: nn.Module, path: str | Path) -> nn.Module:
    """Load weights into a network that may take more input channels, or have layers that the weights lack.

    A kernel with fewer input channels is filled up with zeros, so that the network starts as if the new channels
    were not there; a layer that the weights lack stays as it was made. One line says what was new.

    Args:
        network: the network to train; it is changed and returned.
        path: plain state dict; loaded with ``weights_only=True``.

    Raises:
        InputError: if the file cannot be read, holds a layer that the network lacks, or one of another size.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        own = network.state_dict()
        unknown = [name for name in state if name not in own]
    except (OSError, RuntimeError, ValueError, TypeError) as error:
        raise InputError(f"Weights {path} cannot be read as a state dict: {error}") from error
    if unknown:
        raise InputError(f"Weights {path} are of another network: it has no {unknown[0]!r}.")
    widened = [name for name, value in state.items() if value.shape != own[name].shape]
    merged = {name: _fitted(state[name], value, name, path) for name, value in own.items() if name in state}
    network.load_state_dict({**own, **merged})
    new = len(own) - len(state)
    print(f"starting from {path}; wider input: {widened or 'none'}; tensors that it lacks: {new}", flush=True)
    return network


def _fitted(value: Tensor, like: Tensor, name: str, path: str | Path) -> Tensor:
    """A kernel [K, Cin, Cout] or [Cin, Cout] with zeros for the input channels that it lacks."""
    if value.shape == like.shape:
        return value
    more_inputs = (
        value.ndim == like.ndim >= 2
        and value.shape[-2] < like.shape[-2]
        and value.shape[:-2] == like.shape[:-2]
        and value.shape[-1] == like.shape[-1]
    )
    if not more_inputs:
        raise InputError(
            f"Weights {path} do not fit: {name} has shape {tuple(value.shape)}, the network needs {tuple(like.shape)}."
        )
    filled = torch.zeros_like(like)
    filled[..., : value.shape[-2], :] = value
    return filled
