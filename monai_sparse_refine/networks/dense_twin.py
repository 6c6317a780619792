"""The dense twin of the sparse generative U-net: the same layers on every voxel, the fair baseline."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from monai_sparse_refine.networks.mask_refiner import RESIDUAL_EPS, SAME_FRACTION, SparsePrediction
from monai_sparse_refine.networks.sparse_unet import LevelPrediction, resolve_channels


class DenseTwin(nn.Module):
    """Dense U-net with the layers, channels, heads and number of parameters of :class:`SparseGenerativeUNet`.

    It computes on every voxel and prunes nothing, so it shows what sparsity costs or brings at equal capacity.
    Volumes are padded with background to a multiple of the coarsest stride, and cropped again.

    Args:
        in_channels: channels of the input.
        spatial_dims: 2 or 3.
        channels: preset ("ch1", "ch2") or channels per level, finest first.
        deepest_kernel: kernel of the deepest transposed convolution (4 or 2).
        head_bias: initial bias of the heads.
        active_threshold: value above which a voxel of a soft target, or of the mask to refine, counts on the
            coarser levels, as in :class:`MaskRefiner`.
        fuse: a residual 3x3x3 convolution after the encoder's features are added, at every level.
        residual_channel: see :class:`monai_sparse_refine.networks.MaskRefiner`.
    """

    def __init__(
        self,
        *,
        in_channels: int = 1,
        spatial_dims: int = 3,
        channels: str | Sequence[int] = "ch1",
        deepest_kernel: int = 4,
        head_bias: float = -3.0,
        active_threshold: float = 0.5,
        fuse: bool = False,
        residual_channel: int | None = None,
    ) -> None:
        super().__init__()
        if residual_channel is not None and not 0 <= residual_channel < in_channels:
            raise ValueError(
                f"residual_channel must be one of {in_channels} channels, got {residual_channel}."
            )
        if spatial_dims not in (2, 3) or deepest_kernel not in (2, 4):
            raise ValueError(
                f"DenseTwin needs spatial_dims 2 or 3 and deepest_kernel 2 or 4, got {spatial_dims}, {deepest_kernel}."
            )
        widths = resolve_channels(channels)
        self.in_channels = in_channels
        self.active_threshold = active_threshold
        self.residual_channel = residual_channel
        self.levels = len(widths) - 1
        conv = nn.Conv3d if spatial_dims == 3 else nn.Conv2d
        transpose = nn.ConvTranspose3d if spatial_dims == 3 else nn.ConvTranspose2d
        norm = nn.BatchNorm3d if spatial_dims == 3 else nn.BatchNorm2d

        def block(layer: nn.Module, width: int) -> nn.Sequential:
            return _Block(layer, norm(width), nn.ReLU(inplace=True))

        def same(source: int, width: int) -> nn.Sequential:
            return block(conv(source, width, 3, padding=1, bias=False), width)

        self.stem = same(in_channels, widths[0])
        self.encoder, self.decoder, self.heads = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        self.joins = nn.ModuleList()
        for fine, coarse in pairwise(widths):
            down = block(conv(fine, coarse, 2, stride=2, bias=False), coarse)
            self.encoder.append(nn.Sequential(down, same(coarse, coarse)))
        for level in reversed(range(self.levels)):
            fine, coarse = widths[level], widths[level + 1]
            kernel = deepest_kernel if level == self.levels - 1 else 2
            padding = (kernel - 2) // 2
            up = block(transpose(coarse, fine, kernel, stride=2, padding=padding, bias=False), fine)
            self.decoder.append(nn.Sequential(up, same(fine, fine)))
            if fuse:
                join = same(fine, fine)
                nn.init.zeros_(join[1].get_parameter("weight"))
                self.joins.append(join)
            head = conv(fine, 1, 1)
            nn.init.constant_(head.get_parameter("bias"), head_bias)
            self.heads.append(head)
        if residual_channel is not None:
            nn.init.zeros_(self.heads[-1].get_parameter("bias"))

    def forward(self, x: Tensor, target: Tensor | None = None) -> Tensor | SparsePrediction:
        """Refine [B, in_channels, *spatial]: logits [B, 1, *spatial], or with a target all levels for the loss."""
        spatial = x.shape[2:]
        stride = 2**self.levels
        padding = [amount for n in reversed(spatial) for amount in (0, -n % stride)]
        volume = F.pad(x.as_subclass(Tensor).float(), padding)
        skips = [self.stem(volume)]
        for stage in self.encoder:
            skips.append(stage(skips[-1]))
        features = skips.pop()
        truth = None if target is None else F.pad(target.as_subclass(Tensor).float(), padding)
        levels = []
        logits = features
        for stage, head, level in zip(self.decoder, self.heads, reversed(range(self.levels)), strict=True):
            features = stage(features) + skips.pop()
            if self.joins:
                features = features + self.joins[self.levels - 1 - level](features)
            if truth is None and level:
                continue
            logits = head(features)
            if level == 0 and self.residual_channel is not None:
                prior = volume[:, self.residual_channel : self.residual_channel + 1]
                logits = logits + torch.logit(prior, eps=RESIDUAL_EPS)
            if truth is not None:
                levels.append(self._level(logits, truth, volume[:, :1], stride=2**level))
        if truth is not None:
            return SparsePrediction(levels)
        crop = (slice(None), slice(None), *(slice(0, n) for n in spatial))
        return logits[crop]

    def _level(self, logits: Tensor, truth: Tensor, mask: Tensor, *, stride: int) -> LevelPrediction:
        """One level for the loss, with what its cells hold of the target and what the mask tells already."""
        active = mask > self.active_threshold
        if stride > 1:
            pool = F.max_pool3d if truth.ndim == 5 else F.max_pool2d
            reached = pool(truth, stride) > self.active_threshold
            known = pool(active.float(), stride) > 0
        else:
            reached, known = truth, active & ((truth - mask).abs() <= SAME_FRACTION)
        no_coordinates = torch.zeros(0, 1 + truth.ndim - 2, dtype=torch.int32, device=logits.device)
        return LevelPrediction(
            stride, no_coordinates, logits.flatten(), reached.flatten(), known=known.flatten()
        )


class _Block(nn.Sequential):
    """Layers whose batch norm also trains on one case with a single coarsest voxel, with its running statistics."""

    def forward(self, x: Tensor) -> Tensor:
        for layer in self:
            norm = isinstance(layer, nn.modules.batchnorm._BatchNorm) and layer.training
            alone = norm and x.numel() == x.shape[1]
            x = layer.train(False)(x) if alone else layer(x)
            if alone:
                layer.train(True)
        return x
