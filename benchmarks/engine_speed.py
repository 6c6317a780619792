"""Time and memory of the native engine against MinkowskiEngine, spconv and the dense twin.

    python -m benchmarks.engine_speed --sizes 128,128,128 256,256,256 --tasks layer ch1 --output speed.md

Every measurement is a process of its own; the sides take turns, so that a busy machine slows all of them alike.
Read the ratios rather than the seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

SIDES = ("native", "minkowski", "spconv", "dense")
TASKS = ("layer", "ch1", "ch2")
LAYER_CHANNELS = 16
SHELL_VOXELS = 5
SPCONV_THREADS = 1  # with more, its CPU results are wrong (a data race)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what the command line asks for and print, or write, a Markdown table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", nargs="+", default=["128,128,128"], help="shapes such as 512,512,256")
    parser.add_argument("--mask", type=Path, help="a binary NIfTI volume to use instead of a shell")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=["layer", "ch1"])
    parser.add_argument(
        "--modes", nargs="+", choices=("inference", "training"), default=["inference", "training"]
    )
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--rounds", type=int, default=2, help="how often the sides take turns")
    parser.add_argument("--repeats", type=int, default=2, help="steps per process after a first one")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument(
        "--dense-limit", type=float, default=2e7, help="most voxels the dense twin is tried on"
    )
    parser.add_argument("--output", type=Path)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.child:
        print(json.dumps(measure(**json.loads(options.child))))
        return
    table = "\n".join(compare(options))
    print(table)
    if options.output:
        options.output.write_text(table + "\n")


def compare(options: argparse.Namespace) -> list[str]:
    """Lines of the table."""
    lines = [
        f"{options.threads} threads (spconv 1); seconds are the best of {options.rounds} processes, GB above start.",
        "",
        "| volume | task | mode | side | voxels | seconds | GB | times native's seconds | times native's GB |",
        "|---|---|---|---|---:|---:|---:|---:|---:|",
    ]
    volumes = [str(options.mask.resolve())] if options.mask else options.sizes
    for volume in volumes:
        for task in options.tasks:
            for mode in options.modes:
                lines += _rows(options, volume, task, mode)
    return lines


def _rows(options: argparse.Namespace, volume: str, task: str, mode: str) -> list[str]:
    sides = [side for side in options.sides if _applies(side, task, volume, options.dense_limit)]
    results: dict[str, list[dict[str, Any]]] = {side: [] for side in sides}
    for _ in range(options.rounds):
        for side in sides:
            request = {"volume": volume, "task": task, "mode": mode, "side": side, "repeats": options.repeats}
            print(f"{volume} {task} {mode} {side}", file=sys.stderr, flush=True)
            results[side].append(_spawn(request, options.threads))
    good = {side: found for side, found in results.items() if all("seconds" in entry for entry in found)}
    base = good.get("native")
    lines = []
    for side, found in results.items():
        name = f"| {volume.replace(',', 'x')} | {task} | {mode} | {side} |"
        if side not in good:
            reason = next(entry["missing"] for entry in found if "missing" in entry)
            lines.append(f"{name} | {reason} | | | |")
            continue
        seconds = min(entry["seconds"] for entry in found)
        memory = statistics.median(entry["gigabytes"] for entry in found)
        ratios = "| |"
        if base:
            first = min(entry["seconds"] for entry in base)
            least = statistics.median(entry["gigabytes"] for entry in base)
            ratios = f"{seconds / first:.1f} | {memory / max(least, 1e-3):.1f} |"
        lines.append(f"{name} {found[0]['voxels']} | {seconds:.3f} | {memory:.2f} | {ratios}")
    return lines


def _applies(side: str, task: str, volume: str, dense_limit: float) -> bool:
    if side == "spconv":
        return task == "layer"
    if side == "dense" and "," in volume:
        cells = 1
        for length in volume.split(","):
            cells *= int(length)
        return cells <= dense_limit
    return True


def _spawn(request: dict[str, Any], threads: int) -> dict[str, Any]:
    count = SPCONV_THREADS if request["side"] == "spconv" else threads
    # MinkowskiEngine's OpenBLAS is up to ten times slower with more than one thread.
    environment = {**os.environ, "OMP_NUM_THREADS": str(count), "OPENBLAS_NUM_THREADS": "1"}
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "benchmarks.engine_speed",
        "--child",
        json.dumps(request),
    ]
    root = Path(__file__).resolve().parent.parent
    done = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or [""])[-1]
        return {"missing": f"failed ({done.returncode}): {last[:80]}"}
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


def measure(*, volume: str, task: str, mode: str, side: str, repeats: int) -> dict[str, Any]:
    """Run one side in this process: best seconds of a step, peak memory above start, number of input voxels."""
    import resource
    import time

    import torch

    torch.manual_seed(0)
    defective, target, shape = load(volume)
    try:
        step = prepare(defective, target, shape, task, mode == "training", side)
    except ImportError as error:
        return {"missing": f"not installed: {error}"[:80]}
    scale = 1e6 if sys.platform != "darwin" else 1e9
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    times = []
    for _ in range(1 + repeats):
        start = time.perf_counter()
        with torch.set_grad_enabled(mode == "training"):
            step()
        times.append(time.perf_counter() - start)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "seconds": min(times[1:] or times),
        "gigabytes": (after - before) / scale,
        "voxels": len(defective),
    }


def load(volume: str) -> tuple[Any, Any, tuple[int, ...]]:
    """Coordinates [0, x, y, z] of a mask with a hole and of the whole mask, and the volume's shape."""
    import torch

    if "," in volume:
        shape = tuple(int(n) for n in volume.split(","))
        whole = _shell(shape)
    else:
        import nibabel

        whole = torch.as_tensor(nibabel.load(volume).get_fdata() > 0.5)  # type: ignore[attr-defined]
        shape = tuple(whole.shape)
    holed = whole.clone()
    size = shape[0] // 8
    holed[
        shape[0] // 2 - size : shape[0] // 2 + size,
        : shape[1] // 2,
        shape[2] // 2 - size : shape[2] // 2 + size,
    ] = 0
    rows = [torch.nn.functional.pad(mask.nonzero(), (1, 0)).int().contiguous() for mask in (holed, whole)]
    return rows[0], rows[1], shape


