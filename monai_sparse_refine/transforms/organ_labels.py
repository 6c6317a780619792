"""The label map of a dense network's probabilities, its organs prepared as before a refinement."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from monai.utils import TransformBackends

from monai_sparse_refine.transforms.organ_features import ORGANS
from monai_sparse_refine.transforms.refine_recipe import by_label

__all__ = ["OrganLabelsD", "OrganLabelsDict", "OrganLabelsd"]


class OrganLabelsd(MapTransform):
    """Make a label map of class probabilities: the class with the highest, then each organ prepared.

    Args:
        keys: key of the probabilities, MetaTensor [1 + organs, X, Y, Z].
        labels_key: key of the result, uint8 MetaTensor [1, X, Y, Z].
        prepare: what a :class:`monai_sparse_refine.transforms.RefineRecipe` does to a mask before it refines it.
        organs: names in the order of the classes after the background.
        allow_missing_keys: do not raise where a key is missing.
    """

    backend = [TransformBackends.TORCH]

    def __init__(
        self,
        keys: KeysCollection,
        *,
        labels_key: Hashable = "dense",
        prepare: Callable[[Any], Any] | Mapping[str, Callable[[Any], Any]] | None = None,
        organs: Sequence[str] = ORGANS,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.labels_key = labels_key
        self.prepare = prepare
        self.organs = tuple(organs)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Add the label map of the probabilities in a dictionary."""
        d = dict(data)
        for key in self.key_iterator(d):
            source = d[key]
            chosen = source.as_tensor().argmax(0, keepdim=True)
            out = torch.zeros_like(chosen, dtype=torch.uint8)
            for number, organ in enumerate(self.organs, start=1):
                mask = MetaTensor((chosen == number).to(torch.uint8), affine=source.affine)
                step = by_label(self.prepare, organ)
                out[(mask if step is None else step(mask)).as_tensor() > 0] = number
            d[self.labels_key] = MetaTensor(out, affine=source.affine)
        return d


OrganLabelsD = OrganLabelsDict = OrganLabelsd
