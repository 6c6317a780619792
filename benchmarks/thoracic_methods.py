"""Rows of the thoracic table: the dense UNet, classical repair, a dense refiner of equal size, the bundle."""

from __future__ import annotations

import copy
import gc
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.networks.utils import eval_mode
from monai.transforms import Invertd
from torch import Tensor, nn

from monai_sparse_refine.data import load_weights, read_weights
from monai_sparse_refine.networks import DenseTwin
from monai_sparse_refine.transforms import (
    KeepMajorComponents,
    RefineRecipe,
    SparseRefine,
)

__all__ = ["ORGANS", "Cost", "DenseUNet", "classical", "dense_twin", "measured", "refiner", "unet_settings"]

ORGANS = {"esophagus": 1, "heart": 2, "trachea": 3, "aorta": 4}
Result = TypeVar("Result")


class Cost(NamedTuple):
    """Seconds, and GB that the process held at most above what it held at the start."""

    seconds: float
    peak_gb: float


def measured(work: Callable[[], Result]) -> tuple[Result, Cost]:
    """Run something, and watch the process's memory every 5 ms."""
    gc.collect()  # what earlier work left behind must not be freed meanwhile: it would hide what this work takes
    done = threading.Event()
    base = _resident()
    peak = [base]

    def watch() -> None:
        while not done.wait(0.005):
            peak[0] = max(peak[0], _resident())

    watcher = threading.Thread(target=watch)
    watcher.start()
    started = time.perf_counter()
    try:
        result = work()
    finally:
        seconds = time.perf_counter() - started
        peak[0] = max(peak[0], _resident())
        done.set()
        watcher.join()
    return result, Cost(seconds, (peak[0] - base) / 1e9)


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


class DenseUNet:
    """The bundle's dense UNet as its inference configuration runs it.

    Args:
        bundle: the bundle's folder.
        weights: state dict; None for the bundle's own.
        device: where it runs.
    """

    def __init__(self, bundle: Path, *, weights: Path | None, device: str) -> None:
        parser = ConfigParser()
        parser.read_config(bundle / "configs" / "inference.json")
        parser["bundle_root"] = str(bundle)
        self.preprocessing = parser.get_parsed_content("preprocessing")
        self.inferer = parser.get_parsed_content("inferer")
        own = parser.get_parsed_content("dense_weights") if weights is None else weights
        self.network = load_weights(parser.get_parsed_content("network_def"), own).to(device)
        self.device = device

    def __call__(self, image: str) -> dict[str, Any]:
        """Predict: "ct" on its own grid, "probability" there, "labels", "coarse" (working grid), and the costs."""
        data, reading = measured(lambda: self.preprocessing({"image": image}))

        def predict() -> MetaTensor:
            with eval_mode(self.network):
                logits = self.inferer(data["image"][None].to(self.device), self.network)
            return MetaTensor(logits[0].softmax(0).cpu(), meta=data["image"].meta)

        soft, network = measured(predict)
        linear, inverting = measured(lambda: self._back(soft, data, nearest=False))
        labels, choosing = measured(lambda: linear.argmax(0, keepdim=True).to(torch.uint8))
        coarse = soft.argmax(0, keepdim=True).to(torch.uint8)
        stages = (reading, network, inverting, choosing)
        return {
            "ct": data["ct"],
            "probability": linear,
            "labels": labels,
            "nearest": self._back(coarse.float(), data, nearest=True).to(torch.uint8),
            "coarse": MetaTensor(coarse, affine=data["image"].affine),
            "network_seconds": network.seconds,
            "cost": Cost(sum(stage.seconds for stage in stages), max(stage.peak_gb for stage in stages)),
        }

    def _back(self, volume: torch.Tensor, data: dict[str, Any], *, nearest: bool) -> MetaTensor:
        """To the CT's grid, as the bundle's postprocessing does it."""
        invert = Invertd("pred", transform=self.preprocessing, orig_keys="image", nearest_interp=nearest)
        plain = volume.as_tensor() if isinstance(volume, MetaTensor) else volume
        item: dict[Any, Any] = {**data, "pred": MetaTensor(plain, meta=data["image"].meta)}
        result: Any = invert(item)["pred"]
        return result


def classical(labels: MetaTensor) -> MetaTensor:
    """Largest component and hole filling, organ by organ."""
    clean = KeepMajorComponents(fraction=1.0)
    out = torch.zeros_like(labels.as_tensor())
    for number in ORGANS.values():
        out[clean((labels.as_tensor() == number).to(torch.uint8)) > 0] = number
    return MetaTensor(out, meta=labels.meta)


def refiner(recipe: RefineRecipe, bundle: Path | None) -> SparseRefine:
    """A recipe behind the label preset of SegTHOR, with the bounds of the gate of a bundle's inference or the usual."""
    if bundle is None:
        return SparseRefine(network=recipe, label_preset="segthor")
    parser = ConfigParser()
    parser.read_config(bundle / "configs" / "inference.json")
    return SparseRefine(network=recipe, label_preset="segthor", gate=parser.get_parsed_content("gate"))


def unet_settings(bundle: Path) -> dict[str, Any]:
    """What the bundle's inference does to its own UNet's masks, and with what, unlike to those of another network."""
    parser = ConfigParser()
    parser.read_config(bundle / "configs" / "inference.json")
    parser["bundle_root"] = str(bundle)
    names = ("weights", "passes", "recut", "recut_blur_mm", "heart_neck_mm")
    return {name: parser.get_parsed_content(name) for name in names}


def dense_twin(recipe: RefineRecipe, weights: Path | str, *, device: str) -> RefineRecipe:
    """The same recipe with a dense network of the same layers, channels and inputs.

    Weights from before the last channels of the features were there do without them: the network never sees those.
    """
    sparse: Any = recipe.network
    known = read_weights(weights)["stem.0.weight"].shape[1]
    network = DenseTwin(
        in_channels=known,
        channels=sparse.network.channels,
        deepest_kernel=2,
        residual_channel=sparse.residual_channel,
    )
    twin = copy.copy(recipe)
    # The recipe's own were chosen for its network; on a validation patient this one does better with the usual ones.
    twin.threshold, twin.hysteresis = (0.5, 0.5), (0.0, 0.0)
    twin.network = FirstChannels(load_weights(network, weights), known).to(device).eval()
    return twin


class FirstChannels(nn.Module):
    """A network that gets the first channels of its input [B, C, *spatial] alone."""

    def __init__(self, network: nn.Module, channels: int) -> None:
        super().__init__()
        self.network, self.channels = network, channels

    def forward(self, x: Tensor) -> Any:
        """What the network makes of them."""
        return self.network(x[:, : self.channels])
