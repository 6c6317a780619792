"""Trained networks as completion methods, with a bundle's own configuration around them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.inferers import Inferer
from monai.transforms import Compose
from torch import Tensor, nn

# Steps of the configuration that read and write files, which a benchmark does not.
FILE_STEPS = ("LoadImaged", "SaveMaskd", "ToBinaryMaskd")
# Steps that make the channels beside the skull itself, or take them to the network.
GUESSES = ("MirrorImaged", "InterpolateVaultd", "AverageGridsd")
Definition = dict[str, Any]


def as_it_is(definition: Definition) -> Definition:
    """The bundle's own network."""
    return definition


def dense_twin(definition: Definition) -> Definition:
    """The network on every voxel, with the same channels."""
    same: Definition = {
        name: definition[name]
        for name in ("in_channels", "channels", "active_threshold", "fuse")
        if name in definition
    }
    return {"_target_": "monai_sparse_refine.networks.DenseTwin", **same}


def paper_recipe(definition: Definition) -> Definition:
    """The reference network, which sees the skull alone, as a binary mask."""
    same: Definition = {name: definition[name] for name in ("engine", "max_voxels") if name in definition}
    target = "monai_sparse_refine.networks.MaskRefiner"
    return {"_target_": target, "in_channels": 1, "channels": "ch1", **same}


def paper_recipe_pruned_less(definition: Definition) -> Definition:
    """The reference network, which prunes no more than the bundle's: at 0 a short training leaves it little."""
    return {**paper_recipe(definition), "keep_threshold": definition["keep_threshold"]}


class BundleMethod:
    """Complete skulls as a bundle's ``inference.json`` does, from its working grid to its postprocessing.

    Args:
        bundle: folder of the bundle.
        weights: state dict to load; None takes the bundle's own.
        network: from the bundle's definition of the network to that of the one to score.
        overrides: other entries of the configuration, by id.
        silent: channels of the network's input to set to 0.
        device: where to run.
        engine: "auto", "native" or "minkowski".
    """

    def __init__(
        self,
        bundle: str | Path,
        *,
        weights: str | Path | None = None,
        network: Callable[[Definition], Definition] = as_it_is,
        overrides: Mapping[str, Any] | None = None,
        silent: Sequence[int] = (),
        device: str | torch.device = "cpu",
        engine: str = "auto",
    ) -> None:
        parser = ConfigParser()
        parser.read_config(str(Path(bundle) / "configs" / "inference.json"))
        parser["bundle_root"] = str(bundle)
        parser["engine"] = engine
        for name, value in (overrides or {}).items():
            parser[name] = value
        parser["network_def"] = network(parser["network_def"])
        channels = int(parser["network_def"].get("in_channels", 1))
        for step in ("preprocessing", "postprocessing"):
            parser[f"{step}#transforms"] = _steps(parser[f"{step}#transforms"], channels)
        self.device = torch.device(device)
        parser["device"] = self.device
        parser["weights"] = str(Path(bundle) / "models" / "model.pt" if weights is None else weights)
        parser.parse()
        self.network = parser.get_parsed_content("network").eval()
        if silent:
            self.network.register_forward_pre_hook(_silenced(silent))
        self.inferer: Inferer = parser.get_parsed_content("inferer")
        self.before: Compose = parser.get_parsed_content("preprocessing")
        self.after: Compose = parser.get_parsed_content("postprocessing")

    def __call__(self, defective: MetaTensor) -> MetaTensor:
        """Implant of a defective skull, uint8 [1, X, Y, Z]."""
        item = self.before({"image": defective.clone()})
        given = item["image"].as_tensor()[None].float().to(self.device)  # (1, C, X, Y, Z)
        with torch.no_grad():
            logits = self.inferer(given, self.network).cpu()
        # The evaluator leaves the prediction with the image's metadata, which the way back is read from.
        item["pred"] = MetaTensor(logits[0], meta=item["image"].meta)
        item["pred"].applied_operations = item["image"].applied_operations
        return self.after(item)["implant"]


def _silenced(channels: Sequence[int]) -> Callable[[nn.Module, tuple[Tensor, ...]], tuple[Tensor, ...]]:
    """A hook that has a network see 0 in these channels, whoever runs it."""

    def hook(_: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        image = given[0].clone()
        image[:, list(channels)] = 0
        return (image, *given[1:])

    return hook


def _steps(items: Sequence[Definition], channels: int) -> list[Definition]:
    """The steps that a network of so many input channels needs, but those that read and write files."""
    kept = [item for item in items if not item["_target_"].endswith(FILE_STEPS)]
    if channels > 1:
        return kept
    # The reference network takes a binary mask, and nothing beside it.
    kept = [
        item for item in kept if not item["_target_"].endswith(GUESSES) and item.get("names") != "guesses"
    ]
    return [
        {name: value for name, value in item.items() if (name, value) != ("threshold", None)} for item in kept
    ]
