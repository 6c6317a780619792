"""Average a network's answer with that on the mirrored input (test-time mirroring)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from monai.inferers import Inferer
from torch import Tensor


class FlipAverageInferer(Inferer):
    """Run a network on the input and on its flips, and average the probabilities.

    Logits are averaged as probabilities, since a voxel that a generative network did not consider has a logit of
    -20, which would outvote any other in a plain mean.

    Args:
        spatial_axes: spatial axes to flip, one run each beside the plain one; (0,) is left and right in RAS.
    """

    def __init__(self, spatial_axes: Sequence[int] = (0,)) -> None:
        super().__init__()
        self.spatial_axes = tuple(spatial_axes)

    def __call__(self, inputs: Tensor, network: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        """Logits of the mean probability, in the network's shape [B, C, *spatial].

        Args:
            inputs: [B, C, *spatial].
            network: from inputs to logits of the same spatial shape.
        """
        total = torch.sigmoid(network(inputs, *args, **kwargs))
        for axis in self.spatial_axes:
            flipped = network(inputs.flip(2 + axis), *args, **kwargs)
            total = total + torch.sigmoid(flipped).flip(2 + axis)
        return torch.logit(total / (1 + len(self.spatial_axes)), eps=1e-6)
