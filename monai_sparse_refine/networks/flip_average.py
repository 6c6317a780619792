"""Test-time mirroring: the mean of what a network says about an input and about its flips."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = ["flip_average"]


def flip_average(
    network: Callable[..., Tensor],
    inputs: Tensor,
    *args: Any,
    spatial_axes: Sequence[int] = (0,),
    **kwargs: Any,
) -> Tensor:
    """Mean probability of a network on an input and on its flips.

    Probabilities are averaged, not logits: a voxel that a generative network did not consider has a logit of -20,
    which would outvote any other in a mean of logits.

    Args:
        network: from inputs to logits [B, C, *spatial], on the same grid or a finer one.
        inputs: [B, C, *spatial].
        args, kwargs: passed on to the network.
        spatial_axes: spatial axes to flip, one run each beside the plain one; (0,) is left and right in RAS.
    """
    total = torch.sigmoid(network(inputs, *args, **kwargs))
    for axis in spatial_axes:
        flipped = network(inputs.flip(2 + axis), *args, **kwargs)
        total += torch.sigmoid(flipped).flip(2 + axis)
    return total.div_(1 + len(spatial_axes)) if spatial_axes else total
