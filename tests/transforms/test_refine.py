from __future__ import annotations

import copy
import gc
import json
import pickle
import resource
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import DataLoader, Dataset, MetaTensor, decollate_batch
from monai.transforms import Compose, CopyItemsd
from torch import nn

from monai_sparse_refine.data import skull_phantom
from monai_sparse_refine.errors import InputError
from monai_sparse_refine.networks import MaskRefiner
from monai_sparse_refine.transforms import (
    KeepMajorComponents,
    MirrorImaged,
    RandCranialDefect,
    RefineGate,
    RefineRecipe,
    ResampleToSpacingd,
    SparseRefine,
    SparseRefineD,
    SparseRefined,
    SparseRefineDict,
    find_bundle,
    load_recipe,
)

SHAPE = (14, 12, 10)


class Grow(nn.Module):
    """The mask and its six neighbours; the mask itself is more probable."""

    def __init__(self, by: int = 1, inside: float = 4.0, rim: float = 2.0) -> None:
        super().__init__()
        self.by, self.inside, self.rim = by, inside, rim
        self.seen: list[tuple] = []

    def forward(self, x):
        self.seen.append((tuple(x.shape), self.training, torch.is_grad_enabled()))
        grown = nn.functional.max_pool3d(x[:, :1], 2 * self.by + 1, 1, self.by)
        return torch.where(x[:, :1] > 0.5, self.inside, torch.where(grown > 0.5, self.rim, -20.0))


class Constant(nn.Module):
    def __init__(self, logit: float) -> None:
        super().__init__()
        self.logit = logit

    def forward(self, x):
        return torch.full_like(x[:, :1], self.logit)


def tiny(**options):
    torch.manual_seed(0)
    return MaskRefiner(**{"channels": [4, 4, 6], "engine": "native", "head_bias": 2.0, **options})


def ball(centre, radius, shape=SHAPE):
    axes = np.meshgrid(*[np.arange(n) for n in shape], indexing="ij")
    return sum((a - c) ** 2 for a, c in zip(axes, centre, strict=True)) <= radius**2


def label_map(dtype=np.uint8):
    volume = np.zeros((1, *SHAPE), dtype)
    volume[0][ball((4, 4, 4), 2.5)] = 3
    volume[0][ball((10, 8, 6), 2)] = 7
    volume[0][0, 0, :] = 9
    return volume


def grown(mask):
    padded = np.pad(mask, 1)
    return np.lib.stride_tricks.sliding_window_view(padded, (3, 3, 3)).any((3, 4, 5))


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64, np.float32, np.float16])
def test_only_the_labels_asked_for_change(dtype):
    source = label_map(dtype)
    before = source.copy()
    out = SparseRefine(network=Grow(), labels=3, gate=None)(source)
    np.testing.assert_array_equal(source, before)
    assert isinstance(out, np.ndarray) and out.dtype == dtype
    np.testing.assert_array_equal(out[0] == 3, grown(source[0] == 3) & (source[0] != 7) & (source[0] != 9))
    for other in (7, 9):
        np.testing.assert_array_equal(out == other, source == other)


def test_all_labels_are_refined_where_none_is_named():
    out, report = SparseRefine(network=Grow(), gate=None).refine(label_map())
    assert [row["label"] for row in report] == ["3", "7", "9"]
    assert all(row["refined"] and row["voxels_after"] > row["voxels_before"] for row in report)
    assert [row["voxels_after"] for row in report] == [np.count_nonzero(out == i) for i in (3, 7, 9)]


def test_containers_and_geometry_stay():
    affine = np.array([[0.8, 0.1, 0, 5], [-0.1, 0.8, 0.2, -7], [0, -0.2, 5, 9], [0, 0, 0, 1.0]])
    source = MetaTensor(torch.from_numpy(label_map()), affine=affine, meta={"filename_or_obj": "a.nii"})
    refine = SparseRefine(network=Grow(), gate=None)
    out = refine(source)
    assert isinstance(out, MetaTensor) and out.dtype == torch.uint8 and out.meta["filename_or_obj"] == "a.nii"
    torch.testing.assert_close(out.affine, source.affine, rtol=0, atol=0)
    plain = refine(source.as_tensor())
    assert type(plain) is torch.Tensor
    np.testing.assert_array_equal(plain.numpy(), out.numpy())
    flipped = refine(label_map()[:, ::-1])
    np.testing.assert_array_equal(flipped[:, ::-1], out.numpy())
    assert refine(source.as_tensor().bfloat16()).dtype == torch.bfloat16


def test_one_hot_gives_the_same_as_the_label_map():
    source = label_map()
    one_hot = np.stack([source[0] == i for i in range(10)]).astype(np.float32)
    expected = SparseRefine(network=Grow(), labels=[3, 7], gate=None)(source)[0]
    out = SparseRefine(network=Grow(), labels=[3, 7], gate=None)(one_hot)
    assert out.dtype == np.float32
    np.testing.assert_array_equal(out.argmax(0), expected)
    np.testing.assert_array_equal(out.sum(0), 1)
    without = SparseRefine(network=Grow(), labels=[3, 7], gate=None, has_background=False)(one_hot[1:])
    np.testing.assert_array_equal(without, out[1:])


