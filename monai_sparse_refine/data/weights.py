"""Load a network's weights safely, and say what is wrong where they do not fit."""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from monai_sparse_refine.errors import InputError

__all__ = ["load_weights", "read_weights"]

Network = TypeVar("Network", bound=nn.Module)

# First bytes of the small text file that stands for a large one where git-lfs has not fetched it.
LFS_POINTER = b"version https://git-lfs"


def read_weights(path: str | os.PathLike[str]) -> dict[str, torch.Tensor]:
    """Read a state dict, with `weights_only=True`, so that no code in the file can run.

    Args:
        path: file written by `torch.save` of a state dict, or of a dict that has one under "model" or "network" (as
            MONAI's CheckpointSaver writes it).

    Returns:
        The state dict, on the CPU.

    Raises:
        InputError: missing, unreadable, corrupt, or something else than a state dict.
    """
    file = Path(path).expanduser()
    if file.is_dir():
        raise InputError(
            f"weights {file}: is a folder; expected a file written by torch.save, such as model.pt"
        )
    if not file.is_file():
        raise InputError(f"weights {file}: no such file; check the path, or train first")
    try:
        with file.open("rb") as stream:
            if stream.read(len(LFS_POINTER)) == LFS_POINTER:
                raise InputError(f"weights {file}: is a git-lfs pointer, not the weights; run `git lfs pull`")
        content = torch.load(file, map_location="cpu", weights_only=True)
    except InputError:
        raise
    except pickle.UnpicklingError as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else "not a pickle"
        raise InputError(
            f"weights {file}: cannot be loaded safely ({_short(reason)}); the file is corrupt, or holds more "
            "than tensors: save it again with torch.save(network.state_dict(), path)"
        ) from error
    except Exception as error:
        # torch.load raises anything from RuntimeError to KeyError and EOFError on bytes that it does not
        # expect.
        raise InputError(
            f"weights {file}: cannot be read ({type(error).__name__}: {_short(str(error))}); the file is "
            "corrupt or incomplete: copy it again"
        ) from error
    for name in ("model", "network"):
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
            content = content[name]
    if (
        not isinstance(content, Mapping)
        or not content
        or not all(torch.is_tensor(v) for v in content.values())
    ):
        raise InputError(
            f"weights {file}: holds {_describe(content)}; expected a state dict, or one under 'model' or 'network': "
            "save it with torch.save(network.state_dict(), path)"
        )
    bad = [name for name, v in content.items() if v.is_floating_point() and not bool(torch.isfinite(v).all())]
    if bad:
        raise InputError(
            f"weights {file}: NaN or infinity in {_list(bad)}; take a checkpoint from before it diverged"
        )
    return {str(name): value for name, value in content.items()}


def load_weights(network: Network, path: str | os.PathLike[str], *, strict: bool = True) -> Network:
    """Load weights into a network.

    Args:
        network: changed in place, and only where everything fits.
        path: see `read_weights`.
        strict: every weight of the network has to be in the file and the other way round. If False, those
            with the same name are loaded, and have to have the same shape all the same.

    Returns:
        The network.

    Raises:
        InputError: as `read_weights`, or for names or shapes that do not fit; a few are named.
    """
    found = read_weights(path)
    wanted = network.state_dict()
    # Distributed training saves the wrapper's names.
    if found and all(name.startswith("module.") for name in found) and not any(n in wanted for n in found):
        found = {name.removeprefix("module."): value for name, value in found.items()}
    missing = [name for name in wanted if name not in found]
    extra = [name for name in found if name not in wanted]
    other = [
        f"{name} {_shape(value)} instead of {_shape(wanted[name])}"
        for name, value in found.items()
        if name in wanted and _shape(value) != _shape(wanted[name])
    ]
    problems = []
    if other:
        problems.append(f"{len(other)} of another shape ({_list(other)})")
    if missing and (strict or len(missing) == len(wanted)):
        problems.append(f"{len(missing)} missing ({_list(missing)})")
    if extra and strict:
        problems.append(f"{len(extra)} unknown ({_list(extra)})")
    if problems:
        raise InputError(
            f"weights {Path(path)}: do not fit {type(network).__name__}: {'; '.join(problems)}; "
            "use the weights of this network, or build it with the settings (channels, levels) of the weights"
        )
    network.load_state_dict(found, strict=strict)
    return network


def _shape(value: Any) -> tuple[int, ...]:
    return tuple(value.shape) if torch.is_tensor(value) else ()


def _list(names: Sequence[str], *, limit: int = 3) -> str:
    return ", ".join(names[:limit]) + (", ..." if len(names) > limit else "")


def _short(text: str, *, limit: int = 120) -> str:
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 3] + "..."


def _describe(content: Any) -> str:
    if isinstance(content, Mapping):
        return f"a dict with the keys {_list([str(key) for key in content])}" if content else "an empty dict"
    return f"a {type(content).__name__}"
