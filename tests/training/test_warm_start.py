import pytest
import torch

from monai_sparse_refine.errors import InputError
from monai_sparse_refine.networks import MaskRefiner
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


def test_weights_that_do_not_fit_are_told(tmp_path):
    torch.save(MaskRefiner(in_channels=2, channels=SMALL, engine="native").state_dict(), tmp_path / "two.pt")
    with pytest.raises(InputError, match="do not fit"):
        warm_start(MaskRefiner(channels=SMALL, engine="native"), tmp_path / "two.pt")
    with pytest.raises(InputError, match="another network"):
        warm_start(torch.nn.Linear(2, 2), tmp_path / "two.pt")
    with pytest.raises(InputError, match="cannot be read"):
        warm_start(torch.nn.Linear(2, 2), tmp_path / "none.pt")
