"""A CSV file with one row for each case of an evaluation."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ignite.distributed as idist
from ignite.engine import Engine, Events
from monai.config import PathLike
from monai.utils import string_list_all_gather

from monai_sparse_refine.errors import InputError
from monai_sparse_refine.files import atomic_path
from monai_sparse_refine.volume import case_name

__all__ = ["CaseCsvHandler"]


class CaseCsvHandler:
    """Write one row for each case, with the metrics that keep their details, when an epoch is complete.

    Attach it to the evaluator that has the metrics (`val_handlers`). The file is replaced as a whole. With
    several ranks the first one writes the cases of all; a case that a sampler repeated, of the same file and values,
    has one row.

    Args:
        path: CSV file to write.
        metrics: names of the metrics, the columns after "case"; None takes all there are.
        names: from the engine's output to the file names of its cases; by default those of the first
            MetaTensor of each decollated item. A case without a name is numbered.
    """

    def __init__(
        self,
        path: PathLike,
        *,
        metrics: Sequence[str] | None = None,
        names: Callable[[Any], Sequence[str]] | None = None,
    ) -> None:
        self.path = Path(path)
        self.metrics = metrics
        self.names = _names if names is None else names
        self._files: list[str] = []

    def attach(self, engine: Engine) -> None:
        """Register with an Ignite engine, after its metrics."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def _start(self, engine: Engine) -> None:
        self._files = []

    def _collect(self, engine: Engine) -> None:
        self._files.extend(self.names(engine.state.output))

    def __call__(self, engine: Engine) -> None:
        """Write the file."""
        several = idist.get_world_size() > 1
        # A list of empty names would be lost on the way between ranks.
        rank = idist.get_rank()
        files = [file or (f"rank{rank}_case{i:03d}" if several else "") for i, file in enumerate(self._files)]
        if several:
            files = string_list_all_gather(files)
        if rank != 0:
            return
        details = getattr(engine.state, "metric_details", {})
        wanted = list(details) if self.metrics is None else list(self.metrics)
        absent = [name for name in wanted if name not in details]
        if absent:
            raise InputError(
                f"no details of the metrics {absent}; the engine has {list(details)}: attach them, with "
                "save_details=True, to the same engine"
            )
        columns = {}
        for name in wanted:
            values = details[name]
            if values is None or len(values) != len(files):
                count = 0 if values is None else len(values)
                raise InputError(
                    f"metric {name} has {count} values for {len(files)} cases; expected one each"
                )
            columns[name] = values.reshape(len(files), -1).float().mean(dim=1).tolist()
        rows: dict[Any, list[Any]] = {}
        for index, file in enumerate(files):
            values = [columns[name][index] for name in wanted]
            # One rank has every case once; several may have been dealt one twice, to make their numbers even. Cases
            # that share a file, as several holes of one skull do, differ in their values.
            key = (file, *(f"{value:.5g}" for value in values)) if several else index
            rows.setdefault(key, [_label(file, index, files), *values])
        with atomic_path(self.path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream)
            writer.writerow(["case", *wanted])
            writer.writerows(rows.values())


def _names(output: Any) -> list[str]:
    """File name of each case of an engine's output, "" where it has none."""
    if isinstance(output, Mapping):
        raise InputError("CaseCsvHandler needs one item for each case: leave the evaluator's decollate=True")
    names = []
    for item in output:
        parts = item.values() if isinstance(item, Mapping) else [item]
        found = (getattr(part, "meta", {}).get("filename_or_obj") for part in parts)
        names.append(next((str(name) for name in found if name), ""))
    return names


def _label(file: str, index: int, files: Sequence[str]) -> str:
    """Short name of a case, unless another file has the same."""
    if not file:
        return f"case_{index:03d}"
    name = case_name(file)
    return name if all(other == file or case_name(other) != name for other in files) else file
