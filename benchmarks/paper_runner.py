"""Measure networks in processes of their own, within limits of memory and time."""

from __future__ import annotations

import argparse
import multiprocessing
import sys
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing.connection import Connection
from typing import Any

import torch

from benchmarks.paper_step import MODELS, OK, OVER_MEMORY, compile_kernels, measure

OVER_TIME = "over the time limit"
FAILED = "failed"
EXPECTED = " (expected)"  # not tried: smaller ones tell

# A fork of a server that has the libraries loaded starts at once; 128 fresh interpreters would take many minutes.
_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(
    [
        "benchmarks.paper_step",
        "matplotlib.pyplot",
        "monai_sparse_refine.report",
        "monai_sparse_refine.transforms",
    ]
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that a `Runner` reads."""
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    parser.add_argument("--modes", nargs="+", default=["train", "infer"], choices=["train", "infer"])
    parser.add_argument("--repeats", type=int, default=3, help="steps of which the fastest counts")
    parser.add_argument(
        "--repeat-seconds", type=float, default=3.0, help="no further repeat begins after so many seconds"
    )
    parser.add_argument(
        "--memory-gb", type=float, default=12.0, help="limit of one process (the paper's GPU: 12)"
    )
    parser.add_argument("--time-limit", type=float, default=60.0, help="seconds for one measurement")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of the CPU")
    parser.add_argument("--engine", default="native", help="auto, native or minkowski")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")


def prepare(options: argparse.Namespace) -> None:
    """What the first measurement of a machine would pay for otherwise: the sparse engine's kernels are compiled."""
    if any(model.startswith("sparse") for model in options.models):
        process = _SERVER.Process(target=compile_kernels, args=(options.engine, options.device))
        process.start()
        process.join()


def sweep(
    options: argparse.Namespace, cases: Mapping[int, Mapping[str, Any]], batches: Sequence[int] = (1,)
) -> Iterator[dict[str, Any]]:
    """Measure every model and mode on growing cases and batches.

    What exceeds a limit ends the batches of its size; a single case that does ends the sizes. What follows is not
    tried, and neither is a batch of which the seconds or bytes of the batch before say that it will exceed one.

    Args:
        options: of `add_arguments`.
        cases: by rising size, with the `file` of each.
        batches: rising batch sizes.

    Yields:
        A row with `model`, `mode`, `size`, `batch` and what `measure` gives.
    """
    for model in options.models:
        for mode in options.modes:
            too_large: str | None = None  # why a single case of the size before was
            for size, case in cases.items():
                before: dict[str, Any] = {"status": too_large} if too_large else {}
                for batch in batches:
                    status = _expected(options, before, batch)
                    result = (
                        {"status": status}
                        if status
                        else _in_a_process(
                            options, model=model, mode=mode, case=str(case["file"]), batch=batch
                        )
                    )
                    before = {**result, "batch": batch}
                    if batch == batches[0] and result["status"] not in (OK, FAILED):
                        too_large = result["status"]
                    print(f"{model} {mode} {size} x {batch}: {result}", file=sys.stderr, flush=True)
                    yield {"model": model, "mode": mode, "size": size, "batch": batch, **result}


def _expected(options: argparse.Namespace, before: Mapping[str, Any], batch: int) -> str | None:
    """The limit that a batch will exceed, judged by the batch before; None where it is to be tried."""
    if not before or before["status"] == FAILED:
        return None
    if before["status"] != OK:
        return str(before["status"]).removesuffix(EXPECTED) + EXPECTED
    growth = batch / before["batch"]
    if growth * before["seconds"] > options.time_limit:
        return OVER_TIME + EXPECTED
    if growth * before["peak_mib"] > 1024 * options.memory_gb:
        return OVER_MEMORY + EXPECTED
    return None


def _in_a_process(options: argparse.Namespace, **what: Any) -> dict[str, Any]:
    names = ("repeats", "repeat_seconds", "engine", "device", "threads", "memory_gb")
    spec = {**what, **{name: getattr(options, name) for name in names}}
    here, there = _SERVER.Pipe(duplex=False)
    process = _SERVER.Process(target=_send, args=(there, spec))
    process.start()
    there.close()
    try:
        if not here.poll(options.time_limit):
            return {"status": OVER_TIME}
        result: dict[str, Any] = here.recv()
        return result
    except EOFError:  # it ended without an answer
        process.join()
        # An engine in C++ that gets no memory ends the process.
        return {"status": OVER_MEMORY if (process.exitcode or 0) < 0 else FAILED}
    finally:
        process.kill()
        process.join()


def _send(there: Connection, spec: dict[str, Any]) -> None:
    there.send(measure(spec))
