"""Dense masks in, dense logits out, around the sparse generative U-net."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from monai_sparse_refine.engine import get_engine
from monai_sparse_refine.networks.occupancy import OccupiedCells
from monai_sparse_refine.networks.sparse_unet import LevelPrediction, SparseGenerativeUNet

# sigmoid(-20) = 2e-9: background for every purpose, yet finite, so that logits can be interpolated and averaged.
BACKGROUND_LOGIT = -20.0


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

    A voxel is active where any channel exceeds 0.5; the channels' values there are its features. With one channel
    that is the reference network (feature 1 at every foreground voxel).

    Args:
        in_channels: channels of the dense input.
        spatial_dims: number of spatial dimensions.
        channels, deepest_kernel, head_bias, keep_threshold, max_voxels, engine: see :class:`SparseGenerativeUNet`.
    """

    def __init__(
        self,
        *,
        in_channels: int = 1,
        spatial_dims: int = 3,
        channels: str | Sequence[int] = "ch1",
        deepest_kernel: int = 4,
        head_bias: float = -3.0,
        keep_threshold: float = 0.0,
        max_voxels: int = 8_000_000,
        engine: str = "auto",
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.spatial_dims = spatial_dims
        self.network = SparseGenerativeUNet(
            in_channels=in_channels,
            channels=channels,
            dimension=spatial_dims,
            deepest_kernel=deepest_kernel,
            head_bias=head_bias,
            keep_threshold=keep_threshold,
            max_voxels=max_voxels,
            engine=engine,
        )

    def forward(self, x: Tensor, target: Tensor | None = None) -> Tensor | SparsePrediction:
        """Refine a batch.

        Args:
            x: [B, in_channels, *spatial] masks; values above 0.5 are foreground.
            target: [B, 1, *spatial] true masks, for training.

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
        active = active_coordinates(x)
        levels: list[LevelPrediction] = []
        if target is not None:
            target = _plain(target)
            if tuple(target.shape) != (x.shape[0], 1, *spatial):
                raise ValueError(
                    f"target must have shape {(x.shape[0], 1, *spatial)} like the input, got {tuple(target.shape)}."
                )
        if len(active):
            sparse = self._to_sparse(x, active)
            truth = None if target is None else active_coordinates(target)
            levels = self.network(sparse, bounds=spatial, target=truth)
            if truth is not None:
                levels = _mark_known(levels, active_coordinates(x[:, :1]))
        if target is not None:
            return SparsePrediction(levels or self._no_levels(x))
        dense = torch.full((x.shape[0], *spatial), BACKGROUND_LOGIT, dtype=self._dtype(), device=x.device)
        if levels:
            last = levels[-1]
            dense[tuple(last.coordinates.long().unbind(1))] = last.logits.to(dense.dtype)
        return dense.unsqueeze(1)

    def _no_levels(self, x: Tensor) -> list[LevelPrediction]:
        """Levels without voxels for a batch of empty masks: loss 0, and every parameter still in the graph."""
        anchor = torch.stack([parameter.sum() for parameter in self.parameters()]).sum() * 0
        coordinates = torch.zeros((0, 1 + self.spatial_dims), dtype=torch.int32, device=x.device)
        truth = torch.zeros(0, dtype=torch.bool, device=x.device)
        strides = [2**level for level in reversed(range(self.network.levels))]
        return [LevelPrediction(stride, coordinates, anchor.reshape(1)[:0], truth) for stride in strides]

    def _to_sparse(self, x: Tensor, active: Tensor) -> object:
        features = x.movedim(1, -1)[tuple(active.unbind(1))].to(self._dtype())  # (N, C)
        return get_engine(self.network.engine_name).SparseTensor(
            features=features, coordinates=active.int().contiguous()
        )

    def _dtype(self) -> torch.dtype:
        return next(self.parameters()).dtype


def active_coordinates(x: Tensor) -> Tensor:
    """Rows [batch, *voxel] (int64) of the voxels of [B, C, *spatial] where any channel exceeds 0.5."""
    return (x > 0.5).any(dim=1).nonzero().contiguous()


def _mark_known(levels: Sequence[LevelPrediction], mask: Tensor) -> list[LevelPrediction]:
    """Mark the cells that hold a voxel of the mask to refine (the first channel)."""
    cells = OccupiedCells(mask)
    return [level._replace(known=cells.at(level.coordinates, stride=level.stride)) for level in levels]


def _plain(x: Tensor) -> Tensor:
    """Drop MONAI's MetaTensor wrapper: its bookkeeping costs time at every operation."""
    return x.as_subclass(Tensor) if type(x) is not Tensor else x
