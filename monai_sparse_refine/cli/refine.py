"""The command `refine`: from files to refined files, one case after the other."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import torch
from monai.data import MetaTensor
from tqdm import tqdm

from monai_sparse_refine.cli.cases import Case, find_cases, read_case
from monai_sparse_refine.cli.outputs import write_completion, write_refinement
from monai_sparse_refine.cli.ranks import Ranks
from monai_sparse_refine.data import check_output_dir
from monai_sparse_refine.data.inputs import check_apart, check_device
from monai_sparse_refine.errors import InputError
from monai_sparse_refine.report import write_case_table
from monai_sparse_refine.transforms import RefineGate, SparseRefine, ToBinaryMask, load_recipe
from monai_sparse_refine.transforms.label_presets import LabelSelection, resolve_labels
from monai_sparse_refine.transforms.refine_recipe import RefineRecipe
from monai_sparse_refine.volume import as_volume, volume_kind

__all__ = ["run"]

Row = dict[str, Any]


def run(options: argparse.Namespace) -> int:
    """Refine what the options say; returns 0, or 1 where a case could not be refined.

    Raises:
        InputError: nothing can be refined: no input, no bundle, weights that do not fit, no place to write.
    """
    ranks = Ranks.from_environment()
    given = options.input.expanduser()
    folder = (options.output or given.resolve().parent / "refined").expanduser()
    cases = find_cases(options.input)
    images = _images(options.image, cases)
    check_output_dir(folder)
    check_apart(given, folder)
    labels = _labels(options.labels)
    resolve_labels(labels, options.label_preset)  # before the weights are read
    if options.device:
        check_device(options.device)
    device = torch.device(options.device) if options.device else ranks.device()
    overrides = {} if options.max_voxels is None else {"max_voxels": options.max_voxels}
    recipe = load_recipe(
        options.bundle or options.task, weights=options.weights, device=device, overrides=overrides
    )
    worker = _Worker(options, recipe, labels, folder)
    with ranks.together():
        rows, failed = _work(worker, ranks, cases, images, quiet=options.quiet)
        every = ranks.gather(rows)
        failures = ranks.gather([{"case": name} for name in failed])
        if ranks.rank == 0:
            if every:
                write_case_table(every, folder / "cases.csv")
            if not options.quiet:
                done = len(cases) - len(failures)
                where = f"results in {folder}" if done else "nothing is written"
                print(f"{done} of {len(cases)} cases done; {where}")
    return 1 if failures else 0


def _work(
    worker: _Worker, ranks: Ranks, cases: list[Case], images: dict[str, Case], *, quiet: bool
) -> tuple[list[Row], list[str]]:
    """Refine this process's cases; a case that cannot be refined does not stop the others."""
    rows: list[Row] = []
    failed: list[str] = []
    mine = ranks.shard(cases)
    # A bar where a person looks at a terminal, lines everywhere.
    with tqdm(mine, disable=True if quiet or ranks.world > 1 else None, unit="case", leave=False) as bar:
        for number, case in bar:
            started = time.perf_counter()
            try:
                found, files = worker(case, images.get(case.name))
            except Exception as error:  # whatever is wrong with one case, the others are done
                kind = "" if isinstance(error, (InputError, OSError)) else f"{type(error).__name__}: "
                tqdm.write(f"error: {case.name}: {kind}{error}", file=sys.stderr)
                failed.append(case.name)
                continue
            rows += [{"case": case.name, **row, "ids": " ".join(map(str, row["ids"]))} for row in found]
            if ranks.world == 1:  # so that an interrupted run has a table of what is finished
                write_case_table(rows, worker.folder / "cases.csv")
            if not quiet:
                seconds = time.perf_counter() - started
                tqdm.write(f"[{number}/{len(cases)}] {case.name}: {seconds:.1f} s, {len(files)} files")
                for row in found:
                    tqdm.write("    " + _line(row))
                sys.stdout.flush()
    return rows, failed


class _Worker:
    """Reads, refines and writes one case."""

    def __init__(
        self, options: argparse.Namespace, recipe: RefineRecipe, labels: LabelSelection, folder: Path
    ) -> None:
        self.recipe = recipe
        self.folder = folder
        self.written = {"mesh": not options.no_mesh, "picture": not options.no_picture}
        self.is_map = labels is not None or options.label_preset is not None
        if not self.is_map:
            # A binary mask is of the one structure that the network is for.
            labels = {recipe.labels[0]: 1} if recipe.labels and len(recipe.labels) == 1 else 1
        gate = None
        if not options.no_gate:
            gate = RefineGate(options.max_volume_change, options.min_dice)
        self.refine = SparseRefine(
            network=recipe, labels=labels, label_preset=options.label_preset, gate=gate
        )
        self.to_mask = ToBinaryMask(hu_threshold=options.hu_threshold)
        self.hu_threshold = options.hu_threshold

    def __call__(self, case: Case, image: Case | None) -> tuple[list[Row], list[Path]]:
        """Refine one case; the rows of its report, and the files written."""
        volume = read_case(case)
        if not self.is_map:
            self._check_kind(volume, case)
            volume = self.to_mask(volume)  # type: ignore[assignment]  # a MetaTensor stays one
        after: Any
        after, rows = self.refine.refine(volume, None if image is None else read_case(image))
        if self.recipe.keep_input and not self.is_map:
            return rows, write_completion(case.name, volume, after, self.folder, **self.written)
        return rows, write_refinement(case.name, volume, after, rows, self.folder, **self.written)

    def _check_kind(self, volume: MetaTensor, case: Case) -> None:
        """Bone above a threshold is a skull, and nothing else."""
        kind = volume_kind(as_volume(volume), hu_threshold=self.hu_threshold, name=str(case.files[0]))
        if kind == "ct" and "skull" not in (self.recipe.labels or ()):
            raise InputError(
                f"{case.files[0]}: is a CT, and this task refines masks; give the mask, and the CT as --image"
            )


def _labels(given: list[str] | None) -> LabelSelection:
    """Labels from the command line: names and ids, or NAME=ID and NAME=ID,ID."""
    if given is None:
        return None
    if not any("=" in item for item in given):
        return given
    named: dict[str, list[int]] = {}
    for item in given:
        name, _, ids = item.partition("=")
        try:
            named[name] = [int(number) for number in ids.split(",")]
        except ValueError as error:
            raise InputError(
                f"--labels has {item!r}; expected NAME=ID or NAME=ID,ID for all of them"
            ) from error
    return named


def _images(path: Path | None, cases: list[Case]) -> dict[str, Case]:
    """The image of every case, by the case's name."""
    if path is None:
        return {}
    images = find_cases(path)
    if len(images) == len(cases) == 1:
        return {cases[0].name: images[0]}
    found = {image.name: image for image in images}
    missing = [case.name for case in cases if case.name not in found]
    if missing:
        raise InputError(
            f"--image {path}: has no image for {len(missing)} of {len(cases)} cases, the first is {missing[0]!r}; "
            "name the images like the masks"
        )
    return found


def _line(row: Row) -> str:
    """One label of a case, for a person."""
    if row["refined"] and row["voxels_before"] == row["voxels_after"]:
        return "{label}: {ml_after:.1f} ml as before".format(**row)
    if row["refined"]:
        return "{label}: {ml_before:.1f} -> {ml_after:.1f} ml".format(**row)
    return f"{row['label']}: left as it is, {row['reason']}"
