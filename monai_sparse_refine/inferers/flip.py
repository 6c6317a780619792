"""Average a network's answer with that on the mirrored input (test-time mirroring)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from monai.inferers import Inferer
from torch import Tensor

from monai_sparse_refine.networks import flip_average


class FlipAverageInferer(Inferer):
    """Run a network on the input and on its flips, and average the probabilities.

    See :func:`monai_sparse_refine.networks.flip_average`.

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
        mean = flip_average(network, inputs, *args, spatial_axes=self.spatial_axes, **kwargs)
        return torch.logit(mean.float(), eps=1e-6)  # half precision has no such small number
