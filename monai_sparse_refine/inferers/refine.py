"""A dense network's prediction, refined before anything else sees it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from monai.data import MetaTensor
from monai.inferers import Inferer, SimpleInferer
from torch import Tensor

from monai_sparse_refine.errors import InputError
from monai_sparse_refine.transforms import SparseRefine

__all__ = ["RefineInferer"]


class RefineInferer(Inferer):
    """Run a dense network through any inferer, then refine the labels of its prediction.

    The result has the shape and meaning of the dense network's own, so that the evaluator's postprocessing stays
    as it is: values change only where the label does. There the new label's channel gets the highest value and
    the old label's the one that the new label had; a single channel is turned to the other side of its threshold.

    The grid is that of the network's input. Where this is coarser than the image, ``SparseRefined`` after
    ``Invertd`` refines on the image's own grid instead.

    Args:
        refine: what refines a label map (or, with ``multi_label``, channels of masks).
        inferer: how the dense network is run, such as ``SlidingWindowInferer``; ``SimpleInferer`` by default.
        multi_label: channels are masks of their own (sigmoid), not the classes of one label map (softmax). One
            channel always is. ``refine`` then needs ``has_background=False`` for several channels.
        probabilities: the network's values are probabilities, not logits.
        image_channel: channel of the dense network's input that holds the intensities as the refiner was trained with
            them (HU for the thoracic bundle). None gives it none: what a dense network gets is scaled as a rule, and
            scaled values taken for HU make masks worse.
        pass_probabilities: the refiner also gets the dense network's probabilities (softmax of the logits, sigmoid with
            `multi_label`), for a bundle that starts from them, as `thoracic_organ_refinement` does.
    """

    def __init__(
        self,
        refine: SparseRefine,
        inferer: Inferer | None = None,
        *,
        multi_label: bool = False,
        probabilities: bool = False,
        image_channel: int | None = None,
        pass_probabilities: bool = False,
    ) -> None:
        self.refine = refine
        self.inferer = SimpleInferer() if inferer is None else inferer
        self.multi_label = multi_label
        self.probabilities = probabilities
        self.threshold = 0.5 if probabilities else 0.0
        self.image_channel = image_channel
        self.pass_probabilities = pass_probabilities

    def __call__(self, inputs: Tensor, network: Callable, *args: Any, **kwargs: Any) -> Tensor:
        """Predict and refine.

        Args:
            inputs: batch [B, Cin, X, Y, Z].
            network: dense network, gives [B, C, X, Y, Z].
            args, kwargs: passed on to the inferer.

        Raises:
            InputError: a prediction that is no such tensor, or that needs gradients; an input without `image_channel`.
        """
        prediction = self.inferer(inputs, network, *args, **kwargs)
        if not isinstance(prediction, Tensor) or prediction.ndim != 5:
            got = tuple(prediction.shape) if isinstance(prediction, Tensor) else type(prediction).__name__
            raise InputError(
                f"the dense network returned {got}; RefineInferer needs one tensor [B, C, X, Y, Z]"
            )
        if prediction.requires_grad:
            raise InputError(
                "RefineInferer has no gradients: use it for evaluation (no_grad), not for training"
            )
        items = [self._refine_item(prediction[i], inputs, i) for i in range(len(prediction))]
        out = torch.stack(items)
        return MetaTensor(out, meta=prediction.meta) if isinstance(prediction, MetaTensor) else out

    def _refine_item(self, prediction: Tensor, inputs: Tensor, index: int) -> Tensor:
        values = _plain(prediction)  # (C, X, Y, Z)
        image = None
        if self.image_channel is not None:
            if not 0 <= self.image_channel < inputs.shape[1]:
                raise InputError(
                    f"image_channel is {self.image_channel}; the input has {inputs.shape[1]} channels"
                )
            image = _plain(inputs[index])[self.image_channel][None]
        affine = inputs.affine if isinstance(inputs, MetaTensor) else None
        if affine is not None and affine.ndim == 3:
            affine = affine[index]
        separate = self.multi_label or len(values) == 1
        labels = values > self.threshold if separate else values.argmax(0, keepdim=True)
        mask: Tensor = labels.to(torch.uint8 if separate or len(values) < 256 else torch.int32)
        if affine is not None:
            mask = MetaTensor(mask, affine=affine)
        soft = self._soft(values, separate=separate) if self.pass_probabilities else None
        refined = _plain(self.refine(mask, image, soft)).to(labels.device)
        if separate:
            return self._turn(values, refined != labels)
        return _swap(values, labels.long(), refined.long())

    def _soft(self, values: Tensor, *, separate: bool) -> Tensor:
        """Probabilities, float32 [C, X, Y, Z], of what the dense network returned."""
        if self.probabilities:
            return values.float()
        return values.float().sigmoid() if separate else values.float().softmax(0)

    def _turn(self, values: Tensor, changed: Tensor) -> Tensor:
        """Bring values to the other side of the threshold, as far from it as they were."""
        distance = (values - self.threshold).abs().clamp(min=1e-3)
        return torch.where(
            changed, self.threshold - torch.where(values > self.threshold, 1, -1) * distance, values
        )


def _swap(values: Tensor, old: Tensor, new: Tensor) -> Tensor:
    """Exchange the values of the old and the new label, where they differ; labels are [1, X, Y, Z]."""
    highest, lower = values.gather(0, old), values.gather(0, new)
    # A little more, so that the new label also wins where it was equal.
    step = 2 * torch.finfo(values.dtype).eps * highest.abs().clamp(min=1)
    changed = old != new
    out = values.scatter(0, old, torch.where(changed, lower, highest))
    return out.scatter(0, new, torch.where(changed, highest + step, highest))


def _plain(x: Any) -> Tensor:
    return x.as_tensor() if isinstance(x, MetaTensor) else x
