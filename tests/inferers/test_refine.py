from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset, MetaTensor
from monai.engines import SupervisedEvaluator
from monai.handlers import from_engine
from monai.inferers import SlidingWindowInferer
from monai.networks.nets import UNet
from monai.transforms import Activationsd, AsDiscreted, Compose
from torch import nn

from monai_sparse_refine.errors import InputError
from monai_sparse_refine.inferers import RefineInferer
from monai_sparse_refine.transforms import RefineRecipe, SparseRefine


class Fill(nn.Module):
    """A refiner that closes holes of one voxel."""

    def forward(self, x):
        grown = nn.functional.max_pool3d(x, 3, 1, 1)
        closed = -nn.functional.max_pool3d(-grown, 3, 1, 1)
        return torch.where(closed > 0.5, 4.0, -4.0)


class Coarse(nn.Module):
    """A dense network that misses one voxel of class 1; class 2 is beside it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, x):
        b, size = len(x), x.shape[2:]
        mask = torch.zeros(b, *size)
        mask[:, 2:7, 2:7, 2:7] = 1
        mask[:, 4, 4, 4] = 0
        if self.channels == 1:
            return 6 * mask[:, None] - 3
        other = torch.zeros(b, *size)
        other[:, 8:] = 1
        return 5 * torch.stack([1 - mask - other, mask, other][: self.channels], 1)


def refine(**options):
    return SparseRefine(network=RefineRecipe(Fill(), margin=3), **options)


def test_classes_change_only_where_the_label_does():
    x = torch.zeros(2, 1, 10, 10, 10)
    dense = Coarse(3)(x)
    out = RefineInferer(refine(labels=1))(x, Coarse(3))
    assert out.shape == dense.shape and type(out) is torch.Tensor
    changed = (out != dense).any(1)
    assert int(changed.sum()) == 2 and bool(changed[:, 4, 4, 4].all())
    assert out.argmax(1)[0, 4, 4, 4] == 1
    torch.testing.assert_close(out[:, :, 4, 4, 4].sort().values, dense[:, :, 4, 4, 4].sort().values)


def test_equal_values_still_change_the_label():
    values = torch.zeros(1, 3, 1, 1, 1)
    from monai_sparse_refine.inferers.refine import _swap

    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        item = values[0].to(dtype) + 7
        out = _swap(item, torch.zeros(1, 1, 1, 1).long(), torch.full((1, 1, 1, 1), 2))
        assert out.argmax(0) == 2 and out.dtype == dtype


@pytest.mark.parametrize("probabilities", [False, True])
def test_one_channel_is_turned_at_its_threshold(probabilities):
    class Network(Coarse):
        def forward(self, x):
            out = super().forward(x)
            return out.sigmoid() if probabilities else out

    x = torch.zeros(1, 1, 10, 10, 10)
    out = RefineInferer(refine(), probabilities=probabilities)(x, Network(1))
    expected = Network(1)(x)
    expected[0, 0, 4, 4, 4] = 3.0 if not probabilities else torch.tensor(3.0).sigmoid()
    torch.testing.assert_close(out, expected)


def test_independent_channels():
    x = torch.zeros(1, 1, 10, 10, 10)

    class Network(Coarse):
        def forward(self, x):
            return super().forward(x)[:, 1:] - 2.5

    out = RefineInferer(refine(labels=1, has_background=False), multi_label=True)(x, Network(3))
    assert out[0, 0, 4, 4, 4] == 2.5
    torch.testing.assert_close(out[:, 1], Network(3)(x)[:, 1])


def test_spacing_and_meta_of_the_batch_are_passed_on():
    seen = []

    class Spy(SparseRefine):
        def refine(self, mask, image=None, probability=None):
            seen.append((mask.affine.diagonal()[:3].tolist(), image if image is None else float(image.max())))
            return super().refine(mask, image)

    items = [MetaTensor(torch.zeros(2, 10, 10, 10), affine=np.diag([i, 1.0, 5, 1])) for i in (2.0, 3.0)]
    batch = next(iter(DataLoader(Dataset(items), batch_size=2)))
    RefineInferer(Spy(network=Fill()))(batch, Coarse(2))
    assert seen == [([2, 1, 5], None), ([3, 1, 5], None)]  # what a dense network gets is not in HU
    batch[:, 1] = 40
    RefineInferer(Spy(network=Fill()), image_channel=1)(batch, Coarse(2))
    assert seen[2:] == [([2, 1, 5], 40), ([3, 1, 5], 40)]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("probabilities", [False, True])
def test_the_refiner_gets_probabilities(channels, probabilities):
    def network(x):
        out = Coarse(channels)(x)
        soft = torch.sigmoid(out) if channels == 1 else out.softmax(1)
        return soft if probabilities else out

    seen = []

    class Recipe(RefineRecipe):
        def refine(self, mask, **given):
            seen.append(given["probability"])
            return super().refine(mask, **given)

    x = torch.zeros(1, 1, 10, 10, 10)
    once = SparseRefine(network=Recipe(Fill(), margin=10), labels=1)
    RefineInferer(once, probabilities=probabilities)(x, network)
    RefineInferer(once, probabilities=probabilities, pass_probabilities=True)(x, network)
    assert seen[0] is None
    logit = torch.tensor(3.0) if channels == 1 else 5 - torch.tensor(2.0).log()  # 5 against 0 and 0
    assert seen[1].shape == (1, 10, 10, 10)
    torch.testing.assert_close(seen[1][0, 5, 5, 5], logit.sigmoid())


def test_what_cannot_be_refined():
    x = torch.zeros(1, 1, 10, 10, 10)
    with pytest.raises(InputError, match="returned tuple"):
        RefineInferer(refine())(x, lambda v: (v, v))
    with pytest.raises(InputError, match=r"returned \(1, 1, 8, 8\)"):
        RefineInferer(refine())(x, lambda v: torch.zeros(1, 1, 8, 8))
    with pytest.raises(InputError, match="no gradients"):
        RefineInferer(refine())(x, nn.Conv3d(1, 2, 1))
    with pytest.raises(InputError, match="image_channel is 1; the input has 1 channels"):
        RefineInferer(refine(), image_channel=1)(x, Coarse(2))


def test_in_a_stock_evaluator_with_sliding_windows():
    torch.manual_seed(0)
    network = UNet(spatial_dims=3, in_channels=1, out_channels=3, channels=(4, 8), strides=(2,))
    image = torch.rand(1, 24, 20, 18)
    post = Compose([Activationsd("pred", softmax=True), AsDiscreted("pred", argmax=True)])
    predictions = []
    window = SlidingWindowInferer((16, 16, 16), sw_batch_size=2)
    for inferer in (window, pickle.loads(pickle.dumps(RefineInferer(refine(labels=1, gate=None), window)))):
        evaluator = SupervisedEvaluator(
            device="cpu",
            val_data_loader=DataLoader(Dataset([{"image": image}]), batch_size=1),
            network=network,
            inferer=inferer,
            postprocessing=post,
            decollate=True,
            prepare_batch=lambda batch, device, *_, **__: (batch["image"], None),
        )
        evaluator.run()
        predictions.append(from_engine(["pred"])(evaluator.state.output)[0])
    plain, refined = predictions
    assert bool((refined == 1)[plain == 1].all()) and int((refined == 1).sum()) > int((plain == 1).sum())
    torch.testing.assert_close(refined == 2, plain == 2, rtol=0, atol=0)
