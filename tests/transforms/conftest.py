"""What tests of several transforms share."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, Orientationd

from monai_sparse_refine.transforms import CropHeadd, InterpolateVaultd, MirrorImaged, ResampleToSpacingd


@pytest.fixture
def assert_takes_guesses(monkeypatch) -> Callable[..., None]:
    """Check that a step that adjusts probabilities takes the guesses made for a network, and makes them without."""

    def check(step: Any, maker: Any, probability: MetaTensor, skull: MetaTensor, **options: Any) -> None:
        data = {"skull": skull, "pred": probability, "guesses": _guesses(skull, spacing=2.0)}
        expected = torch.as_tensor(step("pred", "skull", **options)(data)["pred"])
        assert not torch.equal(expected, torch.as_tensor(probability))

        def refuse(*args: Any) -> None:
            raise AssertionError("made again")

        monkeypatch.setattr(maker, "__call__", refuse)
        shared = step("pred", "skull", guesses_key="guesses", **options)
        torch.testing.assert_close(torch.as_tensor(shared(data)["pred"]), expected)
        del data["guesses"]
        with pytest.raises(AssertionError, match="made again"):
            shared(data)

    return check


def _guesses(skull: MetaTensor, *, spacing: float) -> MetaTensor:
    """Skull, mirror image and interpolated vault [3, X', Y', Z'], as a bundle makes them for its network."""
    steps = [
        CropHeadd("image"),
        Orientationd("image", axcodes="RAS", labels=None),
        ResampleToSpacingd("image", spacing, threshold=None),
        MirrorImaged("image", append=True, threshold=None, register=True),
        InterpolateVaultd("image", append=True),
    ]
    return Compose(steps)({"image": skull.clone()})["image"]
