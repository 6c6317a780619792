"""Score skull completion on heads that are turned, cropped, spoilt or scanned coarsely: does it still work?

    python -m benchmarks.skull_robustness --scans ../shared/data/skull_masks --phantoms 4

The same hole in the same head, given to every method as it is and after each change. Heads that end below the vertex
are left out: turned, they would end aslant in mid-air, which no scan does.
``--changes`` with ``--earlier`` puts some changes into a table of the same holes.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from monai.data import MetaTensor
from scipy import ndimage
from scipy.spatial.transform import Rotation

from benchmarks.command_line import command_line
from benchmarks.earlier_rows import read_rows
from benchmarks.score_commands import add_bundle_options, add_whole_head_options, whole_heads, write_results
from benchmarks.skull_baselines import Method, identity, interpolation, registered_mirror
from benchmarks.skull_cases import TEST_KINDS, SkullCase, skull_cases
from benchmarks.skull_networks import BundleMethod
from benchmarks.skull_scores import markdown_table, score
from monai_sparse_refine.errors import InputError, or_exit
from monai_sparse_refine.volume import as_mask, spacing_of

OURS = "ours"
AS_IT_IS = "as it is"
_CROP_MM = 110.0
_SLICES = 3
_TILT = 20.0
_PORES, _SPECKS, _SPECK_REACH = 1.6, 2.6, 3  # standard deviations of a smooth noise; voxels from the bone
Row = dict[str, Any]


class Head(NamedTuple):
    """A head with a hole: bool [X, Y, Z] each, in RAS orientation; voxel sizes in mm (3,)."""

    complete: np.ndarray
    defective: np.ndarray
    unscored: np.ndarray
    spacing: np.ndarray


def turned(head: Head, *, degrees: tuple[float, float, float]) -> Head:
    """Turned about its axes to the right, front and top (nodded, rolled, turned), in a volume that holds all of it."""
    rotation = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
    half = (np.array(head.complete.shape) - 1) / 2
    corners = np.array(np.meshgrid(*((-h, h) for h in half * head.spacing), indexing="ij")).reshape(3, -1)
    wider = np.ceil(np.abs(rotation @ corners).max(axis=1) / head.spacing)
    # From a voxel of the turned volume to one of the volume that was there, about the middle of both.
    back = rotation.T * head.spacing / head.spacing[:, None]
    shape = tuple(int(n) for n in 2 * wider + 1)

    def turn(mask: np.ndarray) -> np.ndarray:
        values = ndimage.affine_transform(
            mask.astype(np.float32), back, offset=half - back @ wider, output_shape=shape, order=1
        )
        return np.asarray(values >= 0.5)

    return Head(turn(head.complete), turn(head.defective), turn(head.unscored), head.spacing)


def cropped(head: Head, *, below_vertex_mm: float = _CROP_MM) -> Head:
    """Without all that lies lower than so much below the topmost bone."""
    top = int(np.flatnonzero(head.complete.any(axis=(0, 1)))[-1])
    first = max(0, top - int(below_vertex_mm / head.spacing[2]))
    return _each(head, lambda mask: mask[:, :, first:])


def held(head: Head) -> Head:
    """With a head holder in the mask: a bowl 3 mm thick, a centimetre behind the head."""
    x, y, z = (np.flatnonzero(head.complete.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1)))
    more = int(30.0 / head.spacing[1])
    head = _each(head, lambda mask: np.pad(mask, ((0, 0), (more, 0), (0, 0))))
    across = (np.arange(head.complete.shape[0]) - (x[0] + x[-1]) / 2) * head.spacing[0]
    along = (np.arange(head.complete.shape[1]) - (y[0] + more)) * head.spacing[1]
    radius = 0.55 * (x[-1] - x[0]) * head.spacing[0] + 10.0
    away = np.hypot(across[:, None], along[None] - radius + 10.0)
    bowl = (np.abs(away - radius) < 1.5) & (along[None] < 30.0)
    holder = np.zeros_like(head.complete)
    holder[:, :, z[0] : z[-1]] = bowl[:, :, None]
    holder &= ~head.complete
    return head._replace(complete=head.complete | holder, defective=head.defective | holder)


def spoilt(head: Head) -> Head:
    """Porous bone and specks beside it, as a threshold leaves them in a noisy CT."""
    noise = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=head.complete.shape), 0.8)
    noise /= noise.std()
    lost = head.complete & ~head.defective
    near = ndimage.binary_dilation(head.complete, iterations=_SPECK_REACH)
    # None in the hole: nobody knows what a method should make of them.
    near &= ~ndimage.binary_dilation(lost, iterations=_SPECK_REACH)
    defective = head.defective & (noise < _PORES) | (noise > _SPECKS) & near & ~head.complete
    return head._replace(complete=defective | lost, defective=defective)


def thick_slices(head: Head) -> Head:
    """With slices three times as thick: a voxel is bone where half of it is."""
    x, y, z = head.complete.shape

    def coarse(mask: np.ndarray) -> np.ndarray:
        grouped = mask[:, :, : z // _SLICES * _SLICES].reshape(x, y, -1, _SLICES)
        return np.asarray(grouped.mean(axis=-1) >= 0.5)

    return _each(head, coarse)._replace(spacing=head.spacing * (1, 1, _SLICES))


def tilted(head: Head, *, degrees: float = _TILT) -> Head:
    """Sheared from slice to slice, as a CT of a tilted gantry is whose files say nothing of it."""
    z = head.complete.shape[2]
    lean = np.tan(np.deg2rad(degrees)) * head.spacing[2] / head.spacing[1]
    moves = np.rint(lean * (np.arange(z) - (z - 1) / 2)).astype(int)
    more = int(np.abs(moves).max())

    def shear(mask: np.ndarray) -> np.ndarray:
        wide = np.pad(mask, ((0, 0), (more, more), (0, 0)))
        return np.stack([np.roll(wide[:, :, k], move, axis=1) for k, move in enumerate(moves)], axis=2)

    return _each(head, shear)


CHANGES: dict[str, Callable[[Head], Head]] = {
    AS_IT_IS: lambda head: head,
    "rolled by 12 degrees": lambda head: turned(head, degrees=(0.0, 12.0, 0.0)),
    "chin raised by 15 degrees": lambda head: turned(head, degrees=(15.0, 0.0, 0.0)),
    "chin lowered by 15 degrees": lambda head: turned(head, degrees=(-15.0, 0.0, 0.0)),
    "turned by 20 degrees": lambda head: turned(head, degrees=(0.0, 0.0, 20.0)),
    f"cropped {_CROP_MM:.0f} mm below the vertex": cropped,
    "a head holder in the mask": held,
    "porous and speckled": spoilt,
    f"slices {_SLICES} times as thick": thick_slices,
    f"gantry tilted by {_TILT:.0f} degrees": tilted,
}


def changed_case(case: SkullCase, change: Callable[[Head], Head]) -> SkullCase:
    """A case after a change of its head; its volume begins at the origin of world space."""
    complete, defective = as_mask(case.complete), as_mask(case.defective)
    unscored = np.zeros_like(complete) if case.unscored is None else as_mask(case.unscored)
    head = change(Head(complete, defective, unscored, np.asarray(spacing_of(case.complete), dtype=float)))
    affine = torch.from_numpy(np.diag([*head.spacing, 1.0]))
    whole, holed = (
        MetaTensor(torch.from_numpy(np.ascontiguousarray(mask[None]).astype(np.uint8)), affine=affine)
        for mask in (head.complete, head.defective)
    )
    ignored = None if case.unscored is None else torch.from_numpy(np.ascontiguousarray(head.unscored)[None])
    return case._replace(complete=whole, defective=holed, unscored=ignored)


def main(arguments: Sequence[str] | None = None) -> None:
    """Score every hole after every change, and write ``skull_robustness.md`` and ``.csv``."""
    options = _options(arguments)
    earlier = or_exit(_read, options.earlier) if options.earlier else []
    skulls = [(name, skull) for name, found in whole_heads(options).items() for skull in found]
    if not skulls:
        raise SystemExit("error: no case; give --scans or --phantoms")
    rows = or_exit(_merged, _scored(options, skulls), earlier) if earlier else _scored(options, skulls)
    page = _page(rows, command=command_line("skull_robustness", arguments), scored=options.changes)
    write_results(options.output, "skull_robustness", rows, page)


def _scored(options: argparse.Namespace, skulls: Sequence[tuple[str, dict[str, Any]]]) -> list[Row]:
    """A row for every hole, change and method."""
    methods: dict[str, Method] = {
        "identity (hole left open)": identity,
        "mirror image, registered": registered_mirror,
        "surface interpolation": interpolation,
        OURS: BundleMethod(options.bundle, weights=options.weights, engine=options.engine),
    }
    rows = []
    for test_set, skull in skulls:
        for case in skull_cases(test_set, [skull], kinds=options.kinds, seed=options.seed):
            for change in options.changes:
                after = changed_case(case, CHANGES[change])
                told = {"test_set": test_set, "case": case.name, "kind": case.kind, "change": change}
                rows += [
                    {**told, "method": name, **score(after, method(after.defective))}
                    for name, method in methods.items()
                ]
            print(test_set, case.name, case.kind, flush=True)
    return rows


def _read(path: str) -> list[Row]:
    columns = ["test_set", "case", "kind", "change", "method", "implant_dice", "closed"]
    return read_rows(path, columns=columns, made_by="skull_robustness")


def _merged(rows: Sequence[Row], earlier: Sequence[Row]) -> list[Row]:
    """New rows and those of an earlier table's other changes, hole by hole, in the order of `CHANGES`.

    Raises:
        InputError: the earlier table has other holes.
    """

    def hole(row: Row) -> tuple[str, ...]:
        return (row["test_set"], row["case"], row["kind"])

    holes = list(dict.fromkeys(map(hole, rows)))
    if set(holes) != set(map(hole, earlier)):
        raise InputError("the earlier table has other holes; give the skulls, kinds and seed that made it")
    anew = {row["change"] for row in rows}
    all_rows = [*rows, *(row for row in earlier if row["change"] not in anew)]
    order = list(CHANGES)
    return sorted(all_rows, key=lambda row: (holes.index(hole(row)), order.index(row["change"])))


def _each(head: Head, step: Callable[[np.ndarray], np.ndarray]) -> Head:
    return Head(step(head.complete), step(head.defective), step(head.unscored), head.spacing)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_whole_head_options(parser)
    parser.add_argument("--kinds", nargs="+", default=list(TEST_KINDS), help="kinds of holes")
    parser.add_argument("--changes", nargs="+", default=list(CHANGES), choices=CHANGES, help="rows")
    parser.add_argument("--earlier", help="skull_robustness.csv of the same holes, for all other changes")
    parser.add_argument("--seed", type=int, default=0, help="decides the holes")
    add_bundle_options(parser)
    return parser.parse_args(arguments)


def _page(rows: Sequence[Row], *, command: str, scored: Sequence[str]) -> str:
    methods = list(dict.fromkeys(row["method"] for row in rows))
    lines = [
        "# Skull completion of heads that are turned, cropped or spoilt",
        "",
        "Every hole was cut once and completed after each change of the head. Cells are the mean implant DSC and how",
        "many holes are closed (no gap over 2 voxels); scored on the changed head's own grid.",
        f"Made by `{command}`; every hole is in [skull_robustness.csv](skull_robustness.csv).",
    ]
    if {row["change"] for row in rows} - set(scored):
        lines.append(
            "All other changes are of an earlier table of the same holes, made without `--changes` and `--earlier`."
        )
    for test_set in dict.fromkeys(row["test_set"] for row in rows):
        mine = [row for row in rows if row["test_set"] == test_set]
        holes = len({(row["case"], row["kind"]) for row in mine})
        lines += ["", f"## {test_set}: {holes} holes in {len({row['case'] for row in mine})} heads", ""]
        table = [
            [change, *(_cell(mine, change, method) for method in methods)]
            for change in dict.fromkeys(row["change"] for row in mine)
        ]
        lines.append(markdown_table(["", *methods], table))
    return "\n".join(lines) + "\n"


def _cell(rows: Sequence[Row], change: str, method: str) -> str:
    found = [row for row in rows if row["change"] == change and row["method"] == method]
    dice = np.mean([float(row["implant_dice"]) for row in found])
    return f"{dice:.3f} / {sum(float(row['closed']) for row in found):.0f}"


if __name__ == "__main__":
    main()
