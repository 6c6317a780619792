"""Metrics of completions for MONAI and Ignite evaluators, in mm, with one value for each case."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from ignite.engine import Engine
from monai.data import MetaTensor
from monai.handlers import from_engine
from monai.handlers.ignite_metric import IgniteMetricHandler
from monai.metrics import CumulativeIterationMetric

from monai_sparse_refine.errors import InputError
from monai_sparse_refine.metrics import functional
from monai_sparse_refine.volume import as_mask, check_same_shape, spacing_of

__all__ = [
    "BorderDice",
    "CaseMetric",
    "ImplantDice",
    "ReconstructionError",
    "SurfaceDistance95",
]

Spacing = float | Sequence[float] | None
# What an evaluator's output has to hold: the completed skull, the complete one, and the one with the hole.
KEYS = ("pred", "label", "image")


class CaseMetric(CumulativeIterationMetric):
    """A function of two or three masks as a cumulative MONAI metric with one value for each case.

    Args:
        function: takes prediction, truth, defective (or None) and the spacing in mm; returns a number.
        spacing: mm; None reads each case's own from whichever of its masks is a MetaTensor.
    """

    def __init__(self, function: Callable[[Any, Any, Any, Any], float], *, spacing: Spacing = None) -> None:
        super().__init__()
        self.function = function
        self.spacing = spacing

    def __call__(  # type: ignore[override]  # the third mask
        self, y_pred: Any, y: Any, defective: Any = None
    ) -> torch.Tensor:
        """Score a batch and remember its values.

        Args:
            y_pred: masks, a batch [B, 1, X, Y, Z] or a list of [1, X, Y, Z].
            y: as many true masks.
            defective: as many defective masks, where the function needs them.

        Returns:
            One value for each case (B, 1).

        Raises:
            InputError: another number of masks, more than one channel, an unknown spacing.
        """
        count = len(y_pred)
        if len(y) != count or (defective is not None and len(defective) != count):
            sizes = [len(masks) for masks in (y_pred, y, defective) if masks is not None]
            raise InputError(f"prediction, truth and defective have {sizes} cases; expected as many of each")
        values = []
        for index in range(count):
            bone = None if defective is None else defective[index]
            case = (y_pred[index], y[index], bone)
            known = self.spacing is not None or any(isinstance(mask, MetaTensor) for mask in case)
            # A function that needs a spacing says so itself where there is none.
            mm = spacing_of(*case, spacing=self.spacing) if known else None
            values.append(self.function(*case, mm))
        # On the device of the masks, so that any backend can gather it.
        device = y_pred[0].device if count and isinstance(y_pred[0], torch.Tensor) else None
        result = torch.tensor(values, dtype=torch.float32, device=device).reshape(count, 1)
        self.extend(result)
        return result

    def _compute_tensor(
        self, y_pred: torch.Tensor, y: torch.Tensor | None = None, **kwargs: Any
    ) -> torch.Tensor:
        raise NotImplementedError("CaseMetric scores whole cases; call it")

    def aggregate(self) -> torch.Tensor:
        """Mean over all the cases of all ranks; NaN where there was none."""
        values = self.get_buffer()
        return values.mean() if isinstance(values, torch.Tensor) else torch.tensor(float("nan"))


class _CaseMetricHandler(IgniteMetricHandler):
    """Passes two or three masks on to a CaseMetric; MONAI's base class passes two."""

    def __init__(
        self,
        function: Callable[[Any, Any, Any, Any], float],
        *,
        spacing: Spacing,
        output_transform: Callable | None,
        save_details: bool,
    ) -> None:
        super().__init__(
            metric_fn=CaseMetric(function, spacing=spacing),
            output_transform=from_engine(KEYS) if output_transform is None else output_transform,
            save_details=save_details,
        )

    def iteration_completed(self, engine: Engine) -> None:
        """Take the masks of an iteration as they are: Ignite would unroll two lists, and refuse three."""
        self.update(self._output_transform(engine.state.output))

    def update(self, output: Sequence[Any]) -> None:
        """Score the masks of an iteration: prediction, truth and, where there is one, the defective skull."""
        if len(output) not in (2, 3):
            raise InputError(
                f"output_transform gives {len(output)} items; expected prediction, truth and (for implants "
                f"cut out of skulls, and for the border) defective, such as from_engine({list(KEYS)})"
            )
        self._is_reduced = False
        self.metric_fn(*output)


