import pytest
import torch

from monai_sparse_refine.losses import LevelwiseGenerativeLoss
from monai_sparse_refine.networks import DenseTwin, MaskRefiner


@pytest.mark.parametrize("channels", ["ch1", (4, 6, 8)])
@pytest.mark.parametrize(("in_channels", "fuse"), [(1, False), (2, False), (3, True)])
def test_same_number_of_parameters_as_the_sparse_network(channels, in_channels, fuse):
    twin = DenseTwin(in_channels=in_channels, channels=channels, fuse=fuse)
    sparse = MaskRefiner(in_channels=in_channels, channels=channels, fuse=fuse, engine="native")
    assert sum(p.numel() for p in twin.parameters()) == sum(p.numel() for p in sparse.parameters())


def test_learns_to_close_the_hole(shell, holed):
    torch.manual_seed(0)
    twin = DenseTwin(channels=(4, 6, 8))
    optimizer = torch.optim.Adam(twin.parameters(), lr=2e-2)
    for _ in range(60):
        optimizer.zero_grad()
        LevelwiseGenerativeLoss()(twin(holed, target=shell)).backward()
        optimizer.step()
    refined = twin.eval()(holed) > 0
    assert refined.shape == shell.shape  # padded inside, cropped again
    both = refined & (shell > 0)
    assert float(2 * both.sum() / (refined.sum() + shell.sum())) > 0.9


def test_levels_carry_the_pooled_target(shell):
    levels = DenseTwin(channels=(4, 6, 8))(shell, target=shell).levels
    assert [level.stride for level in levels] == [2, 1]
    assert int(levels[-1].target.sum()) == int(shell.sum())


def test_a_single_voxel_at_the_bottom_trains(holed, shell):
    twin = DenseTwin(channels=(3, 4, 4, 4, 4, 4))  # stride 32 covers the volume
    loss = LevelwiseGenerativeLoss()(twin(holed, target=shell))
    loss.backward()
    assert bool(torch.isfinite(loss))
    assert all(module.training for module in twin.modules())


def test_wrong_options_are_named():
    with pytest.raises(ValueError, match="deepest_kernel"):
        DenseTwin(deepest_kernel=3)


def test_a_residual_channel_is_added_as_in_the_sparse_network(holed):
    prior = torch.where(holed > 0, 0.9, 0.2)
    x = torch.cat([holed, prior], dim=1)
    plain = DenseTwin(in_channels=2, channels=(4, 6, 8)).eval()
    residual = DenseTwin(in_channels=2, channels=(4, 6, 8), residual_channel=1).eval()
    residual.load_state_dict(plain.state_dict())
    torch.testing.assert_close(residual(x) - plain(x), torch.logit(prior), atol=1e-4, rtol=0)
    assert residual(x, target=holed).levels[-1].logits.numel() >= holed.numel()
    with pytest.raises(ValueError, match="residual_channel"):
        DenseTwin(residual_channel=1)
