from __future__ import annotations

import pytest
import torch
from torch import nn

from monai_sparse_refine.data.weights import load_weights, read_weights
from monai_sparse_refine.errors import InputError


def network(channels: int = 3) -> nn.Sequential:
    return nn.Sequential(nn.Linear(2, channels), nn.BatchNorm1d(channels), nn.Linear(channels, 1))


@pytest.mark.parametrize("wrap", [dict, lambda state: {"model": state, "epoch": 3}])
def test_a_state_dict_or_a_checkpoint_loads(tmp_path, wrap):
    trained = network()
    torch.save(wrap(trained.state_dict()), tmp_path / "model.pt")
    fresh = network()
    assert load_weights(fresh, tmp_path / "model.pt") is fresh
    for name, value in trained.state_dict().items():
        assert torch.equal(fresh.state_dict()[name], value), name


def test_names_of_a_distributed_wrapper_are_understood(tmp_path, monkeypatch):
    trained = network()
    monkeypatch.setenv("HOME", str(tmp_path))
    torch.save({f"module.{k}": v for k, v in trained.state_dict().items()}, tmp_path / "model.pt")
    assert torch.equal(load_weights(network(), "~/model.pt")[0].weight, trained[0].weight)


def test_missing_and_misplaced_files(tmp_path):
    with pytest.raises(InputError, match=r"nothing\.pt: no such file"):
        read_weights(tmp_path / "nothing.pt")
    with pytest.raises(InputError, match="is a folder"):
        read_weights(tmp_path)
    (tmp_path / "model.pt").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\n")
    with pytest.raises(InputError, match="git lfs pull"):
        read_weights(tmp_path / "model.pt")


@pytest.mark.parametrize("keep", [0, 1, 100, -200])
def test_truncated_files_are_one_clear_line(tmp_path, keep):
    file = tmp_path / "model.pt"
    torch.save(network().state_dict(), file)
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(InputError, match=r"model\.pt: cannot be") as caught:
        read_weights(file)
    assert "\n" not in str(caught.value)


def test_garbage_and_code_are_refused(tmp_path):
    file = tmp_path / "model.pt"
    file.write_bytes(bytes(range(256)) * 10)
    with pytest.raises(InputError, match="cannot be"):
        read_weights(file)
    torch.save(network(), file)  # a pickled module would run code
    with pytest.raises(InputError, match="cannot be loaded safely"):
        read_weights(file)


@pytest.mark.parametrize(
    ("content", "message"),
    [([1, 2], "holds a list"), ({}, "an empty dict"), ({"epoch": 3, "lr": 0.1}, "keys epoch, lr")],
)
def test_other_content_is_described(tmp_path, content, message):
    torch.save(content, tmp_path / "model.pt")
    with pytest.raises(InputError, match=message):
        read_weights(tmp_path / "model.pt")


def test_a_diverged_checkpoint_is_refused(tmp_path):
    state = network().state_dict()
    state["0.bias"][1] = float("nan")
    torch.save(state, tmp_path / "model.pt")
    with pytest.raises(InputError, match=r"NaN or infinity in 0\.bias"):
        read_weights(tmp_path / "model.pt")


def test_other_shapes_and_names_are_named_and_change_nothing(tmp_path):
    torch.save(network(4).state_dict(), tmp_path / "wide.pt")
    fresh = network()
    before = {k: v.clone() for k, v in fresh.state_dict().items()}
    with pytest.raises(InputError, match=r"do not fit Sequential: .*0\.weight \(4, 2\) instead of \(3, 2\)"):
        load_weights(fresh, tmp_path / "wide.pt")
    with pytest.raises(InputError, match="of another shape"):
        load_weights(fresh, tmp_path / "wide.pt", strict=False)
    state = network().state_dict()
    state["head.weight"] = state.pop("2.weight")
    torch.save(state, tmp_path / "renamed.pt")
    with pytest.raises(InputError, match=r"1 missing \(2\.weight\); 1 unknown \(head\.weight\)"):
        load_weights(fresh, tmp_path / "renamed.pt")
    assert all(torch.equal(v, before[k]) for k, v in fresh.state_dict().items())


def test_without_strict_what_fits_is_loaded_but_never_nothing(tmp_path):
    trained = network()
    state = trained.state_dict()
    state["extra"] = state.pop("2.bias")
    torch.save(state, tmp_path / "part.pt")
    assert torch.equal(
        load_weights(network(), tmp_path / "part.pt", strict=False)[0].weight, trained[0].weight
    )
    torch.save({"other": torch.zeros(1)}, tmp_path / "none.pt")
    with pytest.raises(InputError, match=r"9 missing \(0\.weight"):
        load_weights(network(), tmp_path / "none.pt", strict=False)
