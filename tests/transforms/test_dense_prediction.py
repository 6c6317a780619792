"""Probabilities of a dense network come back on the image's own grid."""

import numpy as np
import torch
from monai.data import MetaTensor
from monai.inferers import SlidingWindowInferer
from monai.transforms import Orientationd, Spacingd
from torch import nn

from monai_sparse_refine.transforms import DenseProbabilitiesD, DenseProbabilitiesd


class Bright(nn.Module):
    """Two classes by intensity; says no while it trains."""

    def forward(self, x):
        assert not self.training and not torch.is_grad_enabled()
        return torch.cat([1 - x, x - 1], dim=1) * 10


def test_probabilities_lie_where_the_image_has_them():
    image = torch.zeros(1, 24, 20, 12)
    image[0, 4:14, 6:16, 2:8] = 2
    affine = np.diag([-2.0, 2, 4, 1])
    source = MetaTensor(image, affine=affine)
    transform = DenseProbabilitiesd(
        "image",
        network=Bright(),
        preprocessing=[
            Orientationd("image", axcodes="RAS", labels=None),
            Spacingd("image", pixdim=(4, 4, 4), mode="bilinear"),
        ],
        inferer=SlidingWindowInferer((8, 8, 8), overlap=0.25),
    )
    out = transform({"image": source})
    soft = out["probability"]
    assert soft.shape == (2, 24, 20, 12) and soft.dtype == torch.uint8
    torch.testing.assert_close(soft.affine, source.affine)
    assert out["image"] is source and source.applied_operations == []
    inside = image[0] > 1
    assert (soft[1] > 127)[inside].float().mean() > 0.9
    assert (soft[1] > 127)[~inside].float().mean() < 0.05
    assert (soft.int().sum(0) - 255).abs().max() <= 1
    assert DenseProbabilitiesD is DenseProbabilitiesd
