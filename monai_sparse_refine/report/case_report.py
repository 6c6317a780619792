"""What the reports of an evaluator's cases share: progress lines, the clock, the rows and what becomes of them."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events

from monai_sparse_refine.volume import case_name

__all__ = ["CaseReport", "saved_to", "shape_text", "source_name"]


class CaseReport(ABC):
    """Ignite handler that reports the cases of a MONAI evaluator (``val_handlers``) one by one.

    Args:
        output_dir: where to write.
        total: number of cases, for the progress line; None if unknown.
        log: where lines go.
        source_key: key of the mask that comes in, named in a line when a case begins; None for no such line.
        verb: what is done to it, in that line.
        name_key: key of the case's name, where it has one of its own; else it is named after its file.
    """

    def __init__(
        self,
        output_dir: str | Path,
        *,
        total: int | None,
        log: Callable[[str], None],
        source_key: str | None = None,
        verb: str = "",
        name_key: str = "name",
    ) -> None:
        self.output_dir = Path(output_dir).expanduser()
        self.total = total
        self.log = log
        self.source_key = source_key
        self.verb = verb
        self.name_key = name_key
        self.rows: list[dict[str, Any]] = []
        self.cases = 0
        self.started = time.perf_counter()

    def attach(self, engine: Engine) -> None:
        """Register with the engine."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.GET_BATCH_COMPLETED, self._announce)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._report_batch)
        engine.add_event_handler(Events.COMPLETED, self._finish)
        engine.add_event_handler(Events.EXCEPTION_RAISED, self._break_off)

    @abstractmethod
    def report(self, item: Mapping[str, Any]) -> None:
        """Report one case, given the keys of its input and of its output: log it and add to ``rows``."""

    @abstractmethod
    def finish(self) -> None:
        """Write the table of ``rows`` and say where everything is."""

    @property
    def number(self) -> str:
        """The case at hand: "[2/5]", or "[2]" where the total is not known."""
        return f"[{self.cases + 1}/{self.total}]" if self.total else f"[{self.cases + 1}]"

    @property
    def seconds(self) -> float:
        """Seconds since the case before, rounded to tenths."""
        return round(time.perf_counter() - self.started, 1)

    def list_rows(self, summary: Callable[[Mapping[str, Any]], str], files: Sequence[str]) -> None:
        """Log every row's summary, and the files that it names in these columns."""
        for row in self.rows:
            self.log(f"  {row['case']}: {summary(row)}")
            for kind in files:
                if kind in row:
                    self.log(f"    {row[kind]}")

    def _start(self, engine: Engine) -> None:
        self.rows, self.cases = [], 0
        self.started = time.perf_counter()

    def _announce(self, engine: Engine) -> None:
        batch = engine.state.batch
        masks = batch.get(self.source_key) if isinstance(batch, Mapping) else None
        if masks is not None:
            names = batch.get(self.name_key)
            name = names[0] if isinstance(names, (list, tuple)) and names else source_name(masks)
            self.log(f"{self.number} {self.verb} {name} ({shape_text(masks)} voxels) ...")

    def _report_batch(self, engine: Engine) -> None:
        outputs: Any = engine.state.output
        if not isinstance(outputs, (list, tuple)):
            name = type(self).__name__
            raise TypeError(f"{name} needs decollated items: leave the evaluator's decollate=True.")
        sources: Any = engine.state.batch
        for source, output in zip(sources, outputs, strict=True):
            self.report({**source, **output})
            self.cases += 1
            self.started = time.perf_counter()

    def _finish(self, engine: Engine) -> None:
        if self.rows:
            self.finish()

    def _break_off(self, engine: Engine, error: BaseException) -> None:
        """The table has the cases that were done before one failed."""
        self._finish(engine)
        raise error


def saved_to(mask: Any) -> str | None:
    """Where ``SaveMaskd`` wrote a mask, if it did."""
    path = getattr(mask, "meta", {}).get("saved_to")
    return None if path is None else str(path)


def source_name(mask: Any) -> str:
    """Case name from a MetaTensor's file name; a batch is named by its first item."""
    name = getattr(mask, "meta", {}).get("filename_or_obj", "case")
    return case_name(name[0] if isinstance(name, (list, tuple)) else name)


def shape_text(mask: Any) -> str:
    """Voxels of [..., X, Y, Z] as "XxYxZ"."""
    return "x".join(str(n) for n in mask.shape[-3:])
