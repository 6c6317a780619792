"""Accuracy of skull super-resolution against interpolation, on masks never trained on: tables, a CSV and pictures.

    python -m benchmarks.super_resolution_accuracy --scans ../shared/data/skull_masks --patients DIR \\
        --organs ../shared/data/thorax_segthor_pred --completed

Sets that are not given are left out, and so is the dense twin without weights; the page says so.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from torch import Tensor, nn

from benchmarks.command_line import command_line
from benchmarks.skull_networks import BundleMethod
from benchmarks.skull_scores import Column, markdown_table
from benchmarks.super_resolution_baselines import BASELINES, Method
from benchmarks.super_resolution_cases import (
    FineCase,
    coarsen,
    factor_cases,
    in_plane_cases,
    load_mask,
    organ_cases,
)
from monai_sparse_refine.data import complete_skulls, load_weights, phantom_cases, read_split, read_weights
from monai_sparse_refine.errors import InputError, or_exit
from monai_sparse_refine.files import atomic_path
from monai_sparse_refine.networks import DenseSuperResolver
from monai_sparse_refine.report import super_resolution_figure, super_resolution_scores, write_case_table
from monai_sparse_refine.transforms import RandCranialDefect, super_resolve, target_grid

REPOSITORY = Path(__file__).resolve().parents[1]
BUNDLE = REPOSITORY / "bundles" / "skull_super_resolution"
COMPLETION = REPOSITORY / "bundles" / "skull_completion"
SCANS = ("invesalius_cranium_skull", "philips_skullphantom_bone1mm_skull")
ORGANS = {"esophagus": 1, "heart": 2, "trachea": 3, "aorta": 4}
FIRST_SEED = 90_000  # phantoms of training have smaller seeds
OURS, DENSE = "ours", "dense twin"
# Voxels of the grid of the dense twin's last step, above which it does not fit.
DENSE_LIMIT = 20_000_000
COLUMNS = (
    Column("dice", "DSC", 4, more_is_better=True),
    Column("re_percent", "RE %", 3),
    Column("hd95_mm", "HD95 mm", 2),
    Column("surface_dice_1_voxel", "surface Dice, 1 voxel", 4, more_is_better=True),
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    options = _options(arguments)
    methods, notes = or_exit(_methods, options)
    rows: list[dict[str, Any]] = []
    pictures: list[Path] = []
    folder = Path(options.output)
    for case in or_exit(lambda: _cases(options)):
        results = {}
        for name, method in methods.items():
            start = time.perf_counter()
            try:
                fine = method(case.coarse, case.truth.shape[1:])
            except MemoryError:
                continue
            seconds = time.perf_counter() - start
            results[name] = MetaTensor(fine.to(torch.uint8), affine=case.truth.affine)
            row = {"test_set": case.test_set, "case": case.name, "task": case.task, "method": name}
            rows.append({**row, **super_resolution_scores(results[name], case.truth), "seconds": seconds})
        print(f"{case.test_set}: {case.name}, {case.task}", file=sys.stderr, flush=True)
        if case.test_set == "real scans" and case.task in options.picture_tasks:
            pictures.append(_draw(case, results, folder / "pictures"))
    if not rows:
        raise SystemExit("error: no test case; give --scans, --patients, --phantoms or --organs")
    write_case_table(rows, folder / "super_resolution.csv")
    page = _page(rows, notes, pictures, command=command_line("super_resolution_accuracy", arguments))
    with atomic_path(folder / "super_resolution.md") as temporary:
        temporary.write_text(page, encoding="utf-8")
    print(result_tables(rows))


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scans", help=f"folder with {' and '.join(SCANS)}")
    parser.add_argument("--scan-names", nargs="+", default=list(SCANS), help="which of its scans")
    parser.add_argument("--patients", help="folder of skulls of patients (data.head_masks exports it)")
    parser.add_argument(
        "--split", default=str(COMPLETION / "docs" / "split.json"), help="split file of the patients"
    )
    parser.add_argument("--part", default="test", help="part of the split")
    parser.add_argument(
        "--phantoms", type=int, default=0, help=f"phantoms of 1 mm with seeds from {FIRST_SEED}"
    )
    parser.add_argument("--phantom-dir", default="runs/test_phantoms", help="where they are kept")
    parser.add_argument("--organs", help="folder of SegTHOR label maps, to see whether the weights transfer")
    parser.add_argument("--max-organs", type=int, default=6, help="at most so many of them")
    parser.add_argument("--rules", action="store_true", help="also coarse masks made by other rules")
    parser.add_argument(
        "--completed", action="store_true", help="also coarse skulls with a hole, completed first"
    )
    parser.add_argument("--max-cases", type=int, help="at most so many masks of each set")
    parser.add_argument("--weights", help="weights; the bundle's own by default")
    parser.add_argument("--threshold", type=float, help="of both networks; the bundle's own by default")
    parser.add_argument("--flip-axes", nargs="*", type=int, help="of both networks; the bundle's by default")
    parser.add_argument("--dense-weights", help="weights of the dense twin")
    parser.add_argument("--engine", default="auto", help="auto, native or minkowski")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument(
        "--picture-tasks", nargs="*", default=["64 to 256", "64 to 512"], help="tasks to draw"
    )
    parser.add_argument("--output", default=str(REPOSITORY / "docs" / "results"), help="folder to write to")
    return parser.parse_args(arguments)


def _methods(options: argparse.Namespace) -> tuple[dict[str, Method], list[str]]:
    """The methods by name, the bundle's last, and a note for each one left out."""
    parser = ConfigParser()
    parser.read_config(str(BUNDLE / "configs" / "inference.json"))
    parser["bundle_root"], parser["engine"] = str(BUNDLE), options.engine
    threshold = parser["threshold"] if options.threshold is None else options.threshold
    flip_axes = parser["flip_axes"] if options.flip_axes is None else options.flip_axes
    network = parser.get_parsed_content("network_def")
    load_weights(network, options.weights or BUNDLE / "models" / "model.pt")
    methods, notes = dict(BASELINES), []
    if options.dense_weights:
        twin = _dense_twin(options.dense_weights)
        sizes = [f"{sum(p.numel() for p in model.parameters()):,}" for model in (twin, network)]
        notes.append(f'"{DENSE}" has {sizes[0]} parameters, "{OURS}" {sizes[1]}.')
        methods[DENSE] = _NetworkMethod(
            twin, threshold, options.device, flip_axes=flip_axes, limit=DENSE_LIMIT
        )
        notes.append(f'"{DENSE}" is left out where its last grid has more than {DENSE_LIMIT:,} voxels.')
    else:
        notes.append(f'The row "{DENSE}" is left out: no weights were given (--dense-weights).')
    methods[OURS] = _NetworkMethod(network, threshold, options.device, flip_axes=flip_axes)
    return methods, notes


