import pytest
import torch
from monai.data import MetaTensor

from monai_sparse_refine.losses import LevelwiseGenerativeLoss
from monai_sparse_refine.networks import BACKGROUND_LOGIT, MaskRefiner, SparsePrediction

SMALL = (4, 6, 8)


def test_dense_in_dense_out(engine_name, holed):
    network = MaskRefiner(channels=SMALL, head_bias=1.0, engine=engine_name).eval()
    logits = network(holed)
    assert logits.shape == holed.shape and logits.dtype == torch.float32
    assert float(logits[0, 0, 0, 0, 0]) == BACKGROUND_LOGIT
    assert bool((logits[holed > 0] != BACKGROUND_LOGIT).all())  # every input voxel was considered


def test_empty_masks_stay_empty(engine_name, holed):
    network = MaskRefiner(channels=SMALL, head_bias=1.0, engine=engine_name).eval()
    assert bool((network(torch.zeros_like(holed)) == BACKGROUND_LOGIT).all())
    both = network(torch.cat([torch.zeros_like(holed), holed]))
    assert bool((both[0] == BACKGROUND_LOGIT).all())
    assert torch.equal(both[1:] > BACKGROUND_LOGIT, network(holed) > BACKGROUND_LOGIT)


def test_training_on_one_shell_closes_its_hole(engine_name, shell, holed):
    torch.manual_seed(0)
    network = MaskRefiner(channels=(4, 6, 8, 8), engine=engine_name)
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-2, amsgrad=True)
    loss_function = LevelwiseGenerativeLoss()
    for _ in range(100):
        optimizer.zero_grad()
        prediction = network(holed, target=shell)
        assert isinstance(prediction, SparsePrediction)
        loss = loss_function(prediction)
        loss.backward()
        optimizer.step()
    network.eval()
    refined = network(holed) > 0
    hole = (shell > 0) & (holed == 0)
    assert bool(hole.any())
    assert float((refined & hole).sum() / hole.sum()) > 0.9
    assert float((refined & (shell == 0)).sum() / shell.sum()) < 0.1


def test_an_empty_batch_has_loss_zero_and_gradients(holed):
    network = MaskRefiner(channels=SMALL, engine="native")
    loss = LevelwiseGenerativeLoss()(network(torch.zeros_like(holed), target=torch.zeros_like(holed)))
    loss.backward()
    assert float(loss) == 0
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_with_several_processes_every_parameter_has_a_gradient(engine_name, holed, monkeypatch):
    # Of a batch whose target is empty, and whose logits keep nothing, the finer levels have no voxels.
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    network = MaskRefiner(channels=SMALL, head_bias=-1000.0, engine=engine_name)
    prediction = network(holed, target=torch.zeros_like(holed))
    assert [len(level.logits) for level in prediction.levels][-1] == 0
    LevelwiseGenerativeLoss()(prediction).backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_a_single_voxel_at_the_bottom_trains(engine_name, holed, shell):
    network = MaskRefiner(channels=(3, 4, 4, 4, 4, 4), engine=engine_name)  # stride 32 covers the volume
    loss = LevelwiseGenerativeLoss()(network(holed, target=shell))
    loss.backward()
    assert bool(torch.isfinite(loss))
    assert all(module.training for module in network.modules())


def test_second_channel_activates_voxels_and_is_a_feature(holed, shell):
    network = MaskRefiner(in_channels=2, channels=SMALL, head_bias=1.0, engine="native").eval()
    alone = network(torch.cat([holed, torch.zeros_like(holed)], dim=1))
    both = network(torch.cat([holed, shell], dim=1))
    hole = (shell > 0) & (holed == 0)
    assert bool((both[hole] != BACKGROUND_LOGIT).all())
    assert not torch.equal(alone, both)


def test_meta_tensors_and_rand_input_are_accepted():
    network = MaskRefiner(channels=SMALL, engine="native").eval()
    assert network(MetaTensor(torch.rand(1, 1, 16, 16, 16))).shape == (1, 1, 16, 16, 16)


@pytest.mark.parametrize(
    ("x", "target", "message"),
    [
        (torch.zeros(1, 8, 8, 8), None, "expects"),
        (torch.zeros(1, 2, 8, 8, 8), None, "expects"),
        (torch.zeros(1, 1, 8, 8, 8), torch.zeros(1, 1, 8, 8, 9), "target"),
    ],
)
def test_wrong_shapes_are_named(x, target, message):
    with pytest.raises(ValueError, match=message):
        MaskRefiner(channels=SMALL, engine="native")(x, target)


