"""What each part of the training of skull completion earns: short trainings that differ in one part each.

    python -m benchmarks.training_ablation --patients DIR --fine DIR --steps 300

Every variant starts from scratch, with as many steps, and is scored on the same holes of the validation skulls; with
several seeds it is trained once with each, which tells how much is chance. A killed run goes on where it was; variants
may run in processes side by side, and the page holds all that are done.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.command_line import command_line
from benchmarks.earlier_rows import read_rows
from benchmarks.score_commands import write_results
from benchmarks.skull_baselines import identity
from benchmarks.skull_cases import BUNDLE, TEST_KINDS, SkullCase, skull_cases
from benchmarks.skull_networks import BundleMethod
from benchmarks.skull_scores import COLUMNS, group_sections, markdown_table, score
from monai_sparse_refine.data import complete_skulls, phantom_cases, read_split
from monai_sparse_refine.report import write_case_table
from monai_sparse_refine.training import export_weights

EPOCH = 10  # steps between checkpoints
IDENTITY = "identity (hole left open)"
SHOWN = ("implant_dice", "border_dice", "hd95_mm", "closed")
_NEEDED = ("test_set", "case", "kind", "group", "method", "steps", *SHOWN)
_TRAIN = json.loads((BUNDLE / "configs" / "train.json").read_text(encoding="utf-8"))
_STEPS = _TRAIN["train"]["cheap_transforms"]
# Place in that list of what keeps image and label alone.
_LAST = len(_STEPS) - 1


class Variant(NamedTuple):
    """What differs from the recipe: entries of `train.json` by id, how often as many steps, and in the inference."""

    train: dict[str, Any]
    times: int = 1
    method: dict[str, Any] = {}


def _overlay(name: str) -> dict[str, Any]:
    """One of the bundle's files for a second ``--config_file``."""
    entries: dict[str, Any] = json.loads((BUNDLE / "configs" / f"{name}.json").read_text(encoding="utf-8"))
    return entries


def _silenced(channel: int) -> dict[str, Any]:
    """The training's last transform followed by one that empties a channel of the input."""
    kept = [float(other != channel) for other in range(3)]
    zero = f"$lambda image: image * torch.tensor({kept})[:, None, None, None]"
    step = {"_target_": "Lambdad", "keys": "image", "func": zero}
    both = {"_target_": "Compose", "transforms": [_STEPS[_LAST], step]}
    return {f"train#cheap_transforms#{_LAST}": both}


def _distilled(teacher: str) -> dict[str, Any]:
    return {"loss#_target_": "benchmarks.distilled_loss.DistilledLoss", "loss#teacher": teacher}


