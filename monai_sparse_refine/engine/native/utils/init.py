"""Initial values of sparse kernels."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn


def kaiming_normal_(
    tensor: Tensor, a: float = 0, mode: str = "fan_in", nonlinearity: Any = "leaky_relu"
) -> Tensor:
    """Fill a kernel in place from N(0, gain^2 / fan), He et al., ICCV 2015 (doi 10.1109/ICCV.2015.123).

    Args:
        tensor: (K, Cin, Cout) or (Cin, Cout); its fan is K times Cin ("fan_in") or Cout ("fan_out").
        a: negative slope of the leaky ReLU that follows.
        mode: "fan_in" or "fan_out".
        nonlinearity: as in ``torch.nn.init.calculate_gain``.

    Raises:
        ValueError: for another mode or number of dimensions.
    """
    if tensor.ndim not in (2, 3):
        raise ValueError(f"tensor must be (K, Cin, Cout) or (Cin, Cout), got {tuple(tensor.shape)}.")
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f'mode must be "fan_in" or "fan_out", got {mode!r}.')
    volume = tensor.shape[0] if tensor.ndim == 3 else 1
    fan = volume * tensor.shape[-2 if mode == "fan_in" else -1]
    with torch.no_grad():
        return tensor.normal_(0, nn.init.calculate_gain(nonlinearity, a) / math.sqrt(fan))
