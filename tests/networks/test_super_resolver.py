import copy

import pytest
import torch
import torch.nn.functional as F
from monai.data import MetaTensor

from monai_sparse_refine.losses import LevelwiseGenerativeLoss
from monai_sparse_refine.networks import BACKGROUND_LOGIT, DenseSuperResolver, MaskSuperResolver
from monai_sparse_refine.networks.super_resolver import interpolated_logit, near_surface

SMALL = {"channels": (4, 6), "step_channels": (6, 4, 4)}
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}


def _coarse(fine: torch.Tensor, factor: int = 2) -> torch.Tensor:
    return (F.avg_pool3d(fine, factor) >= 0.5).float()


def _linear(mask: torch.Tensor, factor: int) -> torch.Tensor:
    return F.interpolate(mask, scale_factor=factor, mode="trilinear", align_corners=False)


def _with_heads(network: MaskSuperResolver, scale: float = 0.3) -> MaskSuperResolver:
    """Heads that say something: they start at zero."""
    for step in network.growth:
        torch.nn.init.normal_(step.head.kernel, std=scale, generator=torch.Generator().manual_seed(1))
    return network


def test_untrained_it_is_linear_interpolation(shell, engine_name):
    network = MaskSuperResolver(**SMALL, engine=engine_name).eval()
    logits = network(shell)
    assert logits.shape == (1, 1, 48, 52, 44)
    linear = _linear(shell, 2)
    # Ties of exactly 0.5 may fall either way by rounding.
    sure = (linear - 0.5).abs() > 1e-4
    assert torch.equal((logits > 0)[sure], (linear > 0.5)[sure])
    assert network(shell, steps=3).shape == (1, 1, 192, 208, 176)


def test_far_from_the_surface_nothing_is_computed(engine_name):
    mask = torch.zeros(1, 1, 20, 20, 20)
    mask[..., 4:16, 4:16, 4:16] = 1
    network = _with_heads(MaskSuperResolver(**SMALL, engine=engine_name), scale=9.0).eval()
    logits = network(mask, steps=2)[0, 0]
    core, corner = logits[28:52, 28:52, 28:52], logits[:8, :8, :8]
    assert bool((core == -BACKGROUND_LOGIT).all()) and bool((corner == BACKGROUND_LOGIT).all())


def test_masks_without_a_surface_stay_what_they_are():
    network = _with_heads(MaskSuperResolver(**SMALL, engine="native")).eval()
    for value, logit in ((0.0, BACKGROUND_LOGIT), (1.0, -BACKGROUND_LOGIT)):
        logits = network(torch.full((2, 1, 4, 5, 6), value))
        assert logits.shape == (2, 1, 8, 10, 12) and bool((logits == logit).all())


def test_one_item_of_a_batch_does_not_change_another(shell):
    network = _with_heads(MaskSuperResolver(**SMALL, engine="native")).eval()
    pair = torch.cat([shell, shell.flip(2)])
    torch.testing.assert_close(network(pair)[:1], network(shell), rtol=0, atol=1e-5)


def test_training_gives_one_level_for_each_step_and_learns(shell, engine_name):
    torch.manual_seed(0)
    fine = shell[..., :24, :24, :20]
    network = MaskSuperResolver(**SMALL, engine=engine_name)
    coarse = _coarse(fine)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    loss_function = LevelwiseGenerativeLoss()
    prediction = network(_coarse(fine, 4), target=fine)
    assert [level.stride for level in prediction.levels] == [2, 1]
    losses = []
    for _ in range(15):
        optimizer.zero_grad()
        loss = loss_function(network(coarse, target=fine))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


def test_targets_of_the_levels_are_halves_of_cells(shell):
    fine = shell[..., :24, :24, :20]
    levels = MaskSuperResolver(**SMALL, engine="native")(_coarse(fine, 4), target=fine).levels
    half = F.avg_pool3d(fine, 2)[:, 0] >= 0.5
    for level, truth in zip(levels, (half, fine[:, 0] > 0), strict=True):
        rows = level.coordinates.long()
        rows[:, 1:] //= level.stride
        assert torch.equal(level.target, truth[tuple(rows.unbind(1))])