def test_fractions_are_features_and_soft_targets(engine_name, shell, holed):
    fractions, target = holed * 0.4, shell * 0.8
    network = MaskRefiner(channels=SMALL, active_threshold=0.3, head_bias=1.0, engine=engine_name)
    assert bool((network.eval()(fractions) != BACKGROUND_LOGIT).any())
    assert bool((MaskRefiner(channels=SMALL, engine=engine_name).eval()(fractions) == BACKGROUND_LOGIT).all())
    prediction = network.train()(fractions, target=target)
    last = prediction.levels[-1]
    assert sorted(last.target.unique().tolist()) == pytest.approx([0.0, 0.8])
    assert all(level.target.dtype == torch.bool for level in prediction.levels[:-1])
    # What the input tells already is known; the input's voxels here are all of another fraction.
    assert not bool(last.known.any())
    known = network(target * (holed > 0), target=target).levels[-1].known
    assert int(known.sum()) == int((holed > 0).sum())


def test_a_threshold_that_is_none_is_told():
    with pytest.raises(ValueError, match="active_threshold"):
        MaskRefiner(channels=SMALL, active_threshold=1.0, engine="native")


def test_a_residual_channel_is_where_the_network_starts(holed):
    prior = torch.where(holed > 0, 0.9, 0.2)
    x = torch.cat([holed, prior], dim=1)
    plain = MaskRefiner(in_channels=2, channels=SMALL, head_bias=2.0, engine="native").eval()
    residual = MaskRefiner(
        in_channels=2, channels=SMALL, head_bias=2.0, residual_channel=1, engine="native"
    ).eval()
    assert float(residual.network.heads[-1].bias) == 0
    residual.load_state_dict(plain.state_dict())
    before, after = plain(x), residual(x)
    reached = before != BACKGROUND_LOGIT
    assert torch.equal(reached, after != BACKGROUND_LOGIT)
    torch.testing.assert_close((after - before)[reached], torch.logit(prior)[reached], atol=1e-4, rtol=0)
    certain = residual(torch.cat([holed, holed], dim=1)) - plain(torch.cat([holed, holed], dim=1))
    assert certain.abs().max() < 3.01  # so that it can be overruled
    levels = residual(x, target=holed).levels
    assert levels[-1].known is not None and levels[-1].target is not None


def test_a_core_is_taken_as_it_is_and_costs_nothing(holed):
    core = torch.zeros_like(holed)
    core[:, :, 2:5, 2:5, 2:5] = 0.5
    network = MaskRefiner(in_channels=2, channels=SMALL, core_channel=1, engine="native")
    x = torch.cat([holed * (core == 0), core], dim=1)
    target = torch.maximum(holed, core * 2)
    logits = network.eval()(x)
    assert bool((logits[core > 0] == 20).all()) and bool((logits[core == 0] < 20).all())
    levels = network.train()(x, target=target).levels
    outside = (target > 0) & (core == 0)
    assert int(levels[-1].target.sum()) == int(outside.sum())
    only = network.eval()(torch.cat([torch.zeros_like(holed), core], dim=1))
    assert torch.equal(only > 0, core > 0)


def test_a_residual_channel_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="residual_channel"):
        MaskRefiner(in_channels=2, channels=SMALL, residual_channel=2, engine="native")
    with pytest.raises(ValueError, match="core_channel"):
        MaskRefiner(channels=SMALL, core_channel=1, engine="native")


def test_what_is_known_is_read_off_the_mask_where_a_core_channel_says_which_it_is(holed):
    band = torch.ones_like(holed)
    network = MaskRefiner(in_channels=2, channels=SMALL, head_bias=2.0, core_channel=1, engine="native")
    last = network(torch.cat([band, holed], dim=1), target=holed).levels[-1]
    assert last.known is not None and int(last.known.sum()) == int(holed.sum())


def test_separate_heads_answer_each_for_its_kind(engine_name, holed):
    options = {"channels": SMALL, "head_bias": 1.0, "engine": engine_name}
    one = MaskRefiner(**options).eval()
    several = MaskRefiner(in_channels=4, head_channels=(1, 2, 3), **options).eval()
    state = one.state_dict()
    for name, own in several.state_dict().items():
        # Every kind's head is the single one; that of the last kind says no.
        given = state[name].expand_as(own).clone() if name.startswith("network.heads") else state[name]
        if name.endswith("bias") and given.shape[-1] == 3:
            given[..., 2] = -30.0
        own.copy_(given)
    kinds = torch.zeros(2, 3, *holed.shape[2:])
    kinds[0, 1], kinds[1, 2] = holed[0, 0], holed[0, 0]
    x = torch.cat([holed.expand(2, *holed.shape[1:]), kinds], dim=1)
    logits = several(x)
    # A product with three columns may round unlike one with one, by the machine.
    torch.testing.assert_close(logits[:1], one(holed), rtol=1e-5, atol=1e-5)
    assert bool((logits[1] < -10).all())


def test_head_channels_that_are_not_there_are_named():
    with pytest.raises(ValueError, match="head_channels"):
        MaskRefiner(in_channels=2, head_channels=(1, 2), channels=SMALL, engine="native")