def test_overlapping_channels_that_stay_as_they_are_keep_their_voxels():
    whole, core = ball((6, 6, 5), 4), ball((6, 6, 5), 2)
    channels = np.stack([whole, core]).astype(np.uint8)
    out = SparseRefine(network=Grow(), labels=2, gate=None, has_background=False)(channels)
    np.testing.assert_array_equal(out, channels)  # nowhere to grow, but nothing is lost either


def test_overlaps_go_to_the_most_probable_label_whatever_the_order():
    class ByLabel(nn.Module):
        def forward(self, x):
            rim = 3.0 if x[0, 0].sum() > 20 else 1.0  # the larger one is surer of its rim
            return Grow(rim=rim)(x)

    source = np.zeros((1, *SHAPE), np.uint8)
    source[0, 2:5, 2:9, 2:9], source[0, 6:8, 4:7, 4:7] = 1, 2
    for order in ([1, 2], [2, 1]):
        out = SparseRefine(network=RefineRecipe(ByLabel(), margin=3), labels=order, gate=None)(source)[0]
        assert (out[5, 4:7, 4:7] == 1).all()  # both want the layer between
        assert (out[8, 4:7, 4:7] == 2).all()
        assert (out[6:8, 4:7, 4:7] == 2).all()  # what a label is sure of stays its own


def test_the_ids_of_a_union_are_kept():
    source = np.zeros((1, *SHAPE), np.uint8)
    source[0, 3:6, 3:9, 3:8], source[0, 6:9, 3:9, 3:8] = 44, 45
    refine = SparseRefine(network=Grow(), label_preset="totalsegmentator_v1", labels="heart", gate=None)
    out, report = refine.refine(source)
    assert report[0]["ids"] == [44, 45, 46, 47, 48] and report[0]["voxels_before"] == 6 * 6 * 5
    np.testing.assert_array_equal(out[source > 0], source[source > 0])
    assert (out[0, 2, 3:9, 3:8] == 44).all() and (out[0, 9, 3:9, 3:8] == 45).all()
    one_hot = np.stack([source[0] == i for i in range(49)]).astype(np.uint8)
    np.testing.assert_array_equal(refine(one_hot).argmax(0), out[0])


def test_gates_return_the_label_as_it_came_in():
    source = label_map()
    for network in (Constant(-9.0), Constant(9.0), Grow(2)):
        out, report = SparseRefine(network=network).refine(source)
        np.testing.assert_array_equal(out, source)
        assert all(row["gated"] and not row["refined"] and row["reason"] for row in report)
        assert all(row["voxels_before"] == row["voxels_after"] for row in report)


def test_a_label_that_loses_too_much_to_others_gets_its_voxels_back():
    class Greedy(nn.Module):
        """The larger label wants all around it, the smaller one barely its own."""

        def forward(self, x):
            return Grow(2, rim=3.0)(x) if x[0, 0].sum() > 60 else Grow(0, inside=1.0)(x)

    source = np.zeros((1, *SHAPE), np.uint8)
    source[0, 2:7, 2:9, 2:9], source[0, 7:9, 4:7, 4:7] = 1, 2
    gate = RefineGate(max_volume_change=4.0, min_dice=0.3)
    out, report = SparseRefine(network=Greedy(), gate=gate).refine(source)
    assert report[0]["refined"] and not report[0]["gated"]
    assert report[1]["gated"] and "other labels" in report[1]["reason"]
    np.testing.assert_array_equal(out == 2, source == 2)
    assert report[0]["voxels_after"] == np.count_nonzero(out == 1)
    trusting = SparseRefine(network=Greedy(), gate=None)(source)
    assert not (trusting == 2).any()


@pytest.mark.parametrize(("max_taken", "given_back"), [(None, False), (0.3, False), (0.2, True)])
def test_a_label_keeps_what_it_had_where_others_take_more_of_what_it_keeps(max_taken, given_back):
    class Reach(nn.Module):
        """The larger label takes one layer of four of the other, which is less sure of them."""

        def forward(self, x):
            return Grow(1, rim=3.0)(x) if x[0, 0].sum() > 200 else Grow(1, inside=1.0)(x)

    source = np.zeros((1, *SHAPE), np.uint8)
    source[0, 1:5, 2:10, 2:9], source[0, 5:9, 3:8, 3:8] = 1, 2
    gate = RefineGate(max_volume_change=None, min_dice=None, max_taken=max_taken)
    out, report = SparseRefine(network=RefineRecipe(Reach(), margin=3), gate=gate).refine(source)
    assert report[0]["refined"] and report[1]["gated"] == given_back
    if given_back:
        np.testing.assert_array_equal(out == 2, source == 2)
        assert "lost 25.0 % of what it keeps, at most 20 %" in report[1]["reason"]
    else:
        assert (out[0, 5, 3:8, 3:8] == 1).all() and (out[0, 6:9, 3:8, 3:8] == 2).all()
        assert np.count_nonzero(out == 2) > 3 * 25


def test_nan_is_refused_with_a_warning():
    with pytest.warns(UserWarning, match="label 3 is left as it is"):
        out, report = SparseRefine(network=Constant(float("nan")), labels=3, gate=None).refine(label_map())
    np.testing.assert_array_equal(out, label_map())
    assert report[0]["gated"] and "NaN" in report[0]["reason"]


