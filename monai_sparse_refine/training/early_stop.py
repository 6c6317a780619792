"""Early stopping on the key metric that goes on counting where a killed run left off."""

from __future__ import annotations

import math
from typing import Any, Literal

from ignite.engine import Engine, Events
from ignite.handlers import EarlyStopping


class EarlyStop:
    """Stop a training when its validations' key metric has not improved for some time (Ignite's EarlyStopping).

    Attach it to the evaluator, and name the trainer before it runs; the two are made apart because each needs
    the other. Put it among the objects of the checkpoint, so that a restart does not forget what it counted.
    With several processes every rank needs one: the metric is the same on all of them, so all stop together.

    Args:
        patience: validations without a better one after which to stop.
        threshold: what counts as better, at least.
        mode: "max" for a metric that should rise, "min" for one that should fall, as HD95. A metric that is not a
            number is no better one.
    """

    def __init__(self, patience: int, *, threshold: float = 0.0, mode: Literal["max", "min"] = "max") -> None:
        self.patience = patience
        self.threshold = threshold
        self.mode = mode
        self._stopping: EarlyStopping | None = None

    def set_trainer(self, trainer: Engine) -> None:
        """Name the trainer to stop."""
        self._stopping = EarlyStopping(
            self.patience, self._key_metric, trainer, threshold=self.threshold, mode=self.mode
        )

    @property
    def done(self) -> bool:
        """Whether the patience has run out; a restart then has nothing left to do."""
        return self._of_trainer().counter >= self.patience

    def attach(self, engine: Engine) -> None:
        """Register with the evaluator."""
        engine.add_event_handler(Events.COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Count a validation."""
        self._of_trainer()(engine)

    def state_dict(self) -> dict[str, Any]:
        """Best metric, and validations since."""
        return dict(self._of_trainer().state_dict())

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on counting from there."""
        self._of_trainer().load_state_dict(state)

    def _of_trainer(self) -> EarlyStopping:
        if self._stopping is None:
            raise RuntimeError(
                "EarlyStop does not know what to stop: call set_trainer(trainer) before the run"
            )
        return self._stopping

    def _key_metric(self, engine: Engine) -> float:
        state: Any = engine.state  # MONAI names the key metric there
        metric = float(state.metrics[state.key_metric_name])
        worst = -math.inf if self.mode == "max" else math.inf
        return worst if math.isnan(metric) else metric
