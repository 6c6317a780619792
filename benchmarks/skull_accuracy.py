"""Accuracy of skull completion against its baselines, on skulls never trained on: tables, a CSV and pictures.

    python -m benchmarks.skull_accuracy --patients DIR --scans ../shared/data/skull_masks --phantoms 8

Sets that are not given are left out, and so are networks whose weights are not given; the page says so.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarks.command_line import command_line
from benchmarks.score_commands import add_whole_head_options, whole_heads
from benchmarks.skull_baselines import BASELINES, Method
from benchmarks.skull_cases import BUNDLE, SEEN_KINDS, TEST_KINDS, UNSEEN_KINDS, SkullCase, skull_cases
from benchmarks.skull_earlier import read_table, with_earlier_rows
from benchmarks.skull_networks import (
    BundleMethod,
    as_it_is,
    dense_twin,
    paper_recipe,
    paper_recipe_pruned_less,
)
from benchmarks.skull_scores import result_tables, score
from monai_sparse_refine.data import complete_skulls, read_split
from monai_sparse_refine.errors import or_exit
from monai_sparse_refine.files import atomic_path
from monai_sparse_refine.report import completion_figure, write_case_table

REPOSITORY = Path(__file__).resolve().parents[1]
FINE = "patients, interpolated to 1.5 mm"
IDENTITY, OURS = "identity (hole left open)", "ours"
DENSE, SHORT = "dense twin, short", "ours, short"
PAPER, PRUNED_LESS = "paper's ch1 recipe, short", "paper's ch1 recipe, pruned less, short"
# What is trained as shortly as the baselines saw one grid, which it is scored on.
SHORT_SPACING = {"fine_spacing": None}
# Name of the test set, the skull, seed of its holes.
Task = tuple[str, dict[str, Any], int]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    options = _options(arguments)
    earlier = or_exit(read_table, options.earlier) if options.earlier else None
    methods, notes = or_exit(_methods, options)
    sets = or_exit(_test_sets, options)
    tasks = [
        (name, skull, options.seed + 97 * place)
        for name, skulls in sets.items()
        for place, skull in enumerate(skulls)
    ]
    worst = _Worst(list(methods)[-1], count=options.pictures)
    rows: list[dict[str, Any]] = []
    skipped: list[str] = []
    for found in _scored(options, tasks):
        rows += found.rows
        skipped += found.skipped
        for item in found.worst:
            worst.consider(*item)
    if not rows:
        raise SystemExit("error: no test case; give --patients, --fine, --scans or --phantoms")
    if earlier is not None:
        rows = or_exit(with_earlier_rows, rows, earlier, identity=IDENTITY)
    folder = Path(options.output)
    write_case_table(rows, folder / "skull_accuracy.csv")
    pictures = worst.draw(folder / "pictures")
    page = _page(rows, notes, skipped, pictures, command=command_line("skull_accuracy", arguments))
    with atomic_path(folder / "skull_accuracy.md") as temporary:
        temporary.write_text(page, encoding="utf-8")
    print(result_tables(rows))
    print(
        f"\nwritten: {folder / 'skull_accuracy.md'}, {folder / 'skull_accuracy.csv'}, {len(pictures)} pictures"
    )


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--patients", help="folder of complete skulls of patients (data.head_masks exports it)"
    )
    parser.add_argument(
        "--split", default=str(BUNDLE / "docs" / "split.json"), help="split file of the patients"
    )
    parser.add_argument("--part", default="test", help="part of the split")
    parser.add_argument(
        "--fine", help="folder of patients' skulls made of interpolated CTs (data.fine_heads writes it)"
    )
    parser.add_argument("--fine-cases", type=int, help="at most so many of them")
    add_whole_head_options(parser)
    parser.add_argument("--kinds", nargs="+", default=list(TEST_KINDS), help="kinds of holes")
    parser.add_argument("--seed", type=int, default=0, help="decides the holes")
    parser.add_argument("--max-cases", type=int, help="at most so many skulls of each set")
    parser.add_argument("--in-plane", type=int, nargs="*", default=[], help="also score at 64, 128, 256 ...")
    parser.add_argument("--no-native", dest="native", action="store_false", help="leave the native grid out")
    parser.add_argument("--bundle", default=str(BUNDLE), help="bundle to score")
    parser.add_argument("--weights", help="its weights; the bundle's own where it has some")
    parser.add_argument("--dense-weights", help="weights of the dense twin with the bundle's channels")
    parser.add_argument("--paper-weights", help="weights of the paper's ch1 recipe")
    parser.add_argument(
        "--pruned-less-weights", help="weights of that recipe, trained with the bundle's keep_threshold"
    )
    parser.add_argument(
        "--short-weights", help="weights of the bundle's network, trained as shortly as those"
    )
    parser.add_argument(
        "--earlier", help="earlier skull_accuracy.csv of the same holes: all other methods' rows come from it"
    )
    parser.add_argument("--engine", default="auto", help="auto, native or minkowski")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--jobs", type=int, default=1, help="processes that share the skulls")
    parser.add_argument("--pictures", type=int, default=3, help="pictures of so many worst cases")
    parser.add_argument("--output", default=str(REPOSITORY / "docs" / "results"), help="folder to write to")
    return parser.parse_args(arguments)


def _methods(options: argparse.Namespace) -> tuple[dict[str, Method], list[str]]:
    """The methods by name, the bundle's last, and a note for each one left out."""
    own = Path(options.bundle) / "models" / "model.pt"
    ours = options.weights or (own if own.is_file() else None)
    wanted = [
        (DENSE, options.dense_weights, "--dense-weights", dense_twin),
        (PAPER, options.paper_weights, "--paper-weights", paper_recipe),
        (PRUNED_LESS, options.pruned_less_weights, "--pruned-less-weights", paper_recipe_pruned_less),
        (SHORT, options.short_weights, "--short-weights", as_it_is),
        (OURS, ours, "--weights", as_it_is),
    ]
    methods, notes = dict(BASELINES), []
    if options.earlier:
        methods = {IDENTITY: BASELINES[IDENTITY]}
    for name, weights, option, network in wanted:
        if weights is None and options.earlier and name != OURS:
            continue
        if weights is None:
            notes.append(f'The row "{name}" is left out: no weights were given ({option}).')
            continue
        methods[name] = BundleMethod(
            options.bundle,
            weights=weights,
            network=network,
            overrides=None if name == OURS else SHORT_SPACING,
            device=options.device,
            engine=options.engine,
        )
    if options.earlier:
        anew = ", ".join(f'"{name}"' for name in methods if name != IDENTITY)
        notes.append(
            f"Scored anew: {anew}; all other rows are of an earlier table of the same holes, whose command the "
            "bundle's accuracy.md has."
        )
    return methods, notes


