import pytest
import torch

from monai_sparse_refine.errors import InputError
from monai_sparse_refine.networks import MaskRefiner, MaskSuperResolver
from monai_sparse_refine.training import warm_start

SMALL = [4, 4, 6]


def _ball() -> torch.Tensor:
    axes = torch.meshgrid(*[torch.arange(16) - 7.5] * 3, indexing="ij")
    return (sum(a**2 for a in axes).sqrt() < 6).float()[None, None]


def test_new_inputs_and_new_layers_change_nothing_at_first(tmp_path, capsys):
    torch.manual_seed(0)
    old = MaskRefiner(channels=SMALL, head_bias=1.0, engine="native").eval()
    torch.save(old.state_dict(), tmp_path / "old.pt")
    new = MaskRefiner(in_channels=3, channels=SMALL, fuse=True, engine="native")
    warm_start(new, tmp_path / "old.pt").eval()
    ball = _ball()
    torch.testing.assert_close(new(torch.cat([ball, ball, ball], dim=1)), old(ball))
    assert "stem.0.kernel" in capsys.readouterr().out


def test_a_wider_network_starts_as_the_narrow_one(tmp_path):
    torch.manual_seed(0)
    old = MaskSuperResolver(channels=(4, 6), step_channels=(6, 4), engine="native").eval()
    for step in old.growth:
        torch.nn.init.normal_(step.head.kernel)
    torch.save(old.state_dict(), tmp_path / "narrow.pt")
    new = MaskSuperResolver(channels=(6, 9), step_channels=(8, 5), engine="native")
    warm_start(new, tmp_path / "narrow.pt").eval()
    torch.testing.assert_close(new(_ball(), steps=2), old(_ball(), steps=2))
    new(_ball(), _ball().repeat_interleave(2, 2).repeat_interleave(2, 3).repeat_interleave(2, 4)).levels[
        0
    ].logits.sum().backward()
    assert new.growth[0].head.kernel.grad[6:].abs().sum() > 0  # what is new can learn


def test_weights_that_do_not_fit_are_told(tmp_path):
    torch.save(MaskRefiner(in_channels=2, channels=SMALL, engine="native").state_dict(), tmp_path / "two.pt")
    with pytest.raises(InputError, match="do not fit"):
        warm_start(MaskRefiner(channels=SMALL, engine="native"), tmp_path / "two.pt")
    with pytest.raises(InputError, match="another network"):
        warm_start(torch.nn.Linear(2, 2), tmp_path / "two.pt")
    with pytest.raises(InputError, match="no such file"):
        warm_start(torch.nn.Linear(2, 2), tmp_path / "none.pt")
    (tmp_path / "text.pt").write_text("weights")
    with pytest.raises(InputError, match="cannot be loaded safely"):
        warm_start(torch.nn.Linear(2, 2), tmp_path / "text.pt")


def test_a_checkpoint_of_the_best_weights_will_do(tmp_path):
    old, new = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    torch.save({"model": old.state_dict(), "metric": 0.9}, tmp_path / "best.pt")
    torch.testing.assert_close(warm_start(new, tmp_path / "best.pt").weight, old.weight, rtol=0, atol=0)
