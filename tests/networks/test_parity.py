"""The same weights on both engines give the same voxels, logits and gradients, for the whole network."""

from pathlib import Path
from types import ModuleType

import monai.transforms as mt
import pytest
import torch

from monai_sparse_refine.engine import get_engine
from monai_sparse_refine.losses import LevelwiseGenerativeLoss
from monai_sparse_refine.networks import SparseGenerativeUNet, SparsePrediction
from monai_sparse_refine.networks.mask_refiner import active_coordinates
from monai_sparse_refine.transforms.cranial_defect import RandCranialDefect
from monai_sparse_refine.transforms.resample import ResampleToSpacing

TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}
GRADIENT_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-3}


def _run(
    engine: str, state: dict, rows: torch.Tensor, target: torch.Tensor | None, bounds, dtype: torch.dtype
):
    network = SparseGenerativeUNet(channels="ch1", engine=engine).to(dtype)
    network.load_state_dict(state)
    network.train(target is not None)
    features = torch.ones(len(rows), 1, dtype=dtype, requires_grad=True)
    sparse = get_engine(engine).SparseTensor(features=features, coordinates=rows.int().contiguous())
    levels = network(sparse, bounds=bounds, target=target)
    gradients = {}
    if target is not None:
        LevelwiseGenerativeLoss()(SparsePrediction(levels)).backward()
        gradients = {name: parameter.grad for name, parameter in network.named_parameters()}
        # Rows may be reordered by an engine, so gradients to the input compare by their multiset.
        gradients["input"] = features.grad.flatten().sort().values
    return [_sorted(level) for level in levels], gradients


def _sorted(level) -> tuple[torch.Tensor, torch.Tensor]:
    rows = level.coordinates.long()
    low = rows.amin(0) if len(rows) else rows.new_zeros(rows.shape[1])
    key = torch.zeros(len(rows), dtype=torch.int64)
    for column in (rows - low).unbind(1):
        key = key * 4096 + column
    order = key.argsort()
    return rows[order], level.logits.detach()[order]


def _state(dtype: torch.dtype, *, bias: float) -> dict:
    torch.manual_seed(0)
    network = SparseGenerativeUNet(channels="ch1", head_bias=bias, engine="native").to(dtype)
    return network.state_dict()


def _compare(rows, target, bounds, dtype, bias) -> int:
    state = _state(dtype, bias=bias)
    (ours, our_gradients), (theirs, their_gradients) = (
        _run(engine, state, rows, target, bounds, dtype) for engine in ("native", "minkowski")
    )
    assert len(ours) == len(theirs) == 6
    for (our_rows, our_logits), (their_rows, their_logits) in zip(ours, theirs, strict=True):
        assert torch.equal(our_rows, their_rows)
        scale = max(1.0, float(their_logits.abs().max())) if len(their_logits) else 1.0
        torch.testing.assert_close(our_logits, their_logits, atol=TOLERANCE[dtype] * scale, rtol=0)
    assert set(our_gradients) == set(their_gradients)
    exact = their_gradients
    if our_gradients and dtype == torch.float32:
        # Rounding flips a ReLU here and there, which moves a gradient by the share of one voxel; so float32
        # gradients are held against float64 ones, with room for that.
        double = {
            name: value.double() if value.is_floating_point() else value for name, value in state.items()
        }
        exact = _run("minkowski", double, rows, target, bounds, torch.float64)[1]
    for name, gradient in our_gradients.items():
        truth = exact[name].to(torch.float64)
        scale = max(1.0, float(truth.abs().max()))
        theirs_off = float((their_gradients[name] - truth).abs().max())
        ours_off = float((gradient - truth).abs().max())
        assert ours_off <= GRADIENT_TOLERANCE[dtype] * scale + 2 * theirs_off, name
    return len(ours[-1][0])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("training", [True, False])
def test_random_tensors(minkowski: ModuleType, dtype, training):
    generator = torch.Generator().manual_seed(3)
    shape = (2, 1, 40, 33, 38)
    mask = (torch.rand(*shape, generator=generator) > 0.97).float()
    target = (torch.rand(*shape, generator=generator) > 0.97).float()
    count = _compare(
        active_coordinates(mask),
        active_coordinates(target) if training else None,
        shape[2:],
        dtype,
        bias=-0.1 if training else 1.0,
    )
    assert count > int(mask.sum())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("training", [True, False])
def test_real_skull(minkowski: ModuleType, shared_data: Path, dtype, training):
    load = mt.Compose(
        [mt.LoadImage(ensure_channel_first=True), mt.Orientation("RAS", labels=None), ResampleToSpacing(4.0)]
    )
    skull = load(shared_data / "skull_masks" / "invesalius_cranium_skull.nii.gz")
    cut = RandCranialDefect(kinds=("bilateral",))
    cut.set_random_state(0)
    defective = cut(skull).as_tensor()[None]
    complete = skull.as_tensor()[None]
    count = _compare(
        active_coordinates(defective),
        active_coordinates(complete) if training else None,
        tuple(defective.shape[2:]),
        dtype,
        bias=-1.0 if training else 1.0,
    )
    assert count >= int(defective.sum())