def _dense_twin(path: str) -> DenseSuperResolver:
    """The dense twin with the channels that its weights have."""
    state = read_weights(path)

    def widths(name: str, axis: int) -> list[int]:
        places = (name.format(n) for n in range(len(state)))
        return [state[place].shape[axis] for place in places if place in state]

    twin = DenseSuperResolver(
        channels=widths("stem.{}.0.weight", 0)[:1] + widths("encoder.{}.0.0.weight", 0),
        step_channels=widths("growth.{}.head.weight", 1),
    )
    return load_weights(twin, path)


class _NetworkMethod:
    """A super-resolution network as a method."""

    def __init__(
        self,
        network: nn.Module,
        threshold: float | Literal["auto"],
        device: str,
        *,
        flip_axes: Sequence[int],
        limit: int | None = None,
    ) -> None:
        self.network = network.to(device).eval()
        self.threshold = threshold
        self.flip_axes = flip_axes
        self.limit = limit

    def __call__(self, coarse: MetaTensor, shape: Sequence[int]) -> Tensor:
        """Foreground [1, *shape]; MemoryError where it does not fit."""
        grid = target_grid(tuple(coarse.shape[1:]), coarse.affine, target_shape=shape)
        if self.limit and np.prod(coarse.shape[1:]) * 8**grid.doublings > self.limit:
            raise MemoryError
        with torch.no_grad():
            fine = super_resolve(
                self.network,
                coarse.as_tensor()[0],
                grid,
                flip_axes=self.flip_axes,
                threshold=self.threshold,
            )
        return fine[None].cpu() > 0


def _cases(options: argparse.Namespace) -> Iterator[FineCase]:
    most = slice(options.max_cases)
    scans = complete_skulls(options.scans, names=options.scan_names)[most] if options.scans else []
    patients = complete_skulls(options.patients, names=read_split(options.split, options.part))[most]
    phantoms = phantom_cases(options.phantom_dir, count=options.phantoms, first_seed=FIRST_SEED, spacing=1.0)[
        most
    ]
    organs = complete_skulls(options.organs)[: options.max_organs]

    def every() -> Iterator[FineCase]:
        for scan in scans:
            fine = load_mask(scan["label"])
            yield from in_plane_cases("real scans", scan["name"], fine)
            for rule in ("nearest", "any") if options.rules else ():
                name = f"real scans, coarse by rule '{rule}'"
                yield from factor_cases(name, scan["name"], fine, (2, 4), rule=rule)
            if options.completed:
                yield from _completed(scan["name"], fine)
        for patient in patients:
            yield from factor_cases("patients (4 mm)", patient["name"], load_mask(patient["label"]), (2, 4))
        for phantom in phantoms:
            yield from factor_cases(
                "phantoms (1 mm)", phantom["name"], load_mask(phantom["label"]), (2, 4, 8)
            )
        yield from organ_cases(organs, ORGANS, (2, 4))

    return every()