# Entries of `train.json` for all variants that do not name them: every case is prepared anew, as before `EchoDataset`.
RECIPE: dict[str, Any] = {"echoes": 1}
_FINER = [0.25, 0.5, 0.75, 1.0, 1.5, 2.0]
_WIDER = {"network_def#channels": [12, 24, 48, 72, 96, 144, 192]}  # half as many again
VARIANTS: dict[str, Variant] = {
    "the recipe": Variant({}),
    "twice as many steps": Variant({}, times=2),
    "every case counts four times, twice as many steps": Variant({"echoes": 4}, times=2),
    "every case counts four times, five times as many steps": Variant({"echoes": 4}, times=5),
    "wider layers, counted four times, five times as many steps": Variant(
        {"echoes": 4, **_WIDER}, times=5, method={"overrides": _WIDER}
    ),
    "without the mirror image": Variant(_silenced(1), method={"silent": [1]}),
    "without the interpolated vault": Variant(_silenced(2), method={"silent": [2]}),
    "without the Dice term": Variant({"dice_weight": 0.0}),
    "what is known weighs as much": Variant({"loss#known_weight": 1.0}),
    "finer levels weigh more": Variant({"loss#level_weights": _FINER}),
    "finer levels weigh more, counted four times, five times as many steps": Variant(
        {"echoes": 4, "loss#level_weights": _FINER}, times=5
    ),
    "coarser levels weigh more": Variant({"loss#level_weights": [2.0, 1.5, 1.0, 0.75, 0.5, 0.25]}),
    "finer levels taught by coarser ones": Variant(_distilled("coarse")),
    "coarser levels taught by finer ones": Variant(_distilled("fine")),
    "input corrupted": Variant(_overlay("corrupted_input")),
    "input corrupted, counted four times, five times as many steps": Variant(
        {"echoes": 4, **_overlay("corrupted_input")}, times=5
    ),
    "pruned at 0": Variant({"keep_threshold": 0.0}, method={"overrides": {"keep_threshold": 0.0}}),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Train and score the variants, and write ``training_ablation.md`` and ``.csv``."""
    options = _options(arguments)
    cases: list[SkullCase] = []
    for seed, name in product(options.seeds, options.variants):
        label = _label(name, seed)
        folder = _folder(options, label)
        if (folder / "scores.csv").is_file():
            print(f"{label}: done before", flush=True)
            continue
        weights = train(name, folder, options, seed=seed)
        cases = cases or _cases(options)
        method = BundleMethod(BUNDLE, weights=weights, engine=options.engine, **VARIANTS[name].method)
        told = {"method": label, "steps": options.steps * VARIANTS[name].times}
        rows = [{**_of(case), **told, **score(case, method(case.defective))} for case in cases]
        write_case_table(rows, folder / "scores.csv")
        print(f"{label}: trained and scored", flush=True)
    _write(options, command_line("training_ablation", arguments))


def _label(name: str, seed: int) -> str:
    """What a training is called in the table."""
    return name if seed == 0 else f"{name}, seed {seed}"


def _folder(options: argparse.Namespace, label: str) -> Path:
    return Path(options.work_dir) / label.replace(", ", "_").replace(" ", "_")


def train(name: str, folder: Path, options: argparse.Namespace, *, seed: int) -> Path:
    """Train a variant, or go on where a killed training was; returns the file of its weights.

    Raises:
        subprocess.CalledProcessError: it failed; what it printed on stderr is on stderr.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "phantoms").exists():  # drawn once for all
        (folder.parent / "phantoms").mkdir(exist_ok=True)
        (folder / "phantoms").symlink_to("../phantoms")
    overlay = folder / "variant.json"
    overlay.write_text(json.dumps({**RECIPE, **VARIANTS[name].train}, indent=4), encoding="utf-8")
    epochs = options.steps * VARIANTS[name].times // EPOCH
    config = [str(BUNDLE / "configs" / "train.json"), str(overlay)]
    wanted: dict[str, object] = {
        "config_file": config,
        "bundle_root": BUNDLE,
        "dataset_dir": options.patients,
        "fine_dir": options.fine,
        "split": options.split,
        "engine": options.engine,
        "seed": seed,
        "work_dir": folder,
        "phantoms": options.phantoms,
        "phantom_spacing": options.phantom_spacing,
        "num_workers": 0,
        "max_epochs": epochs,
        "val_interval": epochs + 1,
        "train#trainer#epoch_length": EPOCH,
        **dict(pair.split("=", 1) for pair in options.set),
    }
    command = [*(sys.executable, "-W", "ignore", "-m", "monai.bundle", "run")]
    command += [f"--{key}={value}" for key, value in wanted.items() if value is not None]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    weights = folder / "weights.pt"
    export_weights(folder / "checkpoints" / f"checkpoint_epoch={epochs}.pt", weights)
    return weights


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--patients", help="folder of complete skulls of patients")
    parser.add_argument("--fine", help="folder with training and validation of fine skulls")
    parser.add_argument("--split", default=str(BUNDLE / "docs" / "split.json"), help="split of the patients")
    parser.add_argument("--phantoms", type=int, default=60, help="procedural skulls to train on")
    parser.add_argument(
        "--validation-phantoms", type=int, default=0, help="procedural skulls to score on too"
    )
    parser.add_argument(
        "--phantom-spacing", type=float, default=_TRAIN["phantom_spacing"], help="their voxel size in mm"
    )
    parser.add_argument("--kinds", nargs="+", default=list(TEST_KINDS), help="kinds of holes to score on")
    parser.add_argument("--steps", type=int, default=300, help=f"of every training; a multiple of {EPOCH}")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of the trainings of every variant")
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=VARIANTS, help="rows")
    parser.add_argument(
        "--set", nargs="*", default=[], metavar="ID=VALUE", help="other entries of train.json, for all"
    )
    parser.add_argument("--engine", default="native", help="auto, native or minkowski")
    parser.add_argument("--work-dir", default="runs/training_ablation", help="trainings and scores so far")
    parser.add_argument("--output", default="docs/results", help="folder to write to")
    options = parser.parse_args(arguments)
    if options.steps < EPOCH or options.steps % EPOCH:
        raise SystemExit(f"error: --steps is {options.steps}; expected a multiple of {EPOCH}")
    if not options.patients and not options.validation_phantoms:
        raise SystemExit("error: nothing to score on; give --patients or --validation-phantoms")
    return options


