"""Time and memory of the native engine against MinkowskiEngine, spconv and the dense twin.

    python -m benchmarks.engine_speed --volumes 128,128,128 skull.nii.gz --tasks layer ch1 --output speed.md

Every measurement is a process of its own; the sides take turns, so that a busy machine slows all of them alike.
Read the ratios rather than the seconds. Sides: the native engine with its compiled kernels and in PyTorch alone
("plain"), MinkowskiEngine, spconv (the layer only: it has no generative network, union and pruning), and the dense
twin in channels_last.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.engine_steps import shape_of

SIDES = ("native", "plain", "minkowski", "spconv", "dense")
TASKS = ("layer", "ch1", "ch2")
MODES = ("inference", "training")
SHELLS = ("128,128,128", "256,256,256", "512,512,256")
SPCONV_THREADS = 1  # with more, its CPU results are wrong (a data race)
CH2_LIMITS = {"dense": 3e6}  # most voxels of a volume that ch2 is tried on: above, minutes and many gigabytes
CH2_LIMIT = 2e7

Results = dict[tuple[str, str, str, str], dict[str, Any]]  # by volume, task, mode and side

# What the native engine is held to: volume, task, mode, other side, least ratio of seconds and of memory.
BARS = (
    ("128,128,128", "ch1", "inference", "minkowski", 3.0, None),
    ("128,128,128", "ch1", "training", "minkowski", 2.0, None),
    ("256,256,256", "ch1", "inference", "minkowski", 6.0, 2.0),
    ("256,256,256", "ch1", "training", "minkowski", 3.0, 2.0),
    ("512,512,256", "ch1", "inference", "minkowski", 6.0, 2.0),
    ("512,512,256", "ch1", "training", "minkowski", 3.0, 2.0),
    ("256,256,256", "ch1", "inference", "dense", 10.0, 10.0),
    ("256,256,256", "ch1", "training", "dense", 10.0, 10.0),
)
LIMITS = (("512,512,256", "ch1", "inference", 6.0, 2.0), ("512,512,256", "ch1", "training", 25.0, 6.0))
GROWTH = ("128,128,128", "512,512,256", 1.3)  # most that seconds per voxel may grow


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what the command line asks for and print, or write, Markdown tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--volumes",
        nargs="+",
        default=list(SHELLS),
        help="shapes of 5-voxel shells such as 512,512,256, or binary NIfTI masks",
    )
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--rounds", type=int, default=1, help="how often the sides take turns")
    parser.add_argument("--repeats", type=int, default=1, help="steps per process after a first one")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument(
        "--dense-limit", type=float, default=2e7, help="most voxels the dense twin is tried on"
    )
    parser.add_argument("--output", type=Path)
    options = parser.parse_args(arguments)
    for volume in options.volumes:
        if "," not in volume and not Path(volume).is_file():
            parser.error(f"--volumes: {volume!r} is neither a shape such as 128,128,128 nor a file")
    results = compare(options)
    page = "\n".join([*table(results, options), "", *bars(results)])
    print(page)
    if options.output:
        options.output.write_text(page + "\n", encoding="utf-8")


def compare(options: argparse.Namespace) -> Results:
    """Measure every combination; of several rounds the best seconds and the median memory."""
    results: Results = {}
    for volume in options.volumes:
        for task in options.tasks:
            for mode in options.modes:
                sides = [side for side in options.sides if applies(side, task, volume, options.dense_limit)]
                found: dict[str, list[dict[str, Any]]] = {side: [] for side in sides}
                for _ in range(options.rounds):
                    for side in sides:
                        print(f"{volume} {task} {mode} {side}", file=sys.stderr, flush=True)
                        found[side].append(_spawn(options, volume=volume, task=task, mode=mode, side=side))
                for side, entries in found.items():
                    results[volume, task, mode, side] = summary(entries)
    return results


def summary(entries: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One result of several rounds; what is missing in one is missing."""
    for entry in entries:
        if "missing" in entry:
            return entry
    return {
        "seconds": min(entry["seconds"] for entry in entries),
        "gigabytes": statistics.median(entry["gigabytes"] for entry in entries),
        "voxels": entries[0]["voxels"],
    }


