"""Accuracy of the paper's networks and the dense twin at every resolution: tables, box plots and a CSV.

    python -m benchmarks.paper_accuracy --patients DIR --brains ../shared/data/brain_mandible_deepmind

The counterpart of table 2 and figures 2 to 4 of Li et al., Sci. Rep. 13:20229 (2023). Every network is trained here,
on the same small budget of processor time at each size, from coarse to fine, and scored on skulls it never saw; with
``--bundle`` the bundle, trained elsewhere and for longer, has a row beside them; ``--earlier`` scores it anew and takes
the networks' rows from an earlier table. A run that was killed goes on from ``--work-dir``; without an option of data
its kind of skulls is left out.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.data import MetaTensor

from benchmarks.command_line import command_line
from benchmarks.paper_accuracy_earlier import read_table, steps_text
from benchmarks.paper_accuracy_page import page, write_figures
from benchmarks.paper_skulls import CTSkulls, MRILikeSkulls, Skulls, test_phantoms, training_phantoms
from benchmarks.paper_training import make_network, predict, train
from benchmarks.skull_cases import SkullCase
from benchmarks.skull_networks import BundleMethod
from monai_sparse_refine.data import complete_skulls, read_split
from monai_sparse_refine.errors import InputError, or_exit
from monai_sparse_refine.files import atomic_path
from monai_sparse_refine.metrics import dice, reconstruction_error
from monai_sparse_refine.report import write_case_table

REPOSITORY = Path(__file__).resolve().parents[1]
SPLIT = REPOSITORY / "bundles" / "skull_completion" / "docs" / "split.json"
SIZES = {"ct": (64, 128, 256, 512), "mri": (30, 60, 90, 120)}
NETWORKS = ("sparse ch1", "dense ch1", "sparse ch2")
IDENTITY = "input mask (identity)"
SHIPPED = "skull_completion bundle"
Complete = Callable[[MetaTensor], torch.Tensor]
FINE = 128  # above this in-plane size fewer skulls are scored


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    options = _options(arguments)
    earlier = or_exit(read_table, options.earlier) if options.earlier else None
    if earlier is not None:
        options.networks = earlier.networks
    elif len(options.training_sizes) != len(options.networks):
        raise SystemExit("error: --training-sizes needs one number for each of --networks")
    kinds = or_exit(_skulls, options)
    rows: list[dict[str, Any]] = []
    trained: dict[tuple[str, str], dict[int, int]] = {}
    for key, skulls in kinds.items():
        sizes = options.sizes or SIZES[key]
        for name in options.networks:
            if earlier is None:
                steps = or_exit(_train, options, skulls, name, sizes)
            else:
                steps = earlier.steps.get((skulls.name, name), {})
            trained[skulls.name, name] = steps
        for size in sizes:
            count = options.max_cases if size <= FINE else options.fine_cases
            cases = list(skulls.test_cases(size, count=count))
            shipped = [SHIPPED] if options.bundle and key == "ct" else []
            for name in (IDENTITY, *options.networks, *shipped):
                if earlier is not None and name in options.networks:
                    rows += or_exit(earlier.scores, name, cases)
                else:
                    steps = trained.get((skulls.name, name), {})
                    rows += _scores(options, name, cases, steps, _stage_of(steps, size))
    output = Path(options.output)
    write_case_table(rows, output / "paper_accuracy.csv")
    write_figures(rows, output)
    with atomic_path(output / "paper_accuracy.md") as temporary:
        temporary.write_text(
            page(rows, trained, options, command=command_line("paper_accuracy", arguments)), encoding="utf-8"
        )
    print(f"written: {output / 'paper_accuracy.md'}, .csv and figures")


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--patients", help="folder of complete CT skulls (data.head_masks exports it)")
    parser.add_argument("--split", default=str(SPLIT), help="split file of the patients")
    parser.add_argument(
        "--phantoms", type=int, default=4, help="test phantoms; three times as many in training"
    )
    parser.add_argument("--brains", help="folder of brain masks for the MRI-like skulls")
    parser.add_argument("--test-brains", type=int, default=8, help="patients among them to test on")
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), help='such as "sparse ch1"')
    parser.add_argument("--sizes", type=int, nargs="+", help="in-plane voxels; by the kind of skull")
    parser.add_argument(
        "--seconds",
        type=float,
        nargs="+",
        default=[75.0, 45.0, 20.0, 20.0],
        help="of the processor, to train a network at each size, coarse to fine",
    )
    parser.add_argument(
        "--training-sizes",
        type=int,
        nargs="+",
        default=[4, 2, 2],
        help="of how many sizes, from the coarsest, each network is trained at; one number for each of --networks",
    )
    parser.add_argument(
        "--test-voxels", type=float, default=1e7, help="largest volume that the dense twin is applied to"
    )
    parser.add_argument("--bundle", help="folder of a completion bundle to score beside them")
    parser.add_argument(
        "--earlier",
        help="paper_accuracy.csv of an earlier run, to take the networks' rows from: trains nothing",
    )
    parser.add_argument("--fine-cases", type=int, default=4, help=f"test skulls above {FINE} in-plane voxels")
    parser.add_argument("--max-cases", type=int, help="test skulls up to there")
    parser.add_argument("--engine", default="native", help="auto, native or minkowski")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--work-dir", default="runs/paper_accuracy", help="checkpoints, weights and scores so far"
    )
    parser.add_argument("--output", default=str(REPOSITORY / "docs" / "results"), help="folder to write to")
    return parser.parse_args(arguments)


def _skulls(options: argparse.Namespace) -> dict[str, Skulls]:
    """The kinds of skulls whose data were given."""
    kinds: dict[str, Skulls] = {}
    if options.patients:
        training, test = (
            complete_skulls(options.patients, names=read_split(options.split, part))
            for part in ("training", "test")
        )
        folder, count = Path(options.work_dir) / "phantoms", options.phantoms
        kinds["ct"] = CTSkulls(
            training + training_phantoms(folder, 3 * count), test + test_phantoms(folder, count)
        )
    if options.brains:
        kinds["mri"] = MRILikeSkulls(options.brains, test=options.test_brains, seed=options.seed)
    if not kinds:
        raise InputError("no data: give --patients, --brains or both")
    return kinds


def _train(options: argparse.Namespace, skulls: Skulls, name: str, sizes: Sequence[int]) -> dict[int, int]:
    """Train one network; gives its steps by size, for the sizes that it is trained at."""
    count = options.training_sizes[options.networks.index(name)]
    stages = dict(zip(sizes[:count], options.seconds, strict=False))
    network = make_network(name, engine=options.engine, seed=options.seed)
    return train(
        network,
        skulls,
        stages,
        _folder(options, skulls.name, name),
        seed=options.seed,
        report=lambda text: print(f"{skulls.name}, {name}, {text}", file=sys.stderr, flush=True),
    )


def _stage_of(steps: Mapping[int, int], size: int) -> int | None:
    """The size whose weights are applied at a size: its own, else the finest below it."""
    return max((trained for trained in steps if trained <= size), default=None)


def _scores(
    options: argparse.Namespace,
    name: str,
    cases: Sequence[SkullCase],
    steps: Mapping[int, int],
    stage: int | None,
) -> list[dict[str, Any]]:
    """Score one network on the cases of one size, or read its scores of an earlier run.

    The bundle may have changed since that run and is always scored.
    """
    first = cases[0]
    folder = _folder(options, first.test_set, name)
    path = folder / f"scores_{first.grid}.json"
    if path.exists() and name != SHIPPED:
        found: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
        if [row["case"] for row in found] == [case.name for case in cases]:
            return found
    largest = max(case.complete.numel() for case in cases)
    if "dense" in name and largest > options.test_voxels:
        return []
    complete = _method(options, name, folder, stage)
    rows = []
    for case in cases:
        bone, true = case.defective > 0, case.complete > 0
        found_mask = complete(case.defective)
        whole = bone | found_mask
        rows.append(
            {
                "skulls": case.test_set,
                "size": case.grid,
                "case": case.name,
                "kind": case.kind,
                "method": name,
                "weights_of": stage,
                "steps": steps_text(steps, stage),
                "dice": dice(whole, true),
                "re_percent": reconstruction_error(whole, true),
                "implant_dice": dice(whole & ~bone, true & ~bone),
                "own_dice": dice(found_mask, true) if stage is not None else None,
                "occupied": int(true.sum()),
                "volume": true.numel(),
            }
        )
    print(f"{first.test_set}, {name}, size {first.grid}: {len(rows)} scored", file=sys.stderr, flush=True)
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(rows), encoding="utf-8")
    return rows


def _method(options: argparse.Namespace, name: str, folder: Path, stage: int | None) -> Complete:
    """What finds the missing bone of a defective skull [1, X, Y, Z], as bool of that shape."""
    if name == SHIPPED:
        bundle = BundleMethod(options.bundle, engine=options.engine)
        return lambda defective: bundle(defective).as_tensor() > 0
    if stage is None:
        return lambda defective: torch.zeros_like(defective.as_tensor(), dtype=torch.bool)
    network = make_network(name, engine=options.engine, seed=options.seed)
    network.load_state_dict(torch.load(folder / f"weights_{stage}.pt", weights_only=True))
    return lambda defective: predict(network, defective.as_tensor())


def _folder(options: argparse.Namespace, skulls: str, name: str) -> Path:
    return Path(options.work_dir) / skulls.replace(" ", "_") / name.replace(" ", "_")


if __name__ == "__main__":
    main()
