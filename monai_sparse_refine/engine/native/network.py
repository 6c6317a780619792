"""Base class of networks that know their number of dimensions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from torch import nn


class MinkowskiNetwork(nn.Module, ABC):
    """A module with the number of spatial dimensions in ``D``."""

    def __init__(self, D: int) -> None:
        super().__init__()
        self.D = D

    @abstractmethod
    def forward(self, x: Any) -> Any:
        """Run the network."""
