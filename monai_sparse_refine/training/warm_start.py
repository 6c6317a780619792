"""Start training from weights of a narrower network, or one without optional layers."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from monai_sparse_refine.data import read_weights
from monai_sparse_refine.errors import InputError


def warm_start(network: nn.Module, path: str | Path) -> nn.Module:
    """Load weights into a network that may have more channels, or layers that the weights lack.

    What the old outputs take from new channels starts as zero, so that the network starts as if those were not
    there; what makes the new channels stays as it was made, and so does a layer that the weights lack. Old channels
    are the first ones. One line says what was new.

    Args:
        network: the network to train; it is changed and returned.
        path: plain state dict, or a checkpoint that has one; loaded with ``weights_only=True``.

    Raises:
        InputError: if the file cannot be read, holds a layer that the network lacks, or one that is larger there.
    """
    state = read_weights(path)
    own = network.state_dict()
    unknown = [name for name in state if name not in own]
    if unknown:
        raise InputError(f"Weights {path} are of another network: it has no {unknown[0]!r}.")
    widened = [name for name, value in state.items() if value.shape != own[name].shape]
    merged = {name: _fitted(state[name], value, name, path) for name, value in own.items() if name in state}
    network.load_state_dict({**own, **merged})
    new = len(own) - len(state)
    print(f"starting from {path}; wider: {widened or 'none'}; tensors that it lacks: {new}", flush=True)
    return network


def _fitted(value: Tensor, like: Tensor, name: str, path: str | Path) -> Tensor:
    """A kernel [K, Cin, Cout] or [Cin, Cout], or a vector [C], in the corner of the network's larger own."""
    if value.shape == like.shape:
        return value
    fits = value.ndim == like.ndim and all(a <= b for a, b in zip(value.shape, like.shape, strict=True))
    if not fits or value.shape[:-2] != like.shape[:-2]:
        raise InputError(
            f"Weights {path} do not fit: {name} has shape {tuple(value.shape)}, the network needs {tuple(like.shape)}."
        )
    filled = like.clone()
    filled[..., : value.shape[-1]] = 0  # of what the old outputs take from new inputs
    filled[tuple(slice(n) for n in value.shape)] = value
    return filled
