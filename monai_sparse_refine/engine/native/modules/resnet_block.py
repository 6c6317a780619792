"""The two residual blocks of He et al., CVPR 2016 (doi 10.1109/CVPR.2016.90), sparse."""

from __future__ import annotations

from torch import nn

from monai_sparse_refine.engine.native.activation import MinkowskiReLU
from monai_sparse_refine.engine.native.convolution import MinkowskiConvolution
from monai_sparse_refine.engine.native.norm import MinkowskiBatchNorm
from monai_sparse_refine.engine.native.tensor import SparseTensor


class BasicBlock(nn.Module):
    """Two convolutions k3 and a shortcut.

    Args:
        inplanes, planes: channels in and out.
        stride, dilation: of the convolutions (the first takes the stride).
        downsample: layer on the shortcut where shapes differ.
        bn_momentum: of the batch norms.
        dimension: number of spatial dimensions.
    """

    expansion = 1

    def __init__(
        self,
        inplanes: int,
        planes: int,
        stride: int = 1,
        dilation: int = 1,
        downsample: nn.Module | None = None,
        bn_momentum: float = 0.1,
        dimension: int = -1,
    ) -> None:
        super().__init__()
        self.conv1 = MinkowskiConvolution(inplanes, planes, 3, stride, dilation, dimension=dimension)
        self.norm1 = MinkowskiBatchNorm(planes, momentum=bn_momentum)
        self.conv2 = MinkowskiConvolution(planes, planes, 3, 1, dilation, dimension=dimension)
        self.norm2 = MinkowskiBatchNorm(planes, momentum=bn_momentum)
        self.relu = MinkowskiReLU(inplace=True)
        self.downsample = downsample

    def forward(self, x: SparseTensor) -> SparseTensor:
        """Apply."""
        shortcut = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.norm1(self.conv1(x)))
        out = self.norm2(self.conv2(out))
        return self.relu(out + shortcut)


class Bottleneck(nn.Module):
    """Convolutions k1, k3, k1 and a shortcut; the last one has ``expansion`` times the channels."""

    expansion = 4

    def __init__(
        self,
        inplanes: int,
        planes: int,
        stride: int = 1,
        dilation: int = 1,
        downsample: nn.Module | None = None,
        bn_momentum: float = 0.1,
        dimension: int = -1,
    ) -> None:
        super().__init__()
        wide = planes * self.expansion
        self.conv1 = MinkowskiConvolution(inplanes, planes, 1, dimension=dimension)
        self.norm1 = MinkowskiBatchNorm(planes, momentum=bn_momentum)
        self.conv2 = MinkowskiConvolution(planes, planes, 3, stride, dilation, dimension=dimension)
        self.norm2 = MinkowskiBatchNorm(planes, momentum=bn_momentum)
        self.conv3 = MinkowskiConvolution(planes, wide, 1, dimension=dimension)
        self.norm3 = MinkowskiBatchNorm(wide, momentum=bn_momentum)
        self.relu = MinkowskiReLU(inplace=True)
        self.downsample = downsample

    def forward(self, x: SparseTensor) -> SparseTensor:
        """Apply."""
        shortcut = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.norm1(self.conv1(x)))
        out = self.relu(self.norm2(self.conv2(out)))
        out = self.norm3(self.conv3(out))
        return self.relu(out + shortcut)