def _cases(options: argparse.Namespace) -> list[SkullCase]:
    """One hole of every kind in every validation skull; of the fine ones one variant of each patient."""
    sets = {}
    if options.patients:
        names = read_split(options.split, "validation")
        sets["patients"] = complete_skulls(options.patients, names=names)
    if options.fine:
        skulls = complete_skulls(f"{options.fine}/validation")
        sets["patients, interpolated to 1.5 mm"] = [s for s in skulls if s["name"].endswith("_fine0")]
    if options.validation_phantoms:
        folder = Path(options.work_dir) / "phantoms"
        sets["procedural phantoms"] = phantom_cases(
            folder, count=options.validation_phantoms, first_seed=500, spacing=options.phantom_spacing
        )
    return [
        case
        for name, skulls in sets.items()
        for case in skull_cases(name, skulls, kinds=options.kinds, seed=0)
    ]


def _of(case: SkullCase) -> dict[str, Any]:
    return {"test_set": case.test_set, "case": case.name, "kind": case.kind, "group": case.group}


def _write(options: argparse.Namespace, command: str) -> None:
    """The table and the page of all variants that are done, in the order of `VARIANTS`."""
    rows: list[dict[str, Any]] = [
        {**_of(case), "method": IDENTITY, "steps": 0, **score(case, identity(case.defective))}
        for case in _cases(options)
    ]
    for name, seed in product(VARIANTS, sorted(set(options.seeds))):
        file = _folder(options, _label(name, seed)) / "scores.csv"
        if file.is_file():
            rows += read_rows(file, columns=_NEEDED, made_by="benchmarks.training_ablation")
    write_results(options.output, "training_ablation", rows, _page(rows, command=command))


def _page(rows: Sequence[dict[str, Any]], *, command: str) -> str:
    columns = [column for column in COLUMNS if column.name in SHOWN]
    methods = list(dict.fromkeys(row["method"] for row in rows))
    lines = [
        "# Ablation of the training of skull completion",
        "",
        "Short trainings from scratch on the bundle's own stream of skulls and holes, with one part changed in each,",
        "scored on the validation skulls with all that the bundle does around the network. Cells are `median / mean /",
        "worst`. Trainings of so few steps differ by chance too: rows of another seed tell by how much.",
        f"Made by `{command}`, with other variants that were trained by it before; every hole is in",
        "[training_ablation.csv](training_ablation.csv).",
        "",
        _summary_table(rows, methods),
    ]
    return "\n".join([*lines, "", group_sections(rows, columns)]) + "\n"


def _summary_table(rows: Sequence[dict[str, Any]], methods: Sequence[str]) -> str:
    """Steps of the training, and mean Dice of all holes of each test set."""
    sets = list(dict.fromkeys(row["test_set"] for row in rows))
    table = []
    for method in methods:
        mine = [row for row in rows if row["method"] == method]
        means = []
        for test_set in sets:
            values = [float(row["implant_dice"]) for row in mine if row["test_set"] == test_set]
            means.append(f"{sum(values) / len(values):.3f}")
        table.append([method, str(mine[0]["steps"]), *means])
    headings = ["", "steps", *(f"{test_set}: mean implant DSC" for test_set in sets)]
    return markdown_table(headings, table)


if __name__ == "__main__":
    main()
