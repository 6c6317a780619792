"""Score skull completion on holes of plain shapes, which neither training nor the accuracy table draws.

    python -m benchmarks.skull_shapes --patients DIR --fine FINE/validation
    python -m benchmarks.skull_shapes --scans DIR --phantoms 4 --output docs/results/shapes_of_whole_heads

Balls, a box along the head's axes, a cylinder, two balls at once, a wedge, balls at orbit and occiput, and a head cut
off level below the vertex. It is a test of habits: a network may have learned what the drawn holes have in common. And
the complete skulls themselves, in which nothing is to be found.
"""

from __future__ import annotations

import argparse
import multiprocessing
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor

from benchmarks.command_line import command_line
from benchmarks.score_commands import add_bundle_options, add_whole_head_options, whole_heads, write_results
from benchmarks.skull_baselines import BASELINES, Method
from benchmarks.skull_cases import BUNDLE, OWN_HOLES, SkullCase, complete_skull, own_hole
from benchmarks.skull_networks import BundleMethod
from benchmarks.skull_scores import COLUMNS, markdown_table, score, summary
from monai_sparse_refine.data import complete_skulls, read_split
from monai_sparse_refine.transforms.vault import Vault, vault_of
from monai_sparse_refine.volume import as_mask, spacing_of

OURS = "ours"
LEVEL = "top cut off level"
WHOLE = "none"
SHOWN = ("implant_dice", "border_dice", "hd95_mm", "closed", "outside_percent")
LEAST_ML = 1.5  # a smaller hole says little
Row = dict[str, Any]
# Name of the test set, the skull's place in it, the skull.
Task = tuple[str, int, dict[str, Any]]
_WALL_SHARE = 0.7  # bone nearer to the middle than this share of the vault's radius is not its wall
_LEVEL_MM = 25.0


def main(arguments: Sequence[str] | None = None) -> None:
    """Score every hole and write ``skull_shapes.md`` and ``.csv``."""
    options = _options(arguments)
    tasks = [
        (test_set, number, skull)
        for test_set, skulls in _test_sets(options).items()
        for number, skull in enumerate(skulls)
    ]
    rows, whole = _scored(options, tasks)
    if not rows:
        raise SystemExit("error: no case; give --patients, --fine, --scans or --phantoms")
    methods = list(dict.fromkeys(row["method"] for row in rows))
    command = command_line("skull_shapes", arguments)
    page = _page(rows, whole, methods, where=_where(options), command=command)
    write_results(options.output, "skull_shapes", [*rows, *whole], page)


def _methods(options: argparse.Namespace) -> dict[str, Method]:
    return {**BASELINES, OURS: BundleMethod(options.bundle, weights=options.weights, engine=options.engine)}