def _test_sets(options: argparse.Namespace) -> dict[str, list[dict[str, Any]]]:
    sets = {}
    if options.patients:
        names = read_split(options.split, options.part)
        sets["patients"] = complete_skulls(options.patients, names=names)
    if options.fine:
        patients = set(read_split(options.split, options.part))
        fine = [
            skull for skull in complete_skulls(options.fine) if skull["name"].split("_fine")[0] in patients
        ]
        sets[FINE] = fine[: options.fine_cases]
    sets.update(whole_heads(options))
    return {name: skulls[: options.max_cases] for name, skulls in sets.items()}


class _Scored(NamedTuple):
    """What came of one skull: rows, the holes that had no room, the worst rows with their cases and implants."""

    rows: list[dict[str, Any]]
    skipped: list[str]
    worst: list[tuple[dict[str, Any], SkullCase, Any]]


def _scored(options: argparse.Namespace, tasks: Sequence[Task]) -> list[_Scored]:
    """Score all skulls, in so many processes as were asked for; in the tasks' order."""
    jobs = min(options.jobs, len(tasks))
    if jobs <= 1:
        return _score_part(options, tasks)
    # Each process takes every n-th skull, so that all get some of every set, and loads the networks once.
    parts = [tasks[first::jobs] for first in range(jobs)]
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        done = list(pool.map(_score_part, [options] * jobs, parts))
    return [done[place % jobs][place // jobs] for place in range(len(tasks))]


def _score_part(options: argparse.Namespace, tasks: Sequence[Task]) -> list[_Scored]:
    """Score every method on every hole of some skulls."""
    methods, _ = _methods(options)
    ours = list(methods)[-1]
    grids = [None, *options.in_plane] if options.native else list(options.in_plane)
    results = []
    for test_set, skull, seed in tasks:
        rows: list[dict[str, Any]] = []
        skipped: list[str] = []
        worst = _Worst(ours, count=options.pictures)
        cases = skull_cases(
            test_set, [skull], kinds=options.kinds, grids=grids, seed=seed, skipped=skipped.append
        )
        for case in cases:
            grid = "native" if case.grid is None else f"{case.grid} in-plane"
            for name, method in methods.items():
                start = time.perf_counter()
                implant = method(case.defective)
                seconds = time.perf_counter() - start
                row = {
                    "test_set": case.test_set,
                    "grid": grid,
                    "case": case.name,
                    "kind": case.kind,
                    "size_mm": round(case.size_mm, 1),
                    "group": case.group,
                    "method": name,
                    **score(case, implant),
                    "seconds": seconds,
                }
                rows.append(row)
                worst.consider(row, case, implant)
            print(f"{case.test_set}: {case.name}, {case.kind}, {grid}", file=sys.stderr, flush=True)
        results.append(_Scored(rows, skipped, worst.kept))
    return results


class _Worst:
    """The cases that one method does worst, by the implant's Dice coefficient."""

    def __init__(self, method: str, *, count: int) -> None:
        self.method = method
        self.count = count
        self.kept: list[tuple[dict[str, Any], SkullCase, Any]] = []

    def consider(self, row: dict[str, Any], case: SkullCase, implant: Any) -> None:
        """Keep a case as long as it is among the worst."""
        if row["method"] == self.method:
            self.kept = sorted([*self.kept, (row, case, implant)], key=_implant_dice)[: self.count]

    def draw(self, folder: Path) -> list[Path]:
        """Draw them, the worst first."""
        paths = []
        for number, (row, case, implant) in enumerate(self.kept, start=1):
            paths.append(
                completion_figure(
                    case.defective,
                    torch.maximum(case.defective.as_tensor(), torch.as_tensor(implant).to(torch.uint8)),
                    implant,
                    affine=case.complete.affine,
                    truth=case.true_implant,
                    path=folder / f"skull_worst_{number}.png",
                    title=f"{self.method}, worst case {number}: {row['case']}, {row['kind']}, {row['grid']}",
                )
            )
        return paths


def _implant_dice(item: tuple[dict[str, Any], SkullCase, Any]) -> float:
    return float(item[0]["implant_dice"])


def _page(
    rows: Sequence[Mapping[str, Any]],
    notes: Sequence[str],
    skipped: Sequence[str],
    pictures: Sequence[Path],
    *,
    command: str,
) -> str:
    seen, unseen = ", ".join(SEEN_KINDS), ", ".join(UNSEEN_KINDS)
    lines = [
        "# Accuracy of skull completion",
        "",
        "Cells are `median / mean / worst` over the holes; every skull is of a patient, scan or phantom that no",
        f"network was trained on. Holes of the kinds {seen} were seen in training, up to a size; those of",
        f'"seen kinds, larger" exceed it, and the kinds {unseen} were never seen.',
        "Implant DSC, border DSC and HD95 are of the implant alone (a missing one has the volume's diagonal as",
        "HD95); RE is the share of wrong voxels of the volume. The hole counts as closed where no gap between",
        "implant and bone exceeds 2 voxels. Added outside is what lies over 5 mm from the true implant.",
        "The baselines keep their largest part only; the networks are cleaned as the bundle does it.",
        "Rows called short were trained from scratch for the same time each, which the bundle's accuracy.md tells.",
        "A scan that has a hole of its own, as the cranium has in its right forehead, is not complete: nothing is",
        "cut within 40 mm of it, and what a method fills there is not scored.",
        "Thresholds of a bundle may have been chosen on some of these skulls: its accuracy.md says which.",
        "",
        f"Made by `{command}`; every hole's scores are in [skull_accuracy.csv](skull_accuracy.csv).",
        "",
        *(f"- {note}" for note in notes),
        *(
            [f"- {len(skipped)} holes had no room in their skull and were skipped: {'; '.join(skipped)}."]
            if skipped
            else []
        ),
        "",
        result_tables(rows),
        "",
    ]
    if pictures:
        lines += [f'## Worst cases of "{rows[-1]["method"]}"', ""]
        lines += [f"![worst case {i}](pictures/{path.name})" for i, path in enumerate(pictures, start=1)]
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    main()
