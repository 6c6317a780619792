import pickle

import pytest
import torch

from monai_sparse_refine.engine import get_engine
from monai_sparse_refine.networks import CHANNEL_PRESETS, SparseGenerativeUNet
from monai_sparse_refine.networks.mask_refiner import active_coordinates

SMALL = (4, 6, 8)  # two levels


def _sparse(engine: str, mask: torch.Tensor, dtype: torch.dtype = torch.float32):
    rows = active_coordinates(mask)
    return get_engine(engine).SparseTensor(
        features=torch.ones(len(rows), 1, dtype=dtype), coordinates=rows.int().contiguous()
    )


def test_voxels_of_any_channel_are_active_and_what_is_not_a_number_is_not_lost():
    x = torch.zeros(2, 3, 2, 2, 2)
    x[0, 2, 0, 1, 0] = 0.6
    x[1, 0, 1, 1, 1] = float("nan")
    x[1, 1, 0, 0, 0] = 0.5  # just at the threshold
    assert active_coordinates(x).tolist() == [[0, 0, 1, 0], [1, 1, 1, 1]]


@pytest.mark.parametrize(("preset", "count"), [("ch1", 434_686), ("ch2", 18_137_178)])
def test_reference_parameter_counts(engine_name, preset, count):
    network = SparseGenerativeUNet(channels=preset, engine=engine_name)
    assert sum(parameter.numel() for parameter in network.parameters()) == count
    assert network.channels == CHANNEL_PRESETS[preset]


def test_levels_run_from_coarse_to_fine_with_their_targets(engine_name, shell, holed):
    network = SparseGenerativeUNet(channels=(4, 4, 4, 4, 4), engine=engine_name)
    levels = network(_sparse(engine_name, holed), bounds=shell.shape[2:], target=active_coordinates(shell))
    assert [level.stride for level in levels] == [8, 4, 2, 1]
    for level in levels:
        assert level.coordinates.shape == (len(level.logits), 4)
        assert bool((level.coordinates[:, 1:] % level.stride == 0).all())
        assert len(torch.unique(level.coordinates, dim=0)) == len(level.coordinates)
    # Every true voxel was generated, because the target kept its parents.
    assert int(levels[-1].target.sum()) == int(shell.sum())


def test_negative_prior_keeps_an_untrained_network_from_exploding(engine_name, holed):
    counts = {}
    for bias in (-3.0, 3.0):
        torch.manual_seed(0)
        network = SparseGenerativeUNet(channels=SMALL, head_bias=bias, engine=engine_name)
        assert all(bool((head.bias == bias).all()) for head in network.heads)
        counts[bias] = len(network(_sparse(engine_name, holed), target=active_coordinates(holed))[-1].logits)
    assert counts[-3.0] < counts[3.0]


def test_generation_stays_inside_the_bounds(engine_name, shell):
    network = SparseGenerativeUNet(channels=SMALL, head_bias=5.0, engine=engine_name)  # everything is kept
    bounds = (24, 25, 21)
    mask = shell[..., :25, :21]
    free = network(_sparse(engine_name, mask))[-1].coordinates[:, 1:]
    clipped = network(_sparse(engine_name, mask), bounds=bounds)[-1].coordinates[:, 1:]
    assert bool((free >= torch.tensor(bounds)).any())
    assert bool((clipped < torch.tensor(bounds)).all()) and bool((clipped >= 0).all())