def _implants(pred: Any, truth: Any, defective: Any) -> tuple[Any, Any]:
    """What lies outside the defective skull; two implants are taken as they are where there is none."""
    if defective is None:
        return pred, truth
    whole, complete, bone = as_mask(pred), as_mask(truth), as_mask(defective)
    check_same_shape(prediction=whole, truth=complete, defective=bone)
    return whole & ~bone, complete & ~bone


def _implant_dice(pred: Any, truth: Any, defective: Any, mm: Any) -> float:
    return functional.dice(*_implants(pred, truth, defective))


def _implant_hd95(pred: Any, truth: Any, defective: Any, mm: Any) -> float:
    return functional.hd95(*_implants(pred, truth, defective), spacing=mm)


def _reconstruction_error(pred: Any, truth: Any, defective: Any, mm: Any) -> float:
    return functional.reconstruction_error(pred, truth)


class ImplantDice(_CaseMetricHandler):
    """Mean Dice of the implants; see `monai_sparse_refine.metrics.dice`.

    The evaluator's output is read at "pred", "label" and "image": the completed, the complete and the
    defective skull (or the two implants and the defective skull, which gives the same). A transform that
    gives two items compares these as they are.

    Args:
        output_transform: from the engine's output to prediction, truth and defective, each a list of
            [1, X, Y, Z] or a batch; by default `from_engine(["pred", "label", "image"])`.
        save_details: keep the value of every case in `engine.state.metric_details`, which CaseCsvHandler
            needs.
    """

    def __init__(self, output_transform: Callable | None = None, *, save_details: bool = True) -> None:
        super().__init__(
            _implant_dice, spacing=None, output_transform=output_transform, save_details=save_details
        )


class BorderDice(_CaseMetricHandler):
    """Mean Dice of the implants near the defective skull; see `monai_sparse_refine.metrics.border_dice`.

    Args:
        output_transform: as for ImplantDice; it has to give all three masks.
        distance_mm: width of the border.
        spacing: mm; None reads it from the masks.
        save_details: as for ImplantDice.
    """

    def __init__(
        self,
        output_transform: Callable | None = None,
        *,
        distance_mm: float = 10.0,
        spacing: Spacing = None,
        save_details: bool = True,
    ) -> None:
        self.distance_mm = distance_mm
        super().__init__(
            self._score, spacing=spacing, output_transform=output_transform, save_details=save_details
        )

    def _score(self, pred: Any, truth: Any, defective: Any, mm: Any) -> float:
        if defective is None:
            raise InputError(f"BorderDice needs the defective skull: let output_transform give {list(KEYS)}")
        implants = _implants(pred, truth, defective)
        return functional.border_dice(*implants, defective, spacing=mm, distance_mm=self.distance_mm)


class SurfaceDistance95(_CaseMetricHandler):
    """Mean HD95 of the implants in mm; see `monai_sparse_refine.metrics.hd95`.

    A missing implant scores the volume's diagonal, never 0. Smaller is better: as a key metric it needs
    `metric_cmp_fn=lambda current, best: current < best`.

    Args:
        output_transform: as for ImplantDice.
        spacing: mm; None reads it from the masks.
        save_details: as for ImplantDice.
    """

    def __init__(
        self, output_transform: Callable | None = None, *, spacing: Spacing = None, save_details: bool = True
    ) -> None:
        super().__init__(
            _implant_hd95, spacing=spacing, output_transform=output_transform, save_details=save_details
        )


class ReconstructionError(_CaseMetricHandler):
    """Mean percentage of voxels that are wrong; see `monai_sparse_refine.metrics.reconstruction_error`.

    Smaller is better: as a key metric it needs `metric_cmp_fn=lambda current, best: current < best`.

    Args:
        output_transform: as for ImplantDice; prediction and truth are compared as they are.
        save_details: as for ImplantDice.
    """

    def __init__(self, output_transform: Callable | None = None, *, save_details: bool = True) -> None:
        super().__init__(
            _reconstruction_error, spacing=None, output_transform=output_transform, save_details=save_details
        )
