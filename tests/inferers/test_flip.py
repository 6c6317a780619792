import torch

from monai_sparse_refine.inferers import FlipAverageInferer


def _ramp(x: torch.Tensor) -> torch.Tensor:
    """Logits that depend on the place along the first spatial axis."""
    ramp = torch.linspace(-2, 2, x.shape[2]).view(1, 1, -1, 1, 1)
    return x[:, :1] + ramp


def test_probabilities_are_averaged_over_the_flip():
    x = torch.randn(2, 2, 6, 4, 4)
    plain, flipped = _ramp(x), _ramp(x.flip(2)).flip(2)
    out = FlipAverageInferer()(x, _ramp)
    torch.testing.assert_close(out.sigmoid(), (plain.sigmoid() + flipped.sigmoid()) / 2)
    torch.testing.assert_close(FlipAverageInferer()(x.flip(2), _ramp), out.flip(2))


def test_a_voxel_that_one_run_did_not_consider_counts_half():
    def network(x: torch.Tensor) -> torch.Tensor:
        out = torch.full_like(x, -20.0)
        out[:, :, :3] = 20.0
        return out

    out = FlipAverageInferer()(torch.zeros(1, 1, 6, 2, 2), network)
    torch.testing.assert_close(out.sigmoid(), torch.full_like(out, 0.5))


def test_without_axes_it_is_the_network():
    x = torch.randn(1, 1, 6, 4, 4)
    torch.testing.assert_close(FlipAverageInferer(())(x, _ramp), _ramp(x))


def test_half_precision_stays_finite():
    logits = FlipAverageInferer()(torch.zeros(1, 1, 2, 2, 2), lambda x: torch.full_like(x, -40.0).half())
    assert torch.isfinite(logits).all() and logits.max() < -10