def test_budget_keeps_the_most_probable_and_warns_once(engine_name, shell):
    torch.manual_seed(0)
    network = SparseGenerativeUNet(channels=SMALL, head_bias=5.0, engine=engine_name).eval()
    unbounded = network(_sparse(engine_name, shell))
    network.max_voxels = 800
    with pytest.warns(UserWarning, match="max_voxels=800 reached") as caught:
        bounded = network(_sparse(engine_name, shell))
    assert len([w for w in caught if "max_voxels" in str(w.message)]) == 1
    generated = {tuple(row) for row in bounded[-1].coordinates.tolist()}
    own = {tuple(row) for row in active_coordinates(shell).tolist()}
    assert len(generated - own) <= 800 < len(unbounded[-1].logits)
    # The parents of what was generated are the 100 best of the level above.
    level = unbounded[0]
    best = {tuple(row) for row in level.coordinates[level.logits.topk(100).indices].tolist()}
    parents = {(b, x // 2 * 2, y // 2 * 2, z // 2 * 2) for b, x, y, z in generated - own}
    assert parents <= best


def test_lower_keep_threshold_gives_more_voxels_their_children(engine_name, holed):
    counts = []
    for threshold in (0.0, -1e9):
        torch.manual_seed(0)
        network = SparseGenerativeUNet(channels=SMALL, keep_threshold=threshold, engine=engine_name).eval()
        levels = network(_sparse(engine_name, holed), bounds=holed.shape[2:])
        counts.append((len(levels[0].logits), len(levels[1].logits)))
    assert counts[0][0] == counts[1][0]  # the first level is generated from the input alone
    assert counts[0][1] < counts[1][1] >= 8 * counts[1][0] * 0.8


def test_nothing_kept_gives_empty_finer_levels(engine_name, holed):
    network = SparseGenerativeUNet(channels=(4, 4, 4, 4), head_bias=-1000.0, engine=engine_name)
    levels = network(_sparse(engine_name, holed))
    assert [level.stride for level in levels] == [4, 2, 1]
    coarsest = {tuple(cell) for cell in (holed[0, 0].nonzero() // 8).tolist()}
    assert len(levels[0].logits) >= 8 * len(coarsest)  # the children of every coarse cell
    assert [len(level.logits) for level in levels[1:]] == [0, 0]


def test_two_runs_on_one_tensor_give_the_same(engine_name, holed):
    # MinkowskiEngine's second union at a stride returns the first one's coordinates unless it is guarded.
    network = SparseGenerativeUNet(channels=SMALL, head_bias=1.0, engine=engine_name).eval()
    sparse = _sparse(engine_name, holed)
    first = network(sparse)[-1]
    with torch.no_grad():
        for head in network.heads:
            head.bias.sub_(1.2)
    network(sparse)
    with torch.no_grad():
        for head in network.heads:
            head.bias.add_(1.2)
    again = network(sparse)[-1]
    fresh = network(_sparse(engine_name, holed))[-1]
    assert _sorted(again) == _sorted(fresh) == _sorted(first)


def _sorted(level) -> list[tuple[tuple[int, ...], float]]:
    rows = zip(level.coordinates.tolist(), level.logits.tolist(), strict=True)
    return sorted((tuple(row), round(value, 4)) for row, value in rows)


@pytest.mark.parametrize("dimension", [2, 3])
def test_other_dimensions_and_depths(engine_name, dimension):
    torch.manual_seed(0)
    mask = (torch.rand(1, 1, *[12] * dimension) > 0.7).float()
    network = SparseGenerativeUNet(channels=(3, 4, 5, 6), dimension=dimension, engine=engine_name)
    levels = network(_sparse(engine_name, mask), bounds=(12,) * dimension, target=active_coordinates(mask))
    assert int(levels[-1].target.sum()) == int(mask.sum())


def test_native_network_pickles(holed):
    network = SparseGenerativeUNet(channels=SMALL, engine="native").eval()
    copy = pickle.loads(pickle.dumps(network))
    assert _sorted(copy(_sparse("native", holed))[-1]) == _sorted(network(_sparse("native", holed))[-1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": "ch9"}, "not a preset"),
        ({"channels": (8,)}, "at least two"),
        ({"max_voxels": 0}, "max_voxels"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        SparseGenerativeUNet(**options)


def test_fusing_layers_start_as_nothing_and_then_matter(engine_name, shell, holed):
    torch.manual_seed(0)
    plain = SparseGenerativeUNet(channels=SMALL, head_bias=1.0, engine=engine_name).eval()
    fused = SparseGenerativeUNet(channels=SMALL, head_bias=1.0, fuse=True, engine=engine_name).eval()
    missing = fused.load_state_dict(plain.state_dict(), strict=False).missing_keys
    assert missing and all(".fuse." in name for name in missing)
    before, after = (network(_sparse(engine_name, holed))[-1] for network in (plain, fused))
    torch.testing.assert_close(after.logits.sort().values, before.logits.sort().values)
    for stage in fused.decoder:
        torch.nn.init.ones_(stage.fuse[1].bn.weight)
    assert not torch.allclose(fused(_sparse(engine_name, holed))[0].logits, after.logits[:1])
    levels = fused.train()(
        _sparse(engine_name, holed), bounds=shell.shape[2:], target=active_coordinates(shell)
    )
    sum(level.logits.sum() for level in levels).backward()
    assert all(parameter.grad is not None for parameter in fused.parameters())


def test_frozen_norms_train_with_the_statistics_of_inference(engine_name, holed, shell):
    network = SparseGenerativeUNet(channels=SMALL, head_bias=1.0, engine=engine_name, frozen_norm=True)
    statistics = {name: value.clone() for name, value in network.named_buffers()}
    x, bounds = _sparse(engine_name, holed), shell.shape[2:]
    training = network(x, bounds=bounds, target=active_coordinates(shell))
    sum(level.logits.sum() for level in training).backward()
    assert all(torch.equal(value, statistics[name]) for name, value in network.named_buffers())
    assert all(parameter.grad is not None for parameter in network.parameters())
    deepest = network.eval()(_sparse(engine_name, holed), bounds=bounds)[0]
    torch.testing.assert_close(training[0].logits, deepest.logits)
    assert network.training is False and network.train().training is True