def applies(side: str, task: str, volume: str, dense_limit: float) -> bool:
    """Whether a side can do a task on a volume in reasonable time and memory."""
    if side == "spconv":
        return task == "layer"
    cells = math.prod(shape_of(volume))
    if task == "ch2" and cells > CH2_LIMITS.get(side, CH2_LIMIT):
        return False
    return side != "dense" or cells <= dense_limit


def table(results: Results, options: argparse.Namespace) -> list[str]:
    """Lines of the table of all results."""
    lines = [
        f"{options.threads} threads (spconv 1); best seconds of {options.rounds} processes, GB above start.",
        "",
        "| volume | task | mode | side | voxels | seconds | GB | times native's seconds | times native's GB |",
        "|---|---|---|---|---:|---:|---:|---:|---:|",
    ]
    for (volume, task, mode, side), result in results.items():
        start = f"| {_name(volume)} | {task} | {mode} | {side} |"
        if "missing" in result:
            lines.append(f"{start} {result['missing']} | | | | |")
            continue
        seconds, memory = (
            _ratio(results, (volume, task, mode, side), kind) for kind in ("seconds", "gigabytes")
        )
        lines.append(
            f"{start} {result['voxels']} | {result['seconds']:.3f} | {result['gigabytes']:.2f} | "
            f"{_digits(seconds)} | {_digits(memory)} |"
        )
    return lines


def bars(results: Results) -> list[str]:
    """Lines that tell which bars are met, of those that were measured."""
    lines = []
    for volume, task, mode, side, least_time, least_memory in BARS:
        name = f"{_name(volume)} {task} {mode} against {side}"
        for kind, least in (("seconds", least_time), ("gigabytes", least_memory)):
            ratio = _ratio(results, (volume, task, mode, side), kind)
            if ratio is not None and least is not None:
                lines.append(_bar(f"{name}, {kind}", f"{ratio:.1f} times", ratio >= least, f">= {least:g}"))
    for volume, task, mode, seconds, memory in LIMITS:
        result = results.get((volume, task, mode, "native"), {})
        for kind, most in (("seconds", seconds), ("gigabytes", memory)):
            if kind in result:
                met = result[kind] < most
                lines.append(
                    _bar(f"{_name(volume)} {task} {mode}, {kind}", f"{result[kind]:.2f}", met, f"< {most:g}")
                )
    small, large, most = GROWTH
    for mode in MODES:
        per_voxel = [
            result["seconds"] / result["voxels"]
            for volume in (small, large)
            if "seconds" in (result := results.get((volume, "ch1", mode, "native"), {}))
        ]
        if len(per_voxel) == 2:
            growth = per_voxel[1] / per_voxel[0]
            name = f"ch1 {mode}, seconds per voxel at {_name(large)} against {_name(small)}"
            lines.append(_bar(name, f"{growth:.2f} times", growth <= most, f"<= {most:g}"))
    return ["| bar | measured | wanted | |", "|---|---:|---:|---|", *lines] if lines else []


def _bar(name: str, measured: str, met: bool, wanted: str) -> str:
    return f"| {name} | {measured} | {wanted} | {'met' if met else '**missed**'} |"


def _ratio(results: Results, name: tuple[str, str, str, str], kind: str) -> float | None:
    ours, other = results.get((*name[:3], "native"), {}), results.get(name, {})
    if kind not in ours or kind not in other:
        return None
    return float(other[kind]) / max(float(ours[kind]), 1e-3)


def _digits(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.1f}"


def _name(volume: str) -> str:
    return volume.replace(",", "x") if "," in volume else Path(volume).name


def _spawn(options: argparse.Namespace, *, volume: str, task: str, mode: str, side: str) -> dict[str, Any]:
    count = SPCONV_THREADS if side == "spconv" else options.threads
    # MinkowskiEngine's OpenBLAS is up to ten times slower with more than one thread.
    environment = {**os.environ, "OMP_NUM_THREADS": str(count), "OPENBLAS_NUM_THREADS": "1"}
    environment["MONAI_SPARSE_KERNEL"] = "off" if side == "plain" else "auto"
    where = volume if "," in volume else str(Path(volume).resolve())
    request = {"volume": where, "task": task, "mode": mode, "side": side, "repeats": options.repeats}
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.engine_steps", json.dumps(request)]
    root = Path(__file__).resolve().parent.parent
    done = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or [""])[-1]
        return {"missing": f"failed ({done.returncode}): {last[:80]}"}
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


if __name__ == "__main__":
    main()
