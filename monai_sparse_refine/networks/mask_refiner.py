"""Dense masks in, dense logits out, around the sparse generative U-net."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from monai_sparse_refine.engine import get_engine
from monai_sparse_refine.networks.anchor import anchor
from monai_sparse_refine.networks.occupancy import OccupiedCells
from monai_sparse_refine.networks.sparse_unet import LevelPrediction, SparseGenerativeUNet

# sigmoid(-20) = 2e-9: background for every purpose, yet finite, so that logits can be interpolated and averaged.
BACKGROUND_LOGIT = -20.0
# Fractions that differ by no more are the same: what two resamplings of one surface differ by.
SAME_FRACTION = 0.1
CORE_LOGIT = 20.0
# Keeps the logits that a residual channel adds within +-3.
RESIDUAL_EPS = 0.0474


class SparsePrediction:
    """What a :class:`MaskRefiner` returns in training: the predictions of all levels, for the level-wise loss.

    It is one opaque object, not a sequence: MONAI's batch utilities would otherwise take it apart.
    """

    def __init__(self, levels: Sequence[LevelPrediction]) -> None:
        self.levels = tuple(levels)

    def iter_levels(self) -> Iterator[LevelPrediction]:
        """The levels, coarsest first."""
        return iter(self.levels)


class MaskRefiner(nn.Module):
    """Refine dense binary masks with a :class:`SparseGenerativeUNet`.

    A voxel is active where any channel exceeds ``active_threshold``; the channels' values there are its features.
    With one binary channel that is the reference network (feature 1 at every foreground voxel).

    Masks brought to a working grid may be given as fractions: how much of each voxel is foreground. Then features
    and logits tell where in a voxel the surface runs, and the way back to a finer grid loses little.

    Args:
        in_channels: channels of the dense input.
        spatial_dims: number of spatial dimensions.
        active_threshold: value above which a voxel takes part: of the input as a voxel of the network, of a
            soft target as one that is to be generated. Below 0.5 for fractions, or thin bone is lost.
        residual_channel: channel that holds a probability to start from, such as a dense network's: its logit (within
            +-3, so that it can be overruled) is added to those of the finest level. None: nothing is added.
        core_channel: channel that is 0.5 where the mask is taken as it is: such voxels get the logit ``CORE_LOGIT`` and
            cost nothing, unless another channel makes them active. None: there are none.
        head_channels: channels that say, 1 in one of them, which kind of mask it is (which organ), and with that which
            of as many heads answers; they are then no features. None: one head for all.
        channels, deepest_kernel, head_bias, keep_threshold, fuse, max_voxels, engine, frozen_norm: see
            :class:`SparseGenerativeUNet`.
    """

    def __init__(
        self,
        *,
        in_channels: int = 1,
        spatial_dims: int = 3,
        active_threshold: float = 0.5,
        channels: str | Sequence[int] = "ch1",
        deepest_kernel: int = 4,
        head_bias: float = -3.0,
        keep_threshold: float = 0.0,
        fuse: bool = False,
        max_voxels: int = 8_000_000,
        engine: str = "auto",
        residual_channel: int | None = None,
        core_channel: int | None = None,
        head_channels: Sequence[int] | None = None,
        frozen_norm: bool = False,
    ) -> None:
        super().__init__()
        if not 0 <= active_threshold < 1:
            raise ValueError(f"active_threshold must lie in [0, 1), got {active_threshold}.")
        for name, channel in (("residual_channel", residual_channel), ("core_channel", core_channel)):
            if channel is not None and not 0 <= channel < in_channels:
                raise ValueError(f"{name} must be one of {in_channels} channels, got {channel}.")
        self.head_channels = tuple(head_channels or ())
        if not all(0 <= channel < in_channels for channel in self.head_channels):
            raise ValueError(
                f"head_channels must be some of {in_channels} channels, got {self.head_channels}."
            )
        self.feature_channels = [i for i in range(in_channels) if i not in self.head_channels]
        self.in_channels = in_channels
        self.residual_channel = residual_channel
        self.core_channel = core_channel
        self.spatial_dims = spatial_dims
        self.active_threshold = active_threshold
        self.network = SparseGenerativeUNet(
            in_channels=len(self.feature_channels),
            outputs=max(1, len(self.head_channels)),
            frozen_norm=frozen_norm,
            channels=channels,
            dimension=spatial_dims,
            deepest_kernel=deepest_kernel,
            head_bias=head_bias,
            keep_threshold=keep_threshold,
            fuse=fuse,
            max_voxels=max_voxels,
            engine=engine,
        )
        if residual_channel is not None:
            torch.nn.init.zeros_(
                self.network.heads[-1].get_parameter("bias")
            )  # what it adds is a prior already

    def forward(self, x: Tensor, target: Tensor | None = None) -> Tensor | SparsePrediction:
        """Refine a batch.

        Args:
            x: [B, in_channels, *spatial] masks; values above ``active_threshold`` are foreground.
            target: [B, 1, *spatial] true masks or fractions, for training.

        Returns:
            Without a target the dense logits [B, 1, *spatial]: the network's own at every voxel it considered,
            ``BACKGROUND_LOGIT`` elsewhere (everywhere where a mask is empty). With a target a
            :class:`SparsePrediction` for :class:`monai_sparse_refine.losses.LevelwiseGenerativeLoss`.

        Raises:
            ValueError: for a wrong number of dimensions or channels, or a target of another shape.
        """
        x = _plain(x)
        if x.ndim != self.spatial_dims + 2 or x.shape[1] != self.in_channels:
            raise ValueError(
                f"MaskRefiner expects [B, {self.in_channels}, *{self.spatial_dims} spatial dimensions], "
                f"got shape {tuple(x.shape)}. Add the batch and channel dimensions first."
            )
        spatial = tuple(x.shape[2:])
        active = active_coordinates(x, self.active_threshold)
        core = self._core(x)
        levels: list[LevelPrediction] = []
        if target is not None:
            target = _plain(target)
            if tuple(target.shape) != (x.shape[0], 1, *spatial):
                raise ValueError(
                    f"target must have shape {(x.shape[0], 1, *spatial)} like the input, got {tuple(target.shape)}."
                )
        if len(active):
            sparse = self._to_sparse(x, active)
            wanted = target if core is None or target is None else target * ~core
            truth = None if wanted is None else active_coordinates(wanted, self.active_threshold)
            levels = self.network(sparse, bounds=spatial, target=truth, output=self._head(x))
            levels = [*levels[:-1], self._with_prior(levels[-1], x)]
            if wanted is not None:
                levels = self._mark_known(levels, x, wanted)
        if target is not None:
            return SparsePrediction(levels or self._no_levels(x))
        dense = torch.full((x.shape[0], *spatial), BACKGROUND_LOGIT, dtype=self._dtype(), device=x.device)
        if levels:
            last = levels[-1]
            dense[tuple(last.coordinates.long().unbind(1))] = last.logits.to(dense.dtype)
        if core is not None:
            dense[core[:, 0]] = CORE_LOGIT
        return dense.unsqueeze(1)

    def _head(self, x: Tensor) -> Tensor | None:
        """Which head answers for each case, (B,); None where there is one."""
        if not self.head_channels:
            return None
        return x[:, self.head_channels].flatten(2).amax(2).argmax(1)

    def _core(self, x: Tensor) -> Tensor | None:
        """Voxels that stay as they are, [B, 1, *spatial] bool."""
        if self.core_channel is None:
            return None
        values = x[:, self.core_channel : self.core_channel + 1]
        return (values > 0.25) & (values <= 0.5)

    def _with_prior(self, level: LevelPrediction, x: Tensor) -> LevelPrediction:
        """Add the logit of the residual channel to the finest level's."""
        if self.residual_channel is None:
            return level
        batch, *voxel = level.coordinates.long().unbind(1)
        place = (batch, torch.full_like(batch, self.residual_channel), *voxel)
        prior = x[place].to(level.logits.dtype)
        return level._replace(logits=level.logits + torch.logit(prior, eps=RESIDUAL_EPS))

    def _no_levels(self, x: Tensor) -> list[LevelPrediction]:
        """Levels without voxels for a batch of empty masks: loss 0, and every parameter still in the graph."""
        zero = torch.as_tensor(anchor([self]))
        coordinates = torch.zeros((0, 1 + self.spatial_dims), dtype=torch.int32, device=x.device)
        truth = torch.zeros(0, dtype=torch.bool, device=x.device)
        strides = [2**level for level in reversed(range(self.network.levels))]
        return [LevelPrediction(stride, coordinates, zero[None][:0], truth) for stride in strides]

    def _mark_known(
        self, levels: Sequence[LevelPrediction], x: Tensor, target: Tensor
    ) -> list[LevelPrediction]:
        """Mark what the mask to refine tells already; give the last level a soft target.

        The mask is the first channel, or where there is a core channel, that one.

        A cell of a coarse level is known where it holds a voxel of the mask; a voxel of the last level where the
        mask is active and is what the target is (fractions to within ``SAME_FRACTION``).
        """
        channel = self.core_channel or 0
        mask = x[:, channel : channel + 1]
        cells = OccupiedCells(active_coordinates(mask, self.active_threshold))
        marked = [level._replace(known=cells.at(level.coordinates, stride=level.stride)) for level in levels]
        fine = marked[-1]
        rows = fine.coordinates.long()
        index = (rows[:, 0], torch.zeros_like(rows[:, 0]), *rows[:, 1:].unbind(1))
        truth, given = (volume[index].to(fine.logits.dtype) for volume in (target, mask))
        known = (given > self.active_threshold) & ((truth - given).abs() <= SAME_FRACTION)
        marked[-1] = fine._replace(target=truth, known=known)
        return marked

    def _to_sparse(self, x: Tensor, active: Tensor) -> object:
        chosen = x[:, self.feature_channels] if self.head_channels else x
        features = chosen.movedim(1, -1)[tuple(active.unbind(1))].to(self._dtype())  # (N, C)
        return get_engine(self.network.engine_name).SparseTensor(
            features=features, coordinates=active.int().contiguous()
        )

    def _dtype(self) -> torch.dtype:
        return next(self.parameters()).dtype


def active_coordinates(x: Tensor, threshold: float = 0.5) -> Tensor:
    """Rows [batch, *voxel] (int64) of the voxels of [B, C, *spatial] where any channel exceeds the threshold."""
    # The largest channel is found several times faster than any; what is not a number stays active, to be noticed.
    return (x.amax(dim=1) <= threshold).logical_not_().nonzero().contiguous()


def _plain(x: Tensor) -> Tensor:
    """Drop MONAI's MetaTensor wrapper: its bookkeeping costs time at every operation."""
    return x.as_subclass(Tensor) if type(x) is not Tensor else x
