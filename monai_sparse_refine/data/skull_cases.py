"""Data lists for skull completion: complete skulls to cut, phantoms to make, fixed cases to score."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib

from monai_sparse_refine.data.inputs import check_on_grid_of, check_volume, find_volumes
from monai_sparse_refine.data.phantom_volume import skull_phantom
from monai_sparse_refine.errors import InputError
from monai_sparse_refine.files import atomic_path
from monai_sparse_refine.volume import case_name


def complete_skulls(folder: str | Path | None, *, names: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """List the complete skulls (masks or CTs) of a folder as ``{"label": path, "name": name}``.

    Args:
        folder: folder of NIfTI or NRRD files; None gives an empty list.
        names: keep only these case names, in this order (a split).

    Raises:
        InputError: if the folder has no volumes or lacks a named case.
    """
    if folder is None:
        return []
    found = {case_name(path): path for path in find_volumes(folder)}
    if names is None:
        return [{"label": str(path), "name": name} for name, path in sorted(found.items())]
    missing = [name for name in names if name not in found]
    if missing:
        raise InputError(f"{folder} lacks {len(missing)} cases of the split, the first is {missing[0]!r}.")
    return [{"label": str(found[name]), "name": name} for name in names]


def read_split(path: str | Path, part: str) -> list[str]:
    """Case names of one part ("training", "validation", "test") of a split file (JSON).

    Raises:
        InputError: if the file is missing, is no such file, or lacks the part.
    """
    try:
        split = json.loads(Path(path).expanduser().read_text(encoding="utf-8"))
        return [str(name) for name in split[part]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f'Split {path} cannot be read: expected a JSON object with a list "{part}".'
        ) from error


def phantom_cases(
    folder: str | Path, *, count: int, first_seed: int = 0, spacing: float = 2.0
) -> list[dict[str, Any]]:
    """List ``count`` procedural skulls, made on first use and kept in ``folder`` (written atomically).

    Args:
        folder: where the phantoms are kept, one file per seed and spacing.
        count: how many.
        first_seed: seed of the first one; the others follow.
        spacing: voxel size in mm.
    """
    cases = []
    for seed in range(first_seed, first_seed + count):
        path = Path(folder).expanduser() / f"phantom_{seed:05d}_{spacing:g}mm.nii.gz"
        if not path.exists():
            phantom = skull_phantom(seed, spacing=spacing)
            with atomic_path(path) as temporary:
                nib.save(nib.Nifti1Image(phantom[0].numpy(), phantom.affine.numpy()), temporary)
        cases.append({"label": str(path), "name": case_name(path)})
    return cases


def defect_cases(
    cases: Sequence[Mapping[str, Any]], *, kinds: Sequence[str], seed: int = 0, per_case: int | None = None
) -> list[dict[str, Any]]:
    """Give every complete skull fixed defects to be cut by ``FixedCranialDefectd``.

    Args:
        cases: complete skulls.
        kinds: defect kinds.
        seed: first seed; every case and kind gets its own.
        per_case: defects per skull, the kinds taken in turn; None for one of every kind.
    """
    out = []
    for index, case in enumerate(cases):
        chosen = (
            list(kinds)
            if per_case is None
            else [kinds[(index * per_case + i) % len(kinds)] for i in range(per_case)]
        )
        for number, kind in enumerate(chosen):
            name = f"{case['name']}_{kind}"
            out.append(
                {
                    **case,
                    "image": case["label"],
                    "kind": kind,
                    "seed": seed + 97 * index + number,
                    "name": name,
                }
            )
    return out


def completion_cases(
    files: Sequence[str | Path],
    *,
    truth_dir: str | Path | None = None,
    same_grid: bool = False,
    hu_threshold: float = 300.0,
) -> list[dict[str, str]]:
    """List defective skulls to complete as ``{"image": path}``, with ``"truth"`` where one is given.

    Args:
        files: defective masks or CTs.
        truth_dir: the complete skulls to score against: a folder with the same case names, or a file for one case.
        same_grid: a truth has to lie on its case's voxel grid.
        hu_threshold: HU above which a voxel of a truth that is a CT is bone.

    Raises:
        InputError: if a truth folder lacks a case, one truth file is given for several cases, a truth cannot be
            used, or it lies on another grid.
    """
    cases = [{"image": str(path)} for path in files]
    if truth_dir is None:
        return cases
    truths = find_volumes(truth_dir)
    if len(truths) == 1 and len(cases) == 1:
        cases[0]["truth"] = str(truths[0])
        return _with_checked_truths(cases, same_grid=same_grid, hu_threshold=hu_threshold)
    by_name = {case_name(path): str(path) for path in truths}
    missing = [case_name(case["image"]) for case in cases if case_name(case["image"]) not in by_name]
    if missing:
        raise InputError(
            f"truth_dir {truth_dir} lacks {len(missing)} of {len(cases)} cases, the first is {missing[0]!r}: "
            "name the complete skulls like the defective ones."
        )
    for case in cases:
        case["truth"] = by_name[case_name(case["image"])]
    return _with_checked_truths(cases, same_grid=same_grid, hu_threshold=hu_threshold)


def _with_checked_truths(
    cases: list[dict[str, str]], *, same_grid: bool, hu_threshold: float
) -> list[dict[str, str]]:
    """The cases, whose truths can all be read: the first that cannot would end a run in its middle."""
    for case in cases:
        check_volume(case["truth"], hu_threshold=hu_threshold)
        if same_grid:
            check_on_grid_of(case["truth"], case["image"])
    return cases


def coarse_cases(cases: Sequence[Mapping[str, Any]], *, steps: Sequence[int]) -> list[dict[str, Any]]:
    """Give every fine mask a number of doublings ("steps") to be super-resolved by, the given ones in turn."""
    return [{**case, "steps": steps[index % len(steps)]} for index, case in enumerate(cases)]