def _completed(name: str, fine: MetaTensor) -> Iterator[FineCase]:
    """Coarse skulls with a hole, completed by the other bundle; the truth is the whole skull."""
    complete = BundleMethod(COMPLETION, engine="native")
    try:
        holed: Any = RandCranialDefect("parietotemporal").set_random_state(2)(fine)
    except InputError:
        return
    holed = MetaTensor(holed.as_tensor(), affine=fine.affine)
    side = max(fine.shape[1:3])
    for low in (64, 128):
        coarse = coarsen(holed, side / low)
        whole = torch.maximum(coarse.as_tensor(), complete(coarse).as_tensor().to(torch.uint8))
        yield FineCase(
            "completed coarse skulls", name, f"{low} to {side}", MetaTensor(whole, affine=coarse.affine), fine
        )


def _draw(case: FineCase, results: Mapping[str, MetaTensor], folder: Path) -> Path:
    task = case.task.replace(" ", "_")
    return super_resolution_figure(
        {
            "coarse": case.coarse,
            "linear + 0.5": results["linear + 0.5"],
            OURS: results[OURS],
            "truth": case.truth,
        },
        path=folder / f"super_resolution_{case.name}_{task}.png",
        title=f"{case.name}, {case.task} in-plane",
        note="face, base of the skull, an axial slice",
        slice_at=0.3,
    )


def result_tables(rows: Sequence[Mapping[str, Any]]) -> str:
    """Markdown: one table for each test set; means over its masks, the best of each column and task in bold."""
    parts = []
    for test_set in dict.fromkeys(row["test_set"] for row in rows):
        chosen = [row for row in rows if row["test_set"] == test_set]
        cases = len({row["case"] for row in chosen})
        parts.append(f"### {test_set}: {cases} masks\n\n{_table(chosen)}")
    return "\n\n".join(parts)


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    lines = []
    for task in dict.fromkeys(row["task"] for row in rows):
        mine = [row for row in rows if row["task"] == task]
        methods = list(dict.fromkeys(row["method"] for row in mine))
        cells: dict[str, list[str]] = {method: [] for method in methods}
        for column in COLUMNS:
            means = {
                method: float(np.mean([row[column.name] for row in mine if row["method"] == method]))
                for method in methods
            }
            texts = {method: f"{value:.{column.digits}f}" for method, value in means.items()}
            best = (max if column.more_is_better else min)(texts.values(), key=float)
            for method, text in texts.items():
                cells[method].append(f"**{text}**" if text == best else text)
        count = len({row["case"] for row in mine})
        lines += [[f"{task} ({count})", method, *cells[method]] for method in methods]
    return markdown_table(["task (masks)", "method", *(column.heading for column in COLUMNS)], lines)


def _page(
    rows: Sequence[Mapping[str, Any]], notes: Sequence[str], pictures: Sequence[Path], *, command: str
) -> str:
    lines = [
        "# Accuracy of skull super-resolution",
        "",
        "Means over masks of patients, scans and phantoms that no network was trained on. Coarse masks are made from",
        "the fine ones: a voxel is foreground where at least half of it is. Tasks of the real scans are in-plane",
        "voxels, as in Table 6 of Li et al. (Sci. Rep. 13:20229, 2023); slices are merged by the same factor, and a",
        "target below the scan's own grid has the coarsened scan as its truth. DSC is the whole mask's, RE the share",
        "of wrong voxels of the volume, surface Dice the share of both surfaces within 1 voxel of the other.",
        'The row "nearest" is the identity: the coarse mask as it is, on the fine grid.',
        "",
        f"Made by `{command}`; every mask's scores are in [super_resolution.csv](super_resolution.csv).",
        "",
        *(f"- {note}" for note in notes),
        "",
        result_tables(rows),
        "",
    ]
    lines += [f"![{path.stem.replace('_', ' ')}](pictures/{path.name})\n" for path in pictures]
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    main()
