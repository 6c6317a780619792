"""The dense twin of the sparse super-resolution network: the same layers on every voxel, the fair baseline."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from monai_sparse_refine.networks.mask_refiner import SparsePrediction
from monai_sparse_refine.networks.sparse_unet import LevelPrediction
from monai_sparse_refine.networks.super_resolver import CLIP, steps_between


class DenseSuperResolver(nn.Module):
    """Dense network with the layers, channels and number of parameters of :class:`MaskSuperResolver`.

    It computes on every voxel of every grid, so it shows what sparsity costs or brings at equal capacity.

    Args:
        channels: channels of the U-net on the coarse grid, finest first.
        step_channels: channels of each step; as many as the network can take.
        steps: doublings where `forward` is not told.
    """

    def __init__(
        self,
        *,
        channels: Sequence[int] = (16, 32, 48),
        step_channels: Sequence[int] = (24, 16, 12),
        steps: int = 1,
    ) -> None:
        super().__init__()
        widths, growth = tuple(channels), tuple(step_channels)
        self.max_steps = len(growth)
        self.steps = steps
        self.stride = 2 ** (len(widths) - 1)
        self.stem = nn.Sequential(_conv(1, widths[0]), _conv(widths[0], widths[0]))
        self.encoder, self.decoder = nn.ModuleList(), nn.ModuleList()
        for fine, coarse in pairwise(widths):
            down = _block(nn.Conv3d(fine, coarse, 2, stride=2, bias=False), coarse)
            self.encoder.append(nn.Sequential(down, _conv(coarse, coarse)))
            self.decoder.insert(0, _Up(coarse, fine))
        self.growth = nn.ModuleList(
            _Step(source, target) for source, target in pairwise((widths[0], *growth))
        )

    def forward(
        self, x: Tensor, target: Tensor | None = None, *, steps: int | None = None
    ) -> Tensor | SparsePrediction:
        """Refine [B, 1, X, Y, Z]: logits of ``2 ** steps`` times the size, or with a target all levels for the loss."""
        x = x.as_subclass(Tensor)
        if target is not None:
            target = target.as_subclass(Tensor)
            steps = steps_between(x, target)
        steps = self.steps if steps is None else steps
        base = (x > 0.5).float()
        padding = [amount for n in reversed(x.shape[2:]) for amount in (0, -n % self.stride)]
        skips = [self.stem(F.pad(base * 2 - 1, padding, value=-1.0))]
        for stage in self.encoder:
            skips.append(stage(skips[-1]))
        features = skips.pop()
        for up in self.decoder:
            features = up(features, skips.pop())
        features = features[..., : x.shape[2], : x.shape[3], : x.shape[4]]
        levels, logits = [], base
        for level in range(steps):
            base = F.interpolate(base, scale_factor=2, mode="trilinear")
            features, logits = self.growth[level](features, torch.logit(base.clamp(CLIP, 1 - CLIP)))
            base = logits.detach().sigmoid()
            if target is not None:
                levels.append(_level(logits, target, stride=2 ** (steps - level - 1)))
        return logits if target is None else SparsePrediction(levels)


class _Up(nn.Module):
    """One level up in the U-net: transpose, add the skip, convolve."""

    def __init__(self, coarse: int, fine: int) -> None:
        super().__init__()
        self.grow = _grow(coarse, fine)
        self.refine = _conv(fine, fine)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        return self.refine(self.grow(x) + skip)


class _Step(nn.Module):
    """One doubling: transpose, look at the result beside the base logit, add what the head says to it."""

    def __init__(self, source: int, target: int) -> None:
        super().__init__()
        self.grow = _grow(source, target)
        self.look = nn.Sequential(_conv(target + 1, target), _conv(target, target))
        self.head = nn.Conv3d(target, 1, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.get_parameter("bias"))
        self.trust = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor, base: Tensor) -> tuple[Tensor, Tensor]:
        x = self.look(torch.cat([self.grow(x), base], dim=1))
        return x, self.head(x) + base * self.trust


def _block(layer: nn.Module, width: int) -> nn.Sequential:
    return nn.Sequential(layer, nn.BatchNorm3d(width), nn.ReLU(inplace=True))


def _conv(source: int, target: int) -> nn.Sequential:
    return _block(nn.Conv3d(source, target, 3, padding=1, bias=False), target)


def _grow(source: int, target: int) -> nn.Sequential:
    return _block(nn.ConvTranspose3d(source, target, 2, stride=2, bias=False), target)


def _level(logits: Tensor, target: Tensor, *, stride: int) -> LevelPrediction:
    mean = F.avg_pool3d(target.float(), stride) if stride > 1 else target
    no_coordinates = torch.zeros(0, 4, dtype=torch.int32, device=logits.device)
    return LevelPrediction(stride, no_coordinates, logits.flatten(), (mean >= 0.5).flatten())
