"""The sparse generative U-net: an encoder on the input's voxels, a decoder that grows and prunes voxels."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from monai_sparse_refine.engine import get_engine
from monai_sparse_refine.engine.native import fused
from monai_sparse_refine.networks.anchor import anchor
from monai_sparse_refine.networks.frozen_norm import freeze_norms
from monai_sparse_refine.networks.occupancy import OccupiedCells, all_within_bounds, within_bounds

CHANNEL_PRESETS: dict[str, tuple[int, ...]] = {
    "ch1": (8, 8, 16, 16, 32, 32, 64),  # 434,686 parameters
    "ch2": (22, 32, 32, 128, 156, 256, 388),  # 18,137,178 parameters
}


class LevelPrediction(NamedTuple):
    """The voxels generated at one decoder level.

    ``stride`` in voxels; ``coordinates`` (N, 1 + D) int32 rows [batch, x, y, ...]; ``logits`` (N,);
    ``target`` (N,) where a target was given, else None: bool, or the true fractions in [0, 1] of a soft target;
    ``known`` (N,) bool, where the mask to refine has the answer already, if that was asked for.
    """

    stride: int
    coordinates: Tensor
    logits: Tensor
    target: Tensor | None
    known: Tensor | None = None


class SparseGenerativeUNet(nn.Module):
    """Generate the voxels of a refined mask from the voxels of a defective one.

    The reference network of Li et al., Sci. Rep. 13:20229 (2023): convolution k3, then per level
    [convolution k2 s2, convolution k3] down and [generative transpose s2, convolution k3] up, each with batch
    norm and ReLU; the encoder's features are added over the union of voxels, a 1x1x1 head scores every voxel and
    those with logit <= ``keep_threshold`` are pruned. In training the target's voxels stay too, except at stride 1.

    Args:
        in_channels: features per input voxel.
        channels: preset name ("ch1", "ch2") or the channels per level, finest first; one more than the levels.
        dimension: number of spatial dimensions, 1 to 4.
        deepest_kernel: kernel of the deepest generative transpose (4 in the reference, 2 elsewhere).
        head_bias: initial bias of the heads. A negative prior keeps an untrained network from exploding.
        keep_threshold: logit above which a voxel of a level before the last gets children (0 in the reference).
            What is pruned on a coarse level is lost, what is kept in vain is rejected on a finer one; so a
            negative threshold, in training and at inference alike, closes holes that 0 leaves open.
        fuse: add a residual 3x3x3 convolution after the union with the encoder's features, at every level. The
            reference has none: there, what the decoder imagines and what the encoder saw meet in the 1x1x1 head
            only. A new one passes its input on unchanged.
        max_voxels: most voxels that any level may generate; above it the most probable parents stay, with a
            warning. The deepest level generates at most ``deepest_kernel ** dimension`` per input cell.
        engine: "auto", "minkowski" or "native" (see :func:`monai_sparse_refine.engine.get_engine`).
        frozen_norm: normalise with the running statistics in training too. Statistics of a few small patches are not
            those of a whole volume; a last phase of training with frozen ones fits the weights to what inference uses.
        outputs: heads of their own for so many kinds of masks, one of which answers for each case of a batch.
    """

    def __init__(
        self,
        *,
        in_channels: int = 1,
        channels: str | Sequence[int] = "ch1",
        dimension: int = 3,
        deepest_kernel: int = 4,
        head_bias: float = -3.0,
        keep_threshold: float = 0.0,
        fuse: bool = False,
        max_voxels: int = 8_000_000,
        engine: str = "auto",
        frozen_norm: bool = False,
        outputs: int = 1,
    ) -> None:
        super().__init__()
        widths = resolve_channels(channels)
        if max_voxels < 1:
            raise ValueError(f"max_voxels must be at least 1, got {max_voxels}.")
        if outputs < 1:
            raise ValueError(f"outputs must be at least 1, got {outputs}.")
        self.dimension = dimension
        self.channels = widths
        self.levels = len(widths) - 1
        self.keep_threshold = keep_threshold
        self.max_voxels = max_voxels
        self.frozen_norm = frozen_norm
        me = get_engine(engine)
        self.engine_name = me.__name__.rsplit(".", 1)[-1]  # what "auto" meant when the layers were made
        options = {"dimension": dimension}

        self.stem = _block(me, me.MinkowskiConvolution(in_channels, widths[0], kernel_size=3, **options))
        self.encoder = nn.ModuleList()
        self.decoder = nn.ModuleList()
        self.heads = nn.ModuleList()
        for level in range(self.levels):
            fine, coarse = widths[level], widths[level + 1]
            self.encoder.append(
                nn.Sequential(
                    _block(me, me.MinkowskiConvolution(fine, coarse, kernel_size=2, stride=2, **options)),
                    _block(me, me.MinkowskiConvolution(coarse, coarse, kernel_size=3, **options)),
                )
            )
        for level in reversed(range(self.levels)):  # deepest first
            fine, coarse = widths[level], widths[level + 1]
            kernel = deepest_kernel if level == self.levels - 1 else 2
            grow = me.MinkowskiGenerativeConvolutionTranspose(
                coarse, fine, kernel_size=kernel, stride=2, **options
            )
            head = me.MinkowskiConvolution(fine, outputs, kernel_size=1, bias=True, **options)
            nn.init.constant_(head.bias, head_bias)
            refine = _block(me, me.MinkowskiConvolution(fine, fine, kernel_size=3, **options))
            join = _residual(me, fine, options) if fuse else None
            self.decoder.append(_Growth(grow, _norm(me, fine), refine, join))
            self.heads.append(head)
        self.train()

    def train(self, mode: bool = True) -> SparseGenerativeUNet:
        """Training or evaluation mode; frozen norms stay in evaluation mode."""
        super().train(mode)
        if self.frozen_norm:
            freeze_norms(self, self.engine_name)
        return self

    def forward(
        self,
        x: Any,
        *,
        bounds: Sequence[int] | None = None,
        target: Tensor | None = None,
        output: Tensor | None = None,
    ) -> list[LevelPrediction]:
        """Run the network.

        Args:
            x: the engine's SparseTensor at tensor stride 1.
            bounds: spatial shape of the volume in voxels; generated voxels outside [0, bounds) are removed.
            target: (M, 1 + D) coordinates of the true mask. Given, every level carries its target, and target
                voxels are kept on the way down whatever their logit (training).
            output: (B,) int64, which of the outputs answers for each case of the batch; needed with more than one.

        Returns:
            One prediction per generated level, coarsest first; the refined mask is the voxels of the last one
            (stride 1) with logit > 0. Levels after one that kept nothing are empty.
        """
        me = get_engine(self.engine_name)
        prune, union = me.MinkowskiPruning(), me.MinkowskiUnion()
        skips = [self.stem(x)]
        for stage in self.encoder:
            skips.append(stage(skips[-1]))
        x = skips.pop()
        members = None if target is None else OccupiedCells(target)

        def clip(grown: Any) -> Any:
            if bounds is None or all_within_bounds(grown.C, bounds):
                return grown
            return prune(grown, within_bounds(grown.C, bounds))

        predictions: list[LevelPrediction] = []
        stages: Any = zip(self.decoder, self.heads, reversed(range(self.levels)), strict=True)
        for stage, head, level in stages:
            stride = 2**level
            x = union(stage(x, clip), skips.pop())
            if stage.fuse is not None:
                x = x + stage.fuse(x)
            coordinates = x.C
            answers = head(x).F  # (N, outputs)
            logits = (
                answers[:, 0] if output is None else answers[_each(output[coordinates[:, 0].long()])]
            )  # (N,)
            truth = None if members is None else members.at(coordinates, stride=stride)
            predictions.append(LevelPrediction(stride, coordinates, logits, truth))
            if level == 0:
                break
            keep = self._keep(logits.detach(), truth)
            if not bool(keep.any()):
                if target is not None and torch.distributed.is_initialized():
                    unused = [*self.decoder[self.levels - level :], *self.heads[self.levels - level :]]
                    predictions[-1] = predictions[-1]._replace(logits=logits + anchor(unused))
                predictions.extend(_empty_levels(level, coordinates, logits, target is not None))
                break
            x = prune(x, keep)
        return predictions

    def _keep(self, logits: Tensor, truth: Tensor | None) -> Tensor:
        """Voxels that go on to the next level: probable or true ones, within the budget."""
        keep = logits > self.keep_threshold
        if truth is not None:
            keep = keep | truth
        budget = max(1, self.max_voxels // 2**self.dimension)
        kept = int(keep.sum())
        if kept <= budget:
            return keep
        warnings.warn(
            f"max_voxels={self.max_voxels} reached: {kept * 2**self.dimension} voxels would be generated, only the "
            f"children of the {budget} most probable are. Raise max_voxels, or check that the weights fit the input.",
            stacklevel=3,
        )
        score = logits.masked_fill(~keep, float("-inf"))
        if truth is not None:
            score = score.masked_fill(truth, float("inf"))  # the true voxels are the last to go
        chosen = torch.zeros_like(keep)
        chosen[score.topk(budget).indices] = True
        return chosen


def _each(column: Tensor) -> tuple[Tensor, Tensor]:
    """Index of one column in each row."""
    return torch.arange(len(column), device=column.device), column


def resolve_channels(channels: str | Sequence[int]) -> tuple[int, ...]:
    """Channels per level, finest first, from a preset name or an explicit list."""
    if isinstance(channels, str):
        if channels not in CHANNEL_PRESETS:
            raise ValueError(f"channels={channels!r} is not a preset; choose from {sorted(CHANNEL_PRESETS)}.")
        return CHANNEL_PRESETS[channels]
    widths = tuple(int(width) for width in channels)
    if len(widths) < 2 or min(widths) < 1:
        raise ValueError(f"channels needs at least two positive numbers (one level), got {widths}.")
    return widths


class _Block(nn.Sequential):
    """A convolution if there is one, batch norm and ReLU; it also trains on a single voxel, as at the bottom of a small
    volume.

    One voxel has no variance: its level is then normalised with the running statistics, as at inference.

    Args:
        layers: the layers in their order.
        native: the layers are the native engine's, which computes several as one.
    """

    def __init__(self, *layers: nn.Module, native: bool) -> None:
        super().__init__(*layers)
        self.native = native

    def forward(self, x: Any) -> Any:
        layers: list[Any] = list(self)
        *convolution, norm, relu = layers
        if convolution and self.native and not self.training:
            return fused.convolve_norm_relu(convolution[0], norm, x)
        x = convolution[0](x) if convolution else x
        alone = norm.training and len(x.F) < 2
        if alone:
            norm.train(False)
        x = fused.norm_relu(norm, x) if self.native else relu(norm(x))
        if alone:
            norm.train(True)
        return x


class _Growth(nn.Module):
    """One level up: grow voxels, remove those that ``clip`` (a function of the tensor) does not let pass, refine.

    ``fuse`` is for the network, after the union with the encoder's features.
    """

    def __init__(self, grow: nn.Module, grow_norm: _Block, refine: _Block, fuse: _Block | None) -> None:
        super().__init__()
        self.grow = grow
        self.grow_norm = grow_norm
        self.refine = refine
        self.fuse = fuse

    def forward(self, x: Any, clip: Callable[[Any], Any]) -> Any:
        if self.grow_norm.native and not self.training:
            grow: Any = self.grow
            norm: Any = self.grow_norm[0]
            x = clip(fused.convolve_norm_relu(grow, norm, x))
        else:  # statistics are those of the voxels inside
            x = self.grow_norm(clip(self.grow(x)))
        return self.refine(x)


def _norm(me: Any, channels: int) -> _Block:
    native = me.__name__ == fused.__package__
    return _Block(me.MinkowskiBatchNorm(channels), me.MinkowskiReLU(inplace=True), native=native)


def _block(me: Any, convolution: Any) -> _Block:
    norm = _norm(me, convolution.out_channels)
    return _Block(convolution, *norm, native=norm.native)


def _residual(me: Any, channels: int, options: dict[str, Any]) -> _Block:
    """Convolution k3, batch norm and ReLU that start as zero (the norm's scale does), to be added."""
    block = _block(me, me.MinkowskiConvolution(channels, channels, kernel_size=3, **options))
    nn.init.zeros_(block[1].get_parameter("bn.weight"))
    return block


def _empty_levels(
    level: int, coordinates: Tensor, logits: Tensor, with_target: bool
) -> list[LevelPrediction]:
    """Predictions without voxels for the strides below 2 ** level; the slices keep dtype, device and graph."""
    truth = torch.zeros(0, dtype=torch.bool, device=logits.device) if with_target else None
    return [LevelPrediction(2**fine, coordinates[:0], logits[:0], truth) for fine in reversed(range(level))]
