"""Trained networks as completion methods, with a bundle's own configuration around them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.transforms import Compose

from monai_sparse_refine.data import load_weights

# Steps of the configuration that read and write files, which a benchmark does not.
FILE_STEPS = ("LoadImaged", "SaveMaskd", "ToBinaryMaskd")
Definition = dict[str, Any]


def as_it_is(definition: Definition) -> Definition:
    """The bundle's own network."""
    return definition


def dense_twin(definition: Definition) -> Definition:
    """The network on every voxel, with the same channels."""
    same: Definition = {name: definition[name] for name in ("in_channels", "channels") if name in definition}
    return {"_target_": "monai_sparse_refine.networks.DenseTwin", **same}


def paper_recipe(definition: Definition) -> Definition:
    """The reference network, which sees no mirror image."""
    same: Definition = {name: definition[name] for name in ("engine", "max_voxels") if name in definition}
    target = "monai_sparse_refine.networks.MaskRefiner"
    return {"_target_": target, "in_channels": 1, "channels": "ch1", **same}


class BundleMethod:
    """Complete skulls as a bundle's ``inference.json`` does, from its working grid to its postprocessing.

    Args:
        bundle: folder of the bundle.
        weights: state dict to load; None takes the bundle's own.
        network: from the bundle's definition of the network to that of the one to score.
        overrides: other entries of the configuration, by id.
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
            # A network of one channel sees no mirror image.
            kept = [
                item
                for item in parser[f"{step}#transforms"]
                if not item["_target_"].endswith(FILE_STEPS)
                and not (channels == 1 and item["_target_"].endswith("MirrorImaged"))
            ]
            parser[f"{step}#transforms"] = kept
        parser.parse()
        self.device = torch.device(device)
        file = Path(bundle) / "models" / "model.pt" if weights is None else weights
        loaded = load_weights(parser.get_parsed_content("network_def"), file)
        self.network = loaded.to(self.device).eval()
        self.before: Compose = parser.get_parsed_content("preprocessing")
        self.after: Compose = parser.get_parsed_content("postprocessing")

    def __call__(self, defective: MetaTensor) -> MetaTensor:
        """Implant of a defective skull, uint8 [1, X, Y, Z]."""
        item = self.before({"image": defective.clone()})
        with torch.no_grad():
            logits = self.network(item["image"].as_tensor()[None].float().to(self.device)).cpu()
        # The evaluator leaves the prediction with the image's metadata, which the way back is read from.
        item["pred"] = MetaTensor(logits[0], meta=item["image"].meta)
        item["pred"].applied_operations = item["image"].applied_operations
        return self.after(item)["implant"]