def test_a_batch_of_empty_masks_has_loss_zero_and_gradients():
    network = MaskSuperResolver(**SMALL, engine="native")
    loss = LevelwiseGenerativeLoss()(network(torch.zeros(1, 1, 4, 4, 4), target=torch.zeros(1, 1, 8, 8, 8)))
    loss.backward()
    assert loss.item() == 0
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_the_budget_is_kept_with_a_warning(shell):
    network = _with_heads(MaskSuperResolver(**SMALL, max_voxels=8 * 500, engine="native"))
    target = _linear(shell, 2).round()
    with pytest.warns(UserWarning, match="max_voxels=4000 reached"):
        prediction = network(shell, target=target)
    assert len(prediction.levels[0].logits) == 8 * 500
    with pytest.warns(UserWarning, match="least certain"):
        assert network.eval()(shell).shape == target.shape


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_both_engines_give_the_same_logits(minkowski, shell, dtype):
    ours = _with_heads(MaskSuperResolver(**SMALL, engine="native")).to(dtype).eval()
    theirs = MaskSuperResolver(**SMALL, engine="minkowski").to(dtype).eval()
    theirs.load_state_dict(copy.deepcopy(ours.state_dict()))
    for steps in (1, 2):
        mine, other = ours(shell.to(dtype), steps=steps), theirs(shell.to(dtype), steps=steps)
        torch.testing.assert_close(
            mine, other, rtol=0, atol=TOLERANCE[dtype] * float(other.detach().abs().max())
        )


def test_wrong_shapes_and_options_are_named(shell):
    network = MaskSuperResolver(**SMALL, engine="native")
    with pytest.raises(ValueError, match=r"\[B, 1, X, Y, Z\]"):
        network(shell[0])
    with pytest.raises(ValueError, match="1 to 3 doublings"):
        network(shell, steps=4)
    with pytest.raises(ValueError, match="target has shape"):
        network(shell, target=torch.zeros(1, 1, 48, 52, 40))
    with pytest.raises(ValueError, match="target has shape"):
        network(shell, target=shell)
    with pytest.raises(ValueError, match="positive"):
        MaskSuperResolver(channels=(4, 0), engine="native")


def test_metatensors_are_accepted(shell):
    network = MaskSuperResolver(**SMALL, engine="native").eval()
    torch.testing.assert_close(network(MetaTensor(shell)), network(shell))


def test_near_surface_looks_along_all_axes():
    mask = torch.zeros(1, 7, 7, 7, dtype=torch.bool)
    mask[0, 3, 3, 3] = True
    for reach in (1, 2):
        expected = torch.zeros_like(mask)
        expected[:, 3 - reach : 4 + reach, 3 - reach : 4 + reach, 3 - reach : 4 + reach] = True
        assert torch.equal(near_surface(mask, reach=reach), expected)
        assert torch.equal(near_surface(~mask, reach=reach), expected)


def test_interpolated_logit_is_that_of_trilinear_interpolation():
    dense = torch.randn(2, 4, 3, 5)
    index = torch.ones(2, 8, 6, 10).nonzero()
    linear = F.interpolate(dense.sigmoid()[:, None], scale_factor=2, mode="trilinear", align_corners=False)
    expected = torch.logit(linear[:, 0].clamp(0.02, 0.98))[tuple(index.unbind(1))]
    torch.testing.assert_close(interpolated_logit(dense, index)[:, 0], expected)


def test_the_dense_twin_has_the_same_parameters_and_start(shell):
    sparse, dense = MaskSuperResolver(**SMALL, engine="native"), DenseSuperResolver(**SMALL).eval()
    assert sum(p.numel() for p in sparse.parameters()) == sum(p.numel() for p in dense.parameters())
    linear = _linear(shell, 2)
    sure = (linear - 0.5).abs() > 1e-4
    assert torch.equal((dense(shell) > 0)[sure], (linear > 0.5)[sure])
    levels = dense.train()(_coarse(shell[..., :24, :24, :20], 4), target=shell[..., :24, :24, :20]).levels
    assert [level.stride for level in levels] == [2, 1]
    LevelwiseGenerativeLoss()(dense(_coarse(shell), target=shell)).backward()


def test_frozen_norms_train_with_the_statistics_of_inference(shell, engine_name):
    network = _with_heads(MaskSuperResolver(**SMALL, engine=engine_name, frozen_norm=True))
    statistics = {name: value.clone() for name, value in network.named_buffers()}
    level = network(_coarse(shell), shell).levels[0]
    level.logits.sum().backward()
    assert all(torch.equal(value, statistics[name]) for name, value in network.named_buffers())
    dense = network.eval()(_coarse(shell))[0, 0]
    torch.testing.assert_close(
        level.logits.detach(), dense[tuple(level.coordinates[:, 1:].long().T)].detach()
    )
    assert network.training is False and network.train().training is True
