"""Trained networks as completion methods, with a bundle's own configuration around them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.transforms import Compose

from monai_sparse_refine.data import load_weights

# Steps of the configuration that read and write files, which a benchmark does not.
FILE_STEPS = ("LoadImaged", "SaveMaskd", "ToBinaryMaskd")
TWIN = {
    "network_def#_target_": "monai_sparse_refine.networks.DenseTwin",
    "network_def#max_voxels": None,
    "network_def#engine": None,
}


class BundleMethod:
    """Complete skulls as a bundle's ``inference.json`` does, from its working grid to its postprocessing.

    Args:
        bundle: folder of the bundle.
        weights: state dict to load; None takes the bundle's own.
        overrides: entries of the configuration by id; None removes one.
        device: where to run.
        engine: "auto", "native" or "minkowski".
    """

    def __init__(
        self,
        bundle: str | Path,
        *,
        weights: str | Path | None = None,
        overrides: Mapping[str, Any] | None = None,
        device: str | torch.device = "cpu",
        engine: str = "auto",
    ) -> None:
        parser = ConfigParser()
        parser.read_config(str(Path(bundle) / "configs" / "inference.json"))
        parser["bundle_root"] = str(bundle)
        parser["engine"] = engine
        for name, value in (overrides or {}).items():
            if value is None:
                parent, _, entry = name.rpartition("#")
                parser[parent].pop(entry, None)
            else:
                parser[name] = value
        parser["network_def"] = {k: v for k, v in parser["network_def"].items() if v is not None}
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
        network = load_weights(parser.get_parsed_content("network_def"), file)
        self.network = network.to(self.device).eval()
        self.before: Compose = parser.get_parsed_content("preprocessing")
        self.after: Compose = parser.get_parsed_content("postprocessing")
        self.parameters = sum(p.numel() for p in network.parameters())

    def __call__(self, defective: MetaTensor) -> MetaTensor:
        """Implant of a defective skull, uint8 [1, X, Y, Z]."""
        item = self.before({"image": defective.clone()})
        with torch.no_grad():
            logits = self.network(item["image"].as_tensor()[None].float().to(self.device)).cpu()
        # The evaluator leaves the prediction with the image's metadata, which the way back is read from.
        item["pred"] = MetaTensor(logits[0], meta=item["image"].meta)
        item["pred"].applied_operations = item["image"].applied_operations
        return self.after(item)["implant"]