def test_empty_and_unknown_labels():
    network = Grow()
    empty = np.zeros((1, *SHAPE), np.uint8)
    out, report = SparseRefine(network=network).refine(empty)
    assert not out.any() and report == []
    out, report = SparseRefine(network=network, labels=[3, 200], gate=None).refine(empty)
    assert not out.any() and network.seen == []
    assert [row["reason"] for row in report] == ["the mask has none of it"] * 2
    out, report = SparseRefine(network=network, labels=[200], gate=None).refine(label_map())
    np.testing.assert_array_equal(out, label_map())


def test_report_in_millilitres():
    source = MetaTensor(torch.from_numpy(label_map()), affine=np.diag([-0.9, 0.9, 5, 1]))
    row = SparseRefine(network=Grow(), labels=7, gate=None).refine(source)[1][0]
    assert row["ml_before"] == pytest.approx(row["voxels_before"] * 0.9 * 0.9 * 5 / 1000)
    assert row["ml_after"] > row["ml_before"] and row["seconds"] >= 0
    plain = SparseRefine(network=Grow(), labels=7, gate=None)
    assert np.isnan(plain.refine(label_map())[1][0]["ml_after"])
    spaced = SparseRefine(network=Grow(), labels=7, gate=None, spacing=(0.9, 0.9, 5))
    assert spaced.refine(label_map())[1][0]["ml_after"] == pytest.approx(row["ml_after"])


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.zeros((2, 1, 4, 4, 4)), "a batch.*decollate"),
        (np.zeros((1, 4, 4)), "2D images are not supported"),
        (np.zeros((4, 4)), r"\[C, X, Y, Z\]"),
        (np.full((1, 4, 4, 4), 0.3), "no whole numbers"),
        (np.full((1, 4, 4, 4), np.nan), "expected label ids"),
        (np.full((1, 4, 4, 4), -1), "from -1 to -1"),
        (np.full((1, 4, 4, 4), 70000), "65535"),
        (np.full((6, 4, 4, 4), 0.3), "values other than 0 and 1"),
        (np.zeros((5, 4, 4, 4)), "id 5.*ids 1 to 4"),
        (np.zeros((1, 0, 4, 4)), "at least one voxel"),
        (np.zeros((1, 4, 4, 4), complex), "real values"),
    ],
)
def test_what_is_no_mask_gets_a_clear_error(mask, message):
    with pytest.raises(InputError, match=message):
        SparseRefine(network=Grow(), labels=5)(mask)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "either bundle=.*or network="),
        ({"bundle": "a", "network": Grow()}, "not both"),
        ({"network": Grow(), "weights": "a.pt"}, "belong to bundle="),
        ({"network": Grow(), "gate": {"x": 1}}, "gate"),
        ({"network": Grow(), "labels": "heart"}, "label_preset"),
    ],
)
def test_options_that_make_no_sense(options, message):
    with pytest.raises(InputError, match=message):
        SparseRefine(**options)


# --- do no harm, with the real network -------------------------------------------------------------------------


