"""Super-resolution of binary masks: only cells that the surface may pass grow children, one doubling at a time."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from monai_sparse_refine.engine import get_engine
from monai_sparse_refine.networks.anchor import anchor
from monai_sparse_refine.networks.frozen_norm import freeze_norms
from monai_sparse_refine.networks.mask_refiner import BACKGROUND_LOGIT, SparsePrediction
from monai_sparse_refine.networks.sparse_unet import LevelPrediction, _block, _norm

# Probabilities of 0 and 1 become logits of -/+ 3.9: sure, yet within reach of what a head may add.
CLIP = 0.02


class MaskSuperResolver(nn.Module):
    """Refine a dense binary mask to a grid of ``2 ** steps`` times as many voxels along every axis.

    A small sparse U-net looks at the coarse voxels near the surface. Then every step grows the 8 children of each
    cell that the surface may pass (generative transpose k2 s2), lets two k3 convolutions look at them together with
    the probability interpolated linearly from the level before, and adds what the head says to the logit of that
    probability: an untrained network is linear interpolation. Cells away from the surface keep what they are, so
    that time and memory follow the surface.

    Args:
        channels: channels of the U-net on the coarse grid, finest first; one more than its strides.
        step_channels: channels of each step; as many as the network can take.
        steps: doublings where `forward` is not told; 1 is twice as many voxels along every axis.
        uncertain_logit: a cell also grows children where its logit is nearer to 0 than this.
        max_voxels: most voxels that any step may generate; above it the least certain cells grow, with a warning.
        engine: "auto", "minkowski" or "native" (see :func:`monai_sparse_refine.engine.get_engine`).
        frozen_norm: normalise with the running statistics in training too. The statistics of one crop, x2 in one
            batch and x8 in the next, are not their mean; a last phase of training with frozen ones fits the weights
            to what inference uses.

    Raises:
        ValueError: for channels or max_voxels that are not positive, or steps that the network does not have.
    """

    def __init__(
        self,
        *,
        channels: Sequence[int] = (16, 32, 48),
        step_channels: Sequence[int] = (24, 16, 12),
        steps: int = 1,
        uncertain_logit: float = 1.5,
        max_voxels: int = 16_000_000,
        engine: str = "auto",
        frozen_norm: bool = False,
    ) -> None:
        super().__init__()
        widths, growth = tuple(map(int, channels)), tuple(map(int, step_channels))
        if not (widths and growth) or min(*widths, *growth, max_voxels) < 1:
            raise ValueError(
                f"channels, step_channels and max_voxels have to be positive, got {widths}, {growth}, {max_voxels}."
            )
        self.max_steps = len(growth)
        self.steps = self._check_steps(steps)
        self.uncertain_logit = uncertain_logit
        self.max_voxels = max_voxels
        self.frozen_norm = frozen_norm
        me = get_engine(engine)
        self.engine_name = me.__name__.rsplit(".", 1)[-1]  # what "auto" meant when the layers were made

        def conv(source: int, target: int, **options: Any) -> nn.Module:
            return _block(me, me.MinkowskiConvolution(source, target, dimension=3, **options))

        def grow(source: int, target: int) -> nn.Module:
            layer = me.MinkowskiGenerativeConvolutionTranspose(
                source, target, kernel_size=2, stride=2, dimension=3
            )
            return nn.Sequential(layer, _norm(me, target))

        self.stem = nn.Sequential(
            conv(1, widths[0], kernel_size=3), conv(widths[0], widths[0], kernel_size=3)
        )
        self.encoder, self.decoder = nn.ModuleList(), nn.ModuleList()
        for fine, coarse in pairwise(widths):
            down = conv(fine, coarse, kernel_size=2, stride=2)
            self.encoder.append(nn.Sequential(down, conv(coarse, coarse, kernel_size=3)))
            up = me.MinkowskiConvolutionTranspose(coarse, fine, kernel_size=2, stride=2, dimension=3)
            self.decoder.insert(0, _Up(up, _norm(me, fine), conv(fine, fine, kernel_size=3)))
        self.growth = nn.ModuleList()
        for source, target in pairwise((widths[0], *growth)):
            look = nn.Sequential(conv(target + 1, target, kernel_size=3), conv(target, target, kernel_size=3))
            head = me.MinkowskiConvolution(target, 1, kernel_size=1, bias=True, dimension=3)
            nn.init.zeros_(head.kernel)
            nn.init.zeros_(head.bias)
            self.growth.append(_Step(grow(source, target), look, head))
        self.train()

    def train(self, mode: bool = True) -> MaskSuperResolver:
        """Training or evaluation mode; frozen norms stay in evaluation mode."""
        super().train(mode)
        if self.frozen_norm:
            freeze_norms(self, self.engine_name)
        return self

    def forward(
        self, x: Tensor, target: Tensor | None = None, *, steps: int | None = None
    ) -> Tensor | SparsePrediction:
        """Refine a batch.

        Args:
            x: [B, 1, X, Y, Z] masks; values above 0.5 are foreground.
            target: [B, 1, X * 2**n, Y * 2**n, Z * 2**n] true masks, for training; n is the number of steps then.
            steps: doublings n; None for what the network was made with.

        Returns:
            Without a target the logits [B, 1, X * 2**n, Y * 2**n, Z * 2**n], -/+ ``BACKGROUND_LOGIT`` where the
            surface cannot be. With a target a :class:`SparsePrediction`, one level for each step, for
            :class:`monai_sparse_refine.losses.LevelwiseGenerativeLoss`.

        Raises:
            ValueError: for another shape of input or target, or more steps than the network has.
        """
        x = x.as_subclass(Tensor)  # MONAI's wrapper costs time at every operation
        if x.ndim != 5 or x.shape[1] != 1:
            raise ValueError(
                f"MaskSuperResolver expects [B, 1, X, Y, Z], got shape {tuple(x.shape)}. "
                "Add the batch and channel dimensions first."
            )
        if target is not None:
            target = target.as_subclass(Tensor)
            steps = steps_between(x, target)
        steps = self._check_steps(self.steps if steps is None else steps)
        coarse = x[:, 0] > 0.5  # (B, X, Y, Z)
        dtype = next(self.parameters()).dtype
        dense = torch.where(coarse, -BACKGROUND_LOGIT, BACKGROUND_LOGIT).to(dtype)
        rows = near_surface(coarse, reach=2).nonzero()  # (N, 4): the U-net also sees beyond the band
        levels: list[LevelPrediction] = []
        if len(rows) == 0:
            for _ in range(steps):
                dense = _children_dense(dense)
            return dense.unsqueeze(1) if target is None else SparsePrediction(self._no_levels(x, steps))
        features = self._context(coarse, rows, stride=2**steps)
        for level in range(steps):
            stride = 2 ** (steps - level - 1)
            grows = self._grows(dense, features.C, stride=2 * stride)
            step: Any = self.growth[level]
            features = step.grow(get_engine(self.engine_name).MinkowskiPruning()(features, grows))
            index = features.C.long()
            index[:, 1:] //= stride  # voxels of this step's grid
            base = interpolated_logit(dense, index)  # (N, 1)
            features = step.look(self._prepend(base, features))
            logits = (step.head(features).F + base * step.trust).squeeze(1)
            truth = None if target is None else _truth_at(target, index, stride)
            if target is not None and torch.distributed.is_initialized():
                logits = logits + anchor(self.growth[steps:])
            levels.append(LevelPrediction(stride, features.C, logits, truth))
            dense = _children_dense(dense)
            dense[tuple(index.unbind(1))] = logits.detach() if target is not None else logits
        return dense.unsqueeze(1) if target is None else SparsePrediction(levels)

    def _context(self, coarse: Tensor, rows: Tensor, *, stride: int) -> Any:
        """Features of the coarse voxels ``rows``, at tensor stride ``stride``."""
        signs = (coarse[tuple(rows.unbind(1))].to(next(self.parameters()).dtype) * 2 - 1).unsqueeze(1)
        coordinates = rows.int()
        coordinates[:, 1:] *= stride
        x = get_engine(self.engine_name).SparseTensor(
            features=signs, coordinates=coordinates.contiguous(), tensor_stride=stride
        )
        skips = [self.stem(x)]
        for stage in self.encoder:
            skips.append(stage(skips[-1]))
        x = skips.pop()
        for stage in self.decoder:
            x = stage(x, skips.pop())
        return x

    def _grows(self, dense: Tensor, coordinates: Tensor, *, stride: int) -> Tensor:
        """(N,) bool: the cells that the surface may pass, within the budget."""
        index = coordinates.long()
        index[:, 1:] //= stride
        where = tuple(index.unbind(1))
        certainty = dense[where].abs()
        grows = near_surface(dense > 0, reach=1)[where] | (certainty < self.uncertain_logit)
        budget = max(1, self.max_voxels // 8)
        kept = int(grows.sum())
        if kept > budget:
            warnings.warn(
                f"max_voxels={self.max_voxels} reached: {kept * 8} voxels would be generated, only the children of "
                f"the {budget} least certain cells are. Raise max_voxels, or ask for a coarser target.",
                stacklevel=3,
            )
            chosen = certainty.masked_fill(~grows, float("inf")).topk(budget, largest=False).indices
            grows = torch.zeros_like(grows)
            grows[chosen] = True
        return grows

    def _prepend(self, column: Tensor, x: Any) -> Any:
        """The tensor with one more feature, the first, so that a wider network keeps its place."""
        return get_engine(self.engine_name).SparseTensor(
            features=torch.cat([column, x.F], dim=1),
            coordinate_map_key=x.coordinate_map_key,
            coordinate_manager=x.coordinate_manager,
        )

    def _no_levels(self, x: Tensor, steps: int) -> list[LevelPrediction]:
        """Levels without voxels for masks without a surface: loss 0, and every parameter still in the graph."""
        zero = torch.as_tensor(anchor([self]))
        rows = torch.zeros((0, 4), dtype=torch.int32, device=x.device)
        truth = torch.zeros(0, dtype=torch.bool, device=x.device)
        return [LevelPrediction(2**n, rows, zero[None][:0], truth) for n in reversed(range(steps))]

    def _check_steps(self, steps: int) -> int:
        if not 1 <= steps <= self.max_steps:
            raise ValueError(
                f"steps is {steps}; this network has been made for 1 to {self.max_steps} doublings."
            )
        return steps


class _Up(nn.Module):
    """One level up in the U-net: transpose, add the skip, convolve."""

    def __init__(self, up: nn.Module, norm: nn.Module, refine: nn.Module) -> None:
        super().__init__()
        self.up = up
        self.norm = norm
        self.refine = refine

    def forward(self, x: Any, skip: Any) -> Any:
        # The key of the skip: a coordinate manager may hold several maps of that stride.
        return self.refine(self.norm(self.up(x, skip.coordinate_map_key)) + skip)


class _Step(nn.Module):
    """Layers of one doubling; the base logit comes between them, so the network calls them one by one."""

    def __init__(self, grow: nn.Module, look: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.grow = grow
        self.look = look
        self.head = head
        self.trust = nn.Parameter(torch.ones(1))  # in the interpolated logit


def near_surface(mask: Tensor, *, reach: int) -> Tensor:
    """Voxels with one of the other kind at most ``reach`` voxels away along every axis; bool [B, *spatial]."""
    found = []
    for kind in (mask, ~mask):
        for axis in range(1, mask.ndim):
            grown = kind.clone()
            for shift in range(1, min(reach, mask.shape[axis] - 1) + 1):
                length = mask.shape[axis] - shift
                grown.narrow(axis, shift, length).logical_or_(kind.narrow(axis, 0, length))
                grown.narrow(axis, 0, length).logical_or_(kind.narrow(axis, shift, length))
            kind = grown
        found.append(kind)
    return found[0] & found[1]


def interpolated_logit(dense: Tensor, index: Tensor) -> Tensor:
    """Logit of the probability interpolated linearly between the voxels of the grid before.

    Args:
        dense: [B, X, Y, Z] logits of the grid before; its border voxels go on for ever.
        index: (N, 4) rows [batch, x, y, z] of voxels of the grid of half the voxel size over the same box.

    Returns:
        (N, 1), within -/+ 3.9.
    """
    batch, parent = index[:, 0], index[:, 1:].div(2, rounding_mode="floor")
    # A child's centre lies a quarter of a voxel from its parent's, towards the neighbour on its own side.
    side = index[:, 1:] % 2 * 2 - 1
    last = torch.tensor(dense.shape[1:], device=dense.device) - 1
    neighbour = (parent + side).clamp(min=0).minimum(last)
    sizes = dense.shape
    flat = dense.sigmoid().reshape(-1)
    total = torch.zeros(len(index), dtype=dense.dtype, device=dense.device)
    for corner in range(8):
        chosen = [(neighbour if corner >> axis & 1 else parent)[:, axis] for axis in range(3)]
        row = ((batch * sizes[1] + chosen[0]) * sizes[2] + chosen[1]) * sizes[3] + chosen[2]
        far = corner.bit_count()
        total += flat[row] * (0.25**far * 0.75 ** (3 - far))
    return torch.logit(total.clamp_(CLIP, 1 - CLIP)).unsqueeze(1)


def _children_dense(dense: Tensor) -> Tensor:
    """Every voxel's value for its 8 children: [B, X, Y, Z] to [B, 2X, 2Y, 2Z]."""
    for axis in range(1, 4):
        dense = dense.repeat_interleave(2, dim=axis)
    return dense


def steps_between(x: Tensor, target: Tensor) -> int:
    """Doublings from [B, 1, X, Y, Z] to a target of 2, 4, 8 ... times the size; ValueError for another shape."""
    factor = target.shape[2] // x.shape[2] if target.ndim == 5 else 0
    steps = factor.bit_length() - 1
    expected = (x.shape[0], 1, *(n * 2**steps for n in x.shape[2:])) if steps > 0 else None
    if tuple(target.shape) != expected:
        raise ValueError(
            f"target has shape {tuple(target.shape)}; expected 2, 4, 8 ... times as many voxels along every axis as "
            f"the input {tuple(x.shape)}."
        )
    return steps


def _truth_at(target: Tensor, index: Tensor, stride: int) -> Tensor:
    """(N,) bool: at least half of the cell is foreground, as coarse masks are made."""
    mean = F.avg_pool3d(target.float(), stride)[:, 0] if stride > 1 else target[:, 0]
    return mean[tuple(index.unbind(1))] >= 0.5
