"""Class probabilities of a dense network on the image's own grid, for a refiner to train on."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.inferers import Inferer, SimpleInferer
from monai.networks.utils import eval_mode
from monai.transforms import Compose, MapTransform
from monai.utils import TransformBackends
from torch import nn

__all__ = ["DenseProbabilitiesD", "DenseProbabilitiesDict", "DenseProbabilitiesd"]


class DenseProbabilitiesd(MapTransform):
    """Run a dense network on an image and bring its class probabilities back to the image's grid.

    Args:
        keys: key of the image, MetaTensor [1, X, Y, Z].
        network: gives logits [1, C, *working grid].
        preprocessing: dictionary transforms, invertible where they change the grid, that make the network's input
            from the image, both at the same key; the ones it is used with at inference.
        inferer: how the network is run; ``SimpleInferer`` by default.
        probability_key: key of the result, uint8 MetaTensor [C, X, Y, Z], 255 for a probability of 1.
        device: where the network is run.
        allow_missing_keys: do not raise where a key is missing.
    """

    backend = [TransformBackends.TORCH]

    def __init__(
        self,
        keys: KeysCollection,
        *,
        network: nn.Module,
        preprocessing: Any,
        inferer: Inferer | Callable | None = None,
        probability_key: Hashable = "probability",
        device: torch.device | str = "cpu",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.network = network
        self.preprocessing = preprocessing if isinstance(preprocessing, Compose) else Compose(preprocessing)
        self.inferer = SimpleInferer() if inferer is None else inferer
        self.probability_key = probability_key
        self.device = device

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Add the probabilities of the image in a dictionary."""
        d = dict(data)
        for key in self.key_iterator(d):
            source: Any = self.preprocessing({key: d[key].clone()})[key]
            with eval_mode(self.network):
                logits = self.inferer(source.as_tensor()[None].to(self.device), self.network)[0]
            answer = MetaTensor(logits.float().softmax(0).cpu(), meta=dict(source.meta))
            answer.applied_operations = list(source.applied_operations)
            back: Any = self.preprocessing.inverse({key: answer})[key]
            values = (back.as_tensor() * 255).round().clamp(0, 255).to(torch.uint8)
            d[self.probability_key] = MetaTensor(values, affine=d[key].affine)
        return d


DenseProbabilitiesD = DenseProbabilitiesDict = DenseProbabilitiesd