def _shell(shape: tuple[int, ...]) -> Any:
    """Ellipsoidal shell of SHELL_VOXELS voxels that fills most of the volume."""
    import torch

    def ball(shrink: int) -> Any:
        total: Any = 0.0
        for axis, length in enumerate(shape):
            position = (torch.arange(length) - (length - 1) / 2) / (0.46 * length - shrink)
            total = total + (position**2).view([-1 if i == axis else 1 for i in range(len(shape))])
        return total <= 1

    return ball(0) & ~ball(SHELL_VOXELS)


def prepare(
    defective: Any, target: Any, shape: tuple[int, ...], task: str, training: bool, side: str
) -> Callable[[], None]:
    """A function that runs one step."""
    if task == "layer":
        return _layer_step(defective, shape, training, side)
    return (
        _dense_step(defective, target, shape, task, training)
        if side == "dense"
        else _network_step(defective, target, shape, task, training, side)
    )


def _layer_step(rows: Any, shape: tuple[int, ...], training: bool, side: str) -> Callable[[], None]:
    """Convolution k3, 16 -> 16, coordinates included."""
    import torch

    width = LAYER_CHANNELS
    features = torch.randn(len(rows), width, requires_grad=training)
    if side == "dense":
        dense_layer = torch.nn.Conv3d(width, width, 3, padding=1, bias=False)
        dense_layer = dense_layer.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        x = torch.zeros(1, width, *shape).to(memory_format=torch.channels_last_3d)
        x[0, :, rows[:, 1].long(), rows[:, 2].long(), rows[:, 3].long()] = features.detach().t()
        x.requires_grad_(training)

        def run_dense() -> None:
            out = dense_layer(x)
            if training:
                out.sum().backward()

        return run_dense
    if side == "spconv":
        import spconv.pytorch as spconv  # type: ignore[import-not-found]

        spconv_layer = spconv.SubMConv3d(width, width, 3, bias=False)

        def run_spconv() -> None:
            out = spconv_layer(spconv.SparseConvTensor(features, rows, list(shape), 1)).features
            if training:
                out.sum().backward()

        return run_spconv
    from monai_sparse_refine.engine import get_engine

    engine = get_engine(side)
    layer = engine.MinkowskiConvolution(width, width, kernel_size=3, dimension=3)

    def run() -> None:
        out = layer(engine.SparseTensor(features, rows)).F
        if training:
            out.sum().backward()

    return run


def _network_step(
    defective: Any, target: Any, shape: tuple[int, ...], channels: str, training: bool, engine: str
) -> Callable[[], None]:
    """The whole sparse network. The target's voxels are kept, so that counts are those of a trained network."""
    import torch
    import torch.nn.functional as F

    from monai_sparse_refine.engine import get_engine
    from monai_sparse_refine.networks import SparseGenerativeUNet

    network = SparseGenerativeUNet(channels=channels, engine=engine).train(training)

    def run() -> None:
        x = get_engine(engine).SparseTensor(torch.ones(len(defective), 1), defective)
        levels = network(x, target=target, bounds=shape)
        if training:
            losses = [
                F.binary_cross_entropy_with_logits(y.logits, y.target.float())
                for y in levels
                if len(y.logits)
            ]
            torch.stack(losses).sum().backward()

    return run


def _dense_step(
    defective: Any, target: Any, shape: tuple[int, ...], channels: str, training: bool
) -> Callable[[], None]:
    """The dense twin in channels_last."""
    import torch

    from monai_sparse_refine.losses import LevelwiseGenerativeLoss
    from monai_sparse_refine.networks.dense_twin import DenseTwin

    network = DenseTwin(channels=channels).train(training)
    network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    volumes = []
    for rows in (defective, target):
        volume = torch.zeros(1, 1, *shape)
        volume[0, 0, rows[:, 1].long(), rows[:, 2].long(), rows[:, 3].long()] = 1
        volumes.append(volume)
    loss = LevelwiseGenerativeLoss()

    def run() -> None:
        if training:
            loss(network(volumes[0], target=volumes[1])).backward()
        else:
            network(volumes[0])

    return run


if __name__ == "__main__":
    main()