@pytest.mark.parametrize("spacing", [(1, 1, 1), (0.9, 0.9, 5)])
@pytest.mark.parametrize("shape", [SHAPE, (9, 9, 1), (1, 9, 9), (64, 3, 2)])
def test_any_grid_and_a_label_at_the_border(spacing, shape):
    source = np.zeros((1, *shape), np.uint8)
    source[0, :5, :5, :5] = 1
    source[0, -3:, -3:, -3:] = 2
    turn = np.array([[0.9, -0.3, 0.3], [0.36, 0.9, -0.2], [-0.2, 0.3, 0.93]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag(spacing)
    mask = MetaTensor(torch.from_numpy(source), affine=affine)
    out, report = SparseRefine(network=tiny(), gate=None).refine(mask)
    assert out.shape == mask.shape and set(np.unique(out)) <= {0, 1, 2}
    torch.testing.assert_close(out.affine, mask.affine, rtol=0, atol=0)
    assert sum(row["voxels_after"] for row in report) == int((out > 0).sum())


def test_one_slice_works_in_millimetres_too():
    source = np.zeros((1, 20, 20, 1), np.uint8)
    source[0, 5:15, 5:15] = 1
    recipe = RefineRecipe(Grow(), preprocessing=ResampleToSpacingd("image", 2.0))
    mask = MetaTensor(torch.from_numpy(source), affine=np.diag([1, 1, 5.0, 1]))
    out = SparseRefine(network=recipe, gate=None)(mask)
    assert out.shape == mask.shape and int(out.sum()) > 100


def test_a_hundred_labels():
    rng = np.random.default_rng(0)
    centres = rng.integers(2, [46, 46, 38], (100, 3))
    source = np.zeros((1, 48, 48, 40), np.uint8)
    for number, centre in enumerate(centres, start=1):
        source[0][ball(centre, 2.2, (48, 48, 40))] = number
    untouched = source.copy()
    wanted = [int(i) for i in np.unique(source) if i and i % 2]
    out, report = SparseRefine(network=tiny(), labels=wanted, gate=None).refine(source)
    assert len(report) == len(wanted) and all(row["refined"] for row in report)
    for other in range(2, 101, 2):
        np.testing.assert_array_equal(out == other, untouched == other)
    every, report = SparseRefine(network=Grow(), gate=None).refine(source)
    assert len(report) == len(np.unique(source)) - 1
    assert all(row["voxels_after"] == np.count_nonzero(every == int(row["label"])) for row in report)


@pytest.mark.slow
def test_a_thousand_refinements_do_not_grow_memory():
    source = torch.from_numpy(label_map())
    refine = SparseRefine(network=tiny(), labels=[3], gate=None)
    for _ in range(100):
        refine(source)
    gc.collect()
    objects, peak = len(gc.get_objects()), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(900):
        refine(source)
    gc.collect()
    assert len(gc.get_objects()) - objects < 500
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 16 * 1024  # KiB


def test_only_the_neighbourhood_of_a_label_reaches_the_network():
    network = Grow()
    source = np.zeros((1, 60, 60, 60), np.uint8)
    source[0, 30:33, 30:33, 30:33] = 1
    network.train()
    SparseRefine(network=RefineRecipe(network, margin=4), gate=None)(source)
    assert network.seen == [((1, 1, 11, 11, 11), False, False)]  # cropped, evaluation mode, no gradients
    assert network.training


def test_threads_and_workers_give_the_same():
    source = label_map()
    refine = SparseRefine(network=tiny(), gate=None)
    expected = refine(source)
    with ThreadPoolExecutor(4) as pool:
        for out in pool.map(refine, [source] * 16):
            np.testing.assert_array_equal(out, expected)
    for twin in (pickle.loads(pickle.dumps(refine)), copy.deepcopy(refine)):
        np.testing.assert_array_equal(twin(source), expected)
    data = Dataset([{"pred": torch.from_numpy(source)}] * 3, SparseRefined("pred", network=tiny(), gate=None))
    for batch in DataLoader(data, batch_size=1, num_workers=2):
        np.testing.assert_array_equal(batch["pred"][0], expected)


def test_dictionary_version_with_reports():
    assert SparseRefineD is SparseRefineDict is SparseRefined
    refine = SparseRefined(
        ["a", "b"],
        network=Grow(),
        labels={"left": 3},
        gate={"max_volume_change": 9, "min_dice": None},
        report_key=["a_report", "b_report"],
        allow_missing_keys=True,
    )
    out = refine({"a": label_map(), "other": 1})
    assert out["other"] == 1 and "b" not in out and "b_report" not in out
    assert out["a_report"][0]["label"] == "left" and out["a_report"][0]["refined"]
    with pytest.raises(InputError, match="report_key"):
        SparseRefined(["a", "b"], network=Grow(), report_key="r")


def test_reports_survive_collation():
    transform = Compose(
        [SparseRefined("pred", network=Grow(), labels=[3, 50], gate=None, report_key="report")]
    )
    data = Dataset([{"pred": torch.from_numpy(label_map())}] * 2, transform)
    items = decollate_batch(next(iter(DataLoader(data, batch_size=2))))
    assert (
        items[1]["report"][0]["voxels_after"] == transform({"pred": label_map()})["report"][0]["voxels_after"]
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_mixed_precision_around_it(dtype):
    refine = SparseRefine(network=tiny(), gate=None)
    expected = refine(label_map())
    with torch.autocast("cpu", dtype=dtype):
        out = refine(label_map())
    assert (out != expected).mean() < 0.02  # a logit next to the threshold may fall on its other side


# --- recipes and bundles ---------------------------------------------------------------------------------------


class Brightness(nn.Module):
    """Foreground where the second channel says so."""

    def forward(self, x):
        assert x.shape[1] == 2 and float(x[:, 1].max()) <= 0.5
        return torch.where(x[:, 1:] > 0.25, 5.0, -5.0)


def test_intensities():
    image = np.where(ball((4, 4, 4), 3), 100.0, -100.0)[None].astype(np.float32)
    recipe = RefineRecipe(Brightness(), margin=3, intensity_window=(-200, 200))
    refine = SparseRefined("pred", image_key="image", network=recipe, labels=3, gate=None)
    out = refine({"pred": label_map(), "image": image})["pred"]
    np.testing.assert_array_equal(out[0] == 3, ball((4, 4, 4), 3))
    with pytest.raises(InputError, match="image_key"):
        SparseRefine(network=recipe)(label_map())
    with pytest.raises(InputError, match="one grid"):
        SparseRefine(network=recipe)(label_map(), image[:, 1:])


def test_a_network_with_another_answer_is_refused():
    class Two(nn.Module):
        def forward(self, x):
            return torch.cat([x, x], 1)

    with pytest.raises(InputError, match=r"returned \(1, 2, .*expected logits"):
        SparseRefine(network=Two())(label_map())


def test_a_mask_without_spacing_is_refused_where_the_network_works_in_millimetres():
    recipe = RefineRecipe(Grow(), preprocessing=ResampleToSpacingd("image", 2.0))
    with pytest.raises(InputError, match="spacing= in mm"):
        SparseRefine(network=recipe)(label_map())
    assert SparseRefine(network=recipe, gate=None, spacing=1.0)(label_map()).shape == (1, *SHAPE)


def test_what_preprocessing_guessed_is_there_where_probabilities_are_adjusted():
    source = np.where(label_map() == 3, 1, 0).astype(np.uint8)
    seen = []

    def adjust(probability, mask, guesses):
        seen.append(guesses)
        return (mask.as_tensor() > 0).float()

    copy = CopyItemsd("image", names="guesses")
    recipe = RefineRecipe(Constant(9.0), preprocessing=[copy], margin=None, adjust=adjust)
    out = SparseRefine(network=recipe, gate=None, spacing=1.0)(source)
    np.testing.assert_array_equal(out, source)
    assert len(seen) == 1
    np.testing.assert_array_equal(np.asarray(seen[0]), source)


def test_keep_input_only_adds():
    source = np.where(label_map() == 3, 1, 0).astype(np.uint8)
    out = SparseRefine(network=RefineRecipe(Constant(-9.0), keep_input=True), gate=None)(source)
    np.testing.assert_array_equal(out, source)
    recipe = RefineRecipe(Grow(), additions=lambda whole, mask: (whole > mask)[..., 4:])
    with pytest.raises((InputError, ValueError)):
        SparseRefine(network=recipe, gate=None, spacing=1.0)(source)


@pytest.fixture
def bundle(tmp_path) -> Path:
    """A tiny completion bundle: configurations and untrained weights."""
    folder = tmp_path / "bundles" / "tiny_completion"
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    source = Path(__file__).resolve().parents[2] / "bundles" / "skull_completion" / "configs"
    inference = json.loads((source / "inference.json").read_text())
    inference["network_def"]["channels"] = [4, 4, 6]
    inference["network_def"]["head_bias"] = 3.0
    inference["working_spacing"] = 6.0
    (folder / "configs" / "inference.json").write_text(json.dumps(inference))
    (folder / "configs" / "refine.json").write_text((source / "refine.json").read_text())
    network = tiny(in_channels=3, fuse=True, head_bias=3.0)
    torch.save(network.state_dict(), folder / "models" / "model.pt")
    return folder


@pytest.fixture
def skull() -> MetaTensor:
    return RandCranialDefect(["random"]).set_random_state(0)(skull_phantom(2, spacing=6.0))


def test_a_bundle_completes_a_skull(bundle, skull, monkeypatch):
    refine = SparseRefine(bundle=bundle, labels={"skull": 1}, device="cpu")
    out, report = refine.refine(skull)
    assert bool((out[skull > 0] == 1).all()), report  # completion only adds
    assert report[0]["label"] == "skull"
    monkeypatch.setenv("MONAI_SPARSE_BUNDLES", str(bundle.parent))
    named = pickle.loads(pickle.dumps(SparseRefine(bundle="tiny_completion", device="cpu")))
    np.testing.assert_array_equal(named(skull), out)
    with pytest.raises(InputError, match=r"'heart' is none that the network was trained for \(skull\)"):
        SparseRefine(bundle=bundle, label_preset="segthor", labels="heart")(skull)


def test_the_recipe_does_what_the_inference_configuration_does(bundle, skull, tmp_path):
    nib.save(nib.Nifti1Image(skull[0].numpy(), skull.affine.numpy()), tmp_path / "skull.nii.gz")
    parser = ConfigParser()
    parser.read_config(bundle / "configs" / "inference.json")
    settings = {"dataset_dir": str(tmp_path / "skull.nii.gz"), "output_dir": str(tmp_path / "out")}
    for name, value in {"bundle_root": str(bundle), "mesh": False, "figure": False, **settings}.items():
        parser[name] = value
    parser.get_parsed_content("evaluator").run()
    expected = np.asarray(nib.load(tmp_path / "out" / "skull_completed.nii.gz").dataobj)
    assert expected.sum() > int(skull.sum())
    out = SparseRefine(bundle=bundle, device="cpu", gate=None)(skull)
    np.testing.assert_array_equal(out[0].numpy(), expected)


def test_both_configurations_of_the_bundle_clean_the_implant_alike(bundle):
    inference, refine = (
        json.loads((bundle / "configs" / name).read_text()) for name in ("inference.json", "refine.json")
    )
    steps = {step["_target_"].rsplit(".", 1)[-1]: step for step in inference["postprocessing"]["transforms"]}
    # One definition of what an implant is, for all that have to know it.
    sharing = (
        "AverageGridsd",
        "AverageVaultd",
        "AverageMirrord",
        "ReachRimd",
        "CloseLikelyGapsd",
        "ExtractImplantd",
    )
    assert {steps[name]["extract"] for name in sharing} == {"@extract"}
    assert {step["extract"] for step in refine["refine"]["adjust"]} == {"@extract"}
    shared, closing = refine["refine"]["additions"]
    assert shared == "@extract" and closing["_target_"].endswith(".CloseGaps")
    options = ("radius_mm", "below_mm")
    assert [closing.get(name) for name in options] == [steps["CloseGapsd"].get(name) for name in options]


def test_recipe_follows_the_bundle_and_the_overrides(bundle):
    recipe = load_recipe(bundle, device="cpu", overrides={"max_voxels": 123, "threshold": 0.3})
    assert recipe.network.network.max_voxels == 123 and recipe.threshold == (0.3, 0.3)
    assert recipe.margin is None and recipe.keep_input and not recipe.network.training
    assert any(isinstance(step, MirrorImaged) for step in recipe.preprocessing.flatten().transforms)
    (bundle / "configs" / "refine.json").unlink()
    plain = load_recipe(bundle, device="cpu")
    assert plain.preprocessing is None and plain.network.in_channels == 3


def test_bundles_that_cannot_be_used(bundle, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_bundle("tiny_completion") == bundle  # ./bundles
    with pytest.raises(InputError, match=r"no bundle of that name .*MONAI_SPARSE_BUNDLES"):
        find_bundle("tinny")
    with pytest.raises(InputError, match="is no bundle"):
        find_bundle(bundle / "configs")
    with pytest.raises(InputError, match=r"no\.pt: no such file"):
        load_recipe(bundle, weights=tmp_path / "no.pt")
    recipe = bundle / "configs" / "refine.json"
    recipe.write_text(json.dumps({"refine": {"_target_": "torch.nn.ReLU"}}))
    with pytest.raises(InputError, match="is a ReLU; expected"):
        load_recipe(bundle)
    recipe.write_text("{")
    with pytest.raises(InputError, match="its configuration cannot be used"):
        load_recipe(bundle)


class Told(nn.Module):
    """Logits as the recipe's preprocessing has made them."""

    def forward(self, x):
        return x[:, :1]


def test_a_recipe_gets_intensity_and_probability_where_there_are_some():
    seen = []

    def told(data):
        seen.append({key: tuple(value.shape) for key, value in data.items() if key != "label"})
        soft = data.get("probability", data["image"])
        seen[-1]["affine"] = None if soft is data["image"] else soft.affine[0, 3].item()
        return {**data, "image": torch.logit(soft.float(), eps=1e-3)}

    recipe = RefineRecipe(Told(), preprocessing=[told], margin=1)
    refine = SparseRefine(network=recipe, labels={"heart": [3, 7]}, gate=None, spacing=(2.0, 1, 1))
    source = label_map()
    soft = np.zeros((10, *SHAPE), np.float32)
    soft[3, 4:6], soft[7, 5:7] = 0.4, 0.4  # neither is enough alone
    out = refine(source, np.zeros((1, *SHAPE)), soft)
    assert (out[0, 5][np.isin(source[0, 5], (0, 3, 7))] > 0).sum() > (source[0, 5] > 0).sum()
    box = seen[0]["image"]
    assert seen[0]["intensity"] == seen[0]["probability"] == box and seen[0]["affine"] == 2.0 * 1
    refine(source)
    assert "probability" not in seen[1] and "intensity" not in seen[1]
    single = refine(source, probability=soft[3:4])
    assert single.shape == source.shape


def test_probabilities_on_another_grid_or_without_the_label_are_refused():
    refine = SparseRefine(network=Grow(), labels=3)
    with pytest.raises(InputError, match="probability has shape"):
        refine(label_map(), probability=np.zeros((4, 3, 3, 3)))
    with pytest.raises(InputError, match="3 channels"):
        refine(label_map(), probability=np.zeros((3, *SHAPE)))


def test_a_recipe_cleans_what_it_refined():
    def largest(mask):
        kept = torch.zeros_like(mask)
        kept[0][torch.from_numpy(ball((4, 4, 4), 2.5))] = 1
        return kept

    source = label_map()
    source[0, 12, 10, 8] = 3  # a speck far away
    out = SparseRefine(network=RefineRecipe(Grow(), clean=largest, margin=None), labels=3, gate=None)(source)
    np.testing.assert_array_equal(out[0] == 3, ball((4, 4, 4), 2.5))


def test_a_recipe_prepares_the_mask_by_label_and_works_where_it_is():
    source = label_map()
    source[0, 13, 11, 9] = 3  # far from the rest of label 3
    largest = KeepMajorComponents(fraction=1.0)
    plain = SparseRefine(network=RefineRecipe(Grow(), margin=2), labels={"heart": 3}, gate=None)(label_map())
    for prepare, kept in ((largest, False), ({"heart": largest}, False), ({"aorta": largest}, True)):
        network = Grow()
        recipe = RefineRecipe(network, prepare=prepare, margin=2)
        out = SparseRefine(network=recipe, labels={"heart": 3}, gate=None)(source)
        assert (out[0, 13, 11, 9] == 3) == kept
        if not kept:
            np.testing.assert_array_equal(out, plain)
            wanted = Grow()
            SparseRefine(network=RefineRecipe(wanted, margin=2), labels={"heart": 3}, gate=None)(label_map())
            assert network.seen == wanted.seen  # the same box as without what went


@pytest.mark.parametrize(
    ("leeway", "blind", "grows", "kept"),
    [(0.0, 0.0, True, False), (0.2, 0.2, True, True), (0.4, 0.4, False, True), (0.4, 0.2, True, True)],
)
def test_a_voxel_leaves_its_side_only_where_the_network_is_sure(leeway, blind, grows, kept):
    # Rim voxels have probability 0.88, those of the mask 0.38.
    recipe = RefineRecipe(Grow(inside=-0.5, rim=2.0), hysteresis=(leeway, blind), margin=2)
    source = label_map()
    out = SparseRefine(network=recipe, labels=3, gate=None)(source)
    assert bool((out[source == 3] == 3).all()) == kept
    assert bool((out == 3)[source != 3].any()) == grows


def test_leeway_follows_whether_there_are_intensities():
    source, image = label_map(), np.zeros((1, *SHAPE), np.float32)
    recipe = RefineRecipe(Grow(rim=2.0), hysteresis=(0.0, 0.45), margin=2)
    refine = SparseRefine(network=recipe, labels=3, gate=None)
    assert np.array_equal(refine(source) == 3, source == 3)
    assert (refine(source, image) == 3).sum() > (source == 3).sum()


def test_a_threshold_of_its_own_without_intensities():
    source, image = label_map(), np.zeros((1, *SHAPE), np.float32)
    recipe = RefineRecipe(Grow(rim=0.0), threshold=(0.6, 0.4), margin=2)  # rim voxels have probability 0.5
    refine = SparseRefine(network=recipe, labels=3, gate=None)
    assert (refine(source) == 3).sum() > (source == 3).sum() == (refine(source, image) == 3).sum()


@pytest.mark.parametrize("threshold", [0, 1.0, (0.5,), (0.5, 1)])
def test_an_impossible_threshold_is_told(threshold):
    with pytest.raises(InputError, match="threshold"):
        RefineRecipe(Grow(), threshold=threshold)


@pytest.mark.parametrize("hysteresis", [0.5, -0.1, (0.1, 0.2, 0.3), (0.1, 0.6)])
def test_an_impossible_leeway_is_told(hysteresis):
    with pytest.raises(InputError, match="hysteresis"):
        RefineRecipe(Grow(), hysteresis=hysteresis)


class Following(Grow):
    """What it was given, grown by a voxel; remembers which probabilities it got."""

    def __init__(self) -> None:
        super().__init__()
        self.soft: list[bool] = []

    def prepare(self, data):
        self.soft.append("probability" in data)
        return data


@pytest.mark.parametrize(
    ("passes", "with_image", "reach"),
    [(1, True, 1), (3, True, 3), ((3, 1), False, 1), ({"heart": (2, 1)}, True, 2), ({"aorta": 2}, True, 1)],
)
def test_a_network_works_on_its_own_answer_again(passes, with_image, reach):
    labels = np.zeros((1, *SHAPE), np.uint8)
    labels[0, 6, 5, 4] = 1
    image = np.zeros((1, *SHAPE), np.float32) if with_image else None
    network = Following()
    recipe = RefineRecipe(network, preprocessing=[network.prepare], passes=passes, margin=4)
    refine = SparseRefine(network=recipe, labels={"heart": 1}, gate=None, spacing=1.0)
    out = refine(labels, image, (labels == 1).astype(np.float32))
    x, y, z = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    np.testing.assert_array_equal(
        out[0] > 0, (abs(x - 6) <= reach) & (abs(y - 5) <= reach) & (abs(z - 4) <= reach)
    )
    assert network.soft == [True] + [False] * (reach - 1)  # the dense network is asked once


def test_nothing_is_refined_again_where_nothing_is_left():
    network = Constant(-5.0)
    runs: list[int] = []
    network.register_forward_hook(lambda *_: runs.append(1))
    recipe = RefineRecipe(network, passes=3)
    source = label_map()
    np.testing.assert_array_equal(
        SparseRefine(network=recipe, labels=3)(source), source
    )  # the gate refuses it
    assert len(runs) == 1


@pytest.mark.parametrize("given", [None, 0.2, 51])
def test_a_mask_that_is_not_refined_is_prepared_and_cleaned_all_the_same(given):
    class Refuses(nn.Module):
        def forward(self, x):
            raise AssertionError("the network was run")

    source = label_map() == 3
    source[0, 0, 0, 0] = True  # a speck
    soft = (
        None if given is None else torch.full(source.shape, given, dtype=torch.uint8 if given > 1 else None)
    )
    recipe = RefineRecipe(Refuses(), passes=[1, 0], prepare=KeepMajorComponents(fraction=0.5), threshold=0.9)
    mask = MetaTensor(torch.from_numpy(source.astype(np.uint8)), affine=np.eye(4))
    graded = recipe.refine(mask, probability=soft)
    np.testing.assert_array_equal(graded > 0, label_map()[0] == 3)
    # As certain as the dense network was: other labels may take it by the same rule as ever.
    assert set(np.unique(graded[graded > 0])) == {127 if given is None else 51}
    with pytest.raises(AssertionError, match="was run"):
        recipe.refine(mask, intensity=torch.zeros(source.shape))


@pytest.mark.parametrize("passes", [-1, 1.5, (1,), (1, -1), {"heart": -1}])
def test_an_impossible_number_of_passes_is_told(passes):
    with pytest.raises(InputError, match="passes"):
        RefineRecipe(Grow(), passes=passes)


@pytest.mark.parametrize(
    ("recut", "with_image", "size"),
    [
        (0.5, False, 3),
        (0.3, False, 5),
        ({"heart": 0.3}, False, 5),
        ({"aorta": 0.3}, False, 1),
        (0.95, False, 1),
        (None, False, 1),
        (0.3, True, 1),
    ],
)
@pytest.mark.parametrize("bytes_", [False, True])
def test_without_intensities_the_mask_is_cut_anew_from_the_probability(recut, with_image, size, bytes_):
    soft = np.zeros((1, *SHAPE), np.float32)
    soft[0, 4:9, 5, 4], soft[0, 5:8, 5, 4] = 0.4, 0.9
    given = torch.from_numpy((soft * 255).astype(np.uint8) if bytes_ else soft)
    mask = np.zeros((1, *SHAPE), np.uint8)
    mask[0, 6, 5, 4] = 1
    recipe = RefineRecipe(Grow(), passes=0, recut=recut)
    image = torch.zeros((1, *SHAPE)) if with_image else None
    graded = recipe.refine(
        MetaTensor(torch.from_numpy(mask), affine=np.eye(4)),
        intensity=image,
        probability=given,
        label="heart",
    )
    assert np.count_nonzero(graded) == size  # 0.95 is nowhere: the mask stays


def test_a_probability_is_smoothed_in_mm_before_the_mask_is_cut_anew():
    """A single voxel below 0.5 within a slab, and one above it outside: both are steps of a coarse grid."""
    soft = np.zeros((1, *SHAPE), np.float32)
    soft[0, :6] = 1.0
    soft[0, 3, 4, 4], soft[0, 9, 4, 4] = 0.3, 0.8
    slab = np.zeros((1, *SHAPE), np.uint8)
    slab[0, :6] = 1
    for spacing, blur, same in ((1.0, 1.5, True), (1.0, 0.0, False), (30.0, 1.5, False)):
        recipe = RefineRecipe(Grow(), passes=0, recut=0.5, recut_blur_mm=blur)
        mask = MetaTensor(torch.from_numpy(slab), affine=np.diag([spacing] * 3 + [1.0]))
        graded = recipe.refine(mask, probability=torch.from_numpy(soft))
        assert np.array_equal(graded > 0, slab[0] > 0) == same


def test_a_negative_blur_is_told():
    with pytest.raises(InputError, match="recut_blur_mm"):
        RefineRecipe(Grow(), recut=0.5, recut_blur_mm=-1.0)


def test_without_probability_nothing_is_cut_anew():
    source = MetaTensor(torch.from_numpy((label_map() == 3).astype(np.uint8)), affine=np.eye(4))
    graded = RefineRecipe(Grow(), passes=0, recut=0.1).refine(source)
    np.testing.assert_array_equal(graded > 0, label_map()[0] == 3)


@pytest.mark.parametrize("recut", [0.0, 1, {"heart": 1.5}])
def test_an_impossible_recut_is_told(recut):
    with pytest.raises(InputError, match="recut"):
        RefineRecipe(Grow(), recut=recut)


def test_dictionary_version_takes_probabilities(tmp_path):
    recipe = RefineRecipe(Told(), preprocessing=[lambda d: {**d, "image": d["probability"] * 20 - 10}])
    soft = np.stack([np.zeros(SHAPE)] * 4).astype(np.float32)
    soft[3][ball((5, 5, 5), 3)] = 1
    data = {"pred": label_map(), "soft": soft}
    out = SparseRefined("pred", network=recipe, labels=3, probability_key="soft", gate=None, spacing=1.0)(
        data
    )["pred"]
    free = ~np.isin(label_map()[0], (7, 9))
    np.testing.assert_array_equal(out[0] == 3, ball((5, 5, 5), 3) & free)


def test_an_image_that_lies_elsewhere_is_refused():
    mask = MetaTensor(torch.ones(1, 8, 8, 8, dtype=torch.uint8), affine=np.diag([1.0, 1, 2, 1]))
    image = MetaTensor(torch.zeros(1, 8, 8, 8), affine=np.diag([-1.0, 1, 2, 1]))
    with pytest.raises(InputError, match="mask and image have one shape, but their affines"):
        SparseRefine(network=Grow())(mask, image)


def test_keep_input_keeps_what_the_preparation_lets_go():
    source = np.zeros((1, *SHAPE), np.uint8)
    source[0, 1:7, 1:7, 1:7] = source[0, 10, 10, 8] = 1
    recipe = RefineRecipe(Grow(), prepare=KeepMajorComponents(fraction=0.5), keep_input=True)
    out = SparseRefine(network=recipe, gate=None)(MetaTensor(source, affine=np.eye(4)))
    assert bool((out.numpy()[source > 0] == 1).all()) and out.sum() > source.sum()


def test_a_misspelt_label_of_an_option_is_told():
    recipe = RefineRecipe(Grow(), labels=["heart", "aorta"])
    with pytest.raises(InputError, match=r"gate min_dice has the labels \['hart'\]; there are aorta, heart"):
        SparseRefine(network=recipe, labels={"heart": 1}, gate={"min_dice": {"hart": 0.9, "aorta": 0.8}})
    SparseRefine(network=recipe, labels={"heart": 1}, gate={"min_dice": {"heart": 0.9, "aorta": 0.8}})
    for options in ({"passes": {"hart": 2}}, {"recut": {"hart": 0.4}}, {"clean": {"hart": None}}):
        with pytest.raises(InputError, match=r"has the labels \['hart'\]; the recipe's are heart, aorta"):
            RefineRecipe(Grow(), labels=["heart", "aorta"], **options)