def _scored(options: argparse.Namespace, tasks: Sequence[Task]) -> tuple[list[Row], list[Row]]:
    """Rows of all skulls' holes and of the complete skulls, scored in so many processes as were asked for."""
    jobs = max(1, min(options.jobs, len(tasks)))
    if jobs == 1:
        found = _score_part(options, tasks)
    else:
        parts = [tasks[first::jobs] for first in range(jobs)]
        with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
            done = list(pool.map(_score_part, [options] * jobs, parts))
        found = [done[place % jobs][place // jobs] for place in range(len(tasks))]
    return [row for rows, _ in found for row in rows], [row for _, rows in found for row in rows]


def _score_part(options: argparse.Namespace, tasks: Sequence[Task]) -> list[tuple[list[Row], list[Row]]]:
    """For every skull, the rows of its holes and those of itself."""
    methods = _methods(options)
    found = []
    for test_set, number, skull in tasks:
        rows: list[Row] = []
        for case in shape_cases(test_set, skull, seed=options.seed + number):
            row = {"test_set": test_set, "case": case.name, "shape": case.kind, "ml": case.size_mm}
            rows += [
                {**row, "method": name, **score(case, method(case.defective))}
                for name, method in methods.items()
            ]
            print(test_set, case.name, case.kind, flush=True)
        found.append((rows, list(_added(test_set, skull, methods))))
    return found


def shape_cases(test_set: str, skull: Mapping[str, Any], *, seed: int) -> Iterator[SkullCase]:
    """A hole of every shape that takes at least `LEAST_ML` of a skull, clear of a hole that its scan has by itself.

    Args:
        test_set: name of the set.
        skull: ``{"label": file, "name": name}``.
        seed: decides where they lie.

    Yields:
        Cases whose ``kind`` is the shape and whose ``size_mm`` is the hole's volume in ml.
    """
    complete = complete_skull(skull)
    bone = as_mask(complete)
    affine = complete.affine.cpu().numpy().astype(float)
    vault = vault_of(bone, affine)
    index = np.argwhere(bone)
    local = vault.local(index @ affine[:3, :3].T + affine[:3, 3])  # (N, 3): right, front, up, in mm
    wall = np.linalg.norm(local, axis=1) > _WALL_SHARE * vault.model_radius(local)
    voxel_ml = float(np.prod(spacing_of(complete))) / 1000.0
    own = own_hole(str(skull["name"]), complete)
    for shape, inside in _shapes(vault, local, np.random.default_rng(seed)).items():
        lost = index[inside & wall]
        if len(lost) * voxel_ml < LEAST_ML or (own is not None and bool(own[0][tuple(lost.T)].any())):
            continue
        holed = complete.as_tensor().numpy().copy()
        holed[0][tuple(lost.T)] = 0
        defective = MetaTensor(torch.from_numpy(holed), affine=complete.affine)
        ml = round(len(lost) * voxel_ml, 1)
        yield SkullCase(test_set, str(skull["name"]), shape, ml, None, complete, defective, own)


def _shapes(vault: Vault, local: np.ndarray, random: np.random.Generator) -> dict[str, np.ndarray]:
    """Which points (N, 3), in the vault's frame in mm, lie in each shape: bool (N,)."""

    def at(azimuth: float, elevation: float) -> np.ndarray:
        """A place on the vault, from angles in degrees: 0 is in front, 90 to the right and up."""
        a, e = np.deg2rad(azimuth), np.deg2rad(elevation)
        direction = np.array([np.cos(e) * np.sin(a), np.cos(e) * np.cos(a), np.sin(e)])
        return direction * (vault.outer_radius(direction) or vault.radius_mm)

    def somewhere(lowest: float) -> np.ndarray:
        return at(random.uniform(-180.0, 180.0), random.uniform(lowest, 80.0))

    def ball(place: np.ndarray, radius: float) -> np.ndarray:
        return np.asarray(np.linalg.norm(local - place, axis=1) < radius)

    above = vault.above_base(local)
    shapes = {
        "ball of 20 mm": ball(somewhere(15.0), 20.0),
        "ball of 35 mm": ball(somewhere(15.0), 35.0),
        "ball of 50 mm": ball(somewhere(25.0), 50.0),
        "box": (np.abs(local - somewhere(25.0)) < random.uniform(20.0, 35.0, 3)).all(axis=1),
    }
    axis = somewhere(25.0)
    axis /= np.linalg.norm(axis)
    along = local @ axis
    away = np.linalg.norm(local - along[:, None] * axis, axis=1)
    shapes["cylinder"] = (away < random.uniform(15.0, 35.0)) & (along > 0)
    right, left = (at(side * random.uniform(40.0, 140.0), random.uniform(20.0, 60.0)) for side in (1.0, -1.0))
    shapes["two balls of 22 mm"] = ball(right, 22.0) | ball(left, 22.0)
    turn = np.rad2deg(np.arctan2(local[:, 0], local[:, 1])) - random.uniform(-180.0, 180.0)
    shapes["wedge"] = (np.abs((turn + 180.0) % 360.0 - 180.0) < 22.0) & (above > 15.0) & (above < 60.0)
    orbit = at(random.choice((-1.0, 1.0)) * random.uniform(15.0, 30.0), random.uniform(0.0, 8.0))
    shapes["ball at an orbit"] = ball(orbit, 25.0) & (above > -15.0)
    shapes["ball at the occiput"] = ball(
        at(180.0 + random.uniform(-20.0, 20.0), random.uniform(-5.0, 15.0)), 35.0
    )
    vertex = float(vault.above_base(at(0.0, 90.0)[None])[0])
    return {**shapes, LEVEL: above > vertex - _LEVEL_MM}


def _test_sets(options: argparse.Namespace) -> dict[str, list[dict[str, Any]]]:
    sets = {}
    names = read_split(options.split, options.part)
    if options.patients:
        sets["patients, 4 mm"] = complete_skulls(options.patients, names=names)
    if options.fine:
        fine = complete_skulls(options.fine)
        sets["patients, interpolated to 1.5 mm"] = [
            skull for skull in fine if skull["name"].endswith("_fine0") and skull["name"][:-6] in names
        ]
    sets.update(whole_heads(options))
    return {name: skulls[: options.max_cases] for name, skulls in sets.items()}


def _where(options: argparse.Namespace) -> str:
    """Which heads were scored, in words."""
    patients = [f"patients of the split's {options.part} part"] if options.patients or options.fine else []
    whole = ["heads that are whole at the top"] if options.scans or options.phantoms else []
    return " and ".join(patients + whole)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--patients", help="folder of complete skulls of patients")
    parser.add_argument("--fine", help="folder of fine skulls of them")
    add_whole_head_options(parser)
    parser.add_argument("--split", default=str(BUNDLE / "docs" / "split.json"), help="split of the patients")
    parser.add_argument("--part", default="validation", help="part of the split")
    parser.add_argument("--max-cases", type=int, help="skulls of every set")
    parser.add_argument("--seed", type=int, default=100, help="decides the holes")
    parser.add_argument("--jobs", type=int, default=1, help="processes that share the skulls")
    add_bundle_options(parser)
    return parser.parse_args(arguments)


def _added(test_set: str, skull: Mapping[str, Any], methods: Mapping[str, Method]) -> Iterator[Row]:
    """What each method adds to a complete skull, in ml; nothing of a scan that is not complete."""
    if skull["name"] in OWN_HOLES:
        return
    complete = complete_skull(skull)
    voxel_ml = float(np.prod(spacing_of(complete))) / 1000.0
    for name, method in methods.items():
        ml = np.count_nonzero(as_mask(method(complete))) * voxel_ml
        row = {"test_set": test_set, "case": skull["name"], "shape": WHOLE, "ml": 0.0}
        yield {**row, "method": name, "added_ml": ml}


def _page(
    rows: Sequence[Row],
    whole: Sequence[Row],
    methods: Sequence[str],
    *,
    where: str,
    command: str,
) -> str:
    columns = [column for column in COLUMNS if column.name in SHOWN]
    lines = [
        "# Skull completion: holes of other shapes",
        "",
        "Cells are `median / mean / worst` over holes that neither training nor the accuracy table draws, in",
        f"{where}. Those below {LEAST_ML} ml, as where a scan ends first, are left out.",
        f'But for "{LEVEL}": training cuts caps too, though seldom one just there.',
        f"Made by `{command}`; every hole is in [skull_shapes.csv](skull_shapes.csv).",
    ]
    for test_set in dict.fromkeys(row["test_set"] for row in rows):
        mine = [row for row in rows if row["test_set"] == test_set]
        groups = {
            "all but those cut off level": [row for row in mine if row["shape"] != LEVEL],
            LEVEL: [row for row in mine if row["shape"] == LEVEL],
        }
        for group, members in groups.items():
            if not members:
                continue
            lines += ["", f"## {test_set}, {group}: {len(members) // len(methods)} holes", ""]
            table = [
                [name, *(summary([row for row in members if row["method"] == name], c) for c in columns)]
                for name in methods
            ]
            lines.append(markdown_table(["", *(column.heading for column in columns)], table))
        shapes = [
            [shape, *(_dice(mine, shape, name) for name in methods)]
            for shape in dict.fromkeys(row["shape"] for row in mine)
        ]
        lines += ["", f"## {test_set}, mean implant DSC by shape", "", markdown_table(["", *methods], shapes)]
        found = [row for row in whole if row["test_set"] == test_set]
        if not found:
            continue
        lines += ["", f"## {test_set}, complete: {len(found) // len(methods)} skulls", ""]
        lines.append(_added_table(found, methods))
    return "\n".join(lines) + "\n"


def _added_table(rows: Sequence[Mapping[str, Any]], methods: Sequence[str]) -> str:
    """How many complete skulls get an implant, and how large it is where they do."""
    table = []
    for name in methods:
        added = [float(row["added_ml"]) for row in rows if row["method"] == name]
        false = [ml for ml in added if ml > 0]
        sizes = f"{np.median(false):.1f} / {max(false):.1f}" if false else "none"
        table.append([name, f"{len(false)} of {len(added)}", sizes])
    return markdown_table(["", "get an implant", "ml of it (median / most)"], table)


def _dice(rows: Sequence[Mapping[str, Any]], shape: str, method: str) -> str:
    """Mean of one shape's holes, and how many they are."""
    found = [float(row["implant_dice"]) for row in rows if row["shape"] == shape and row["method"] == method]
    return f"{np.mean(found):.3f} ({len(found)})"


if __name__ == "__main__":
    main()
