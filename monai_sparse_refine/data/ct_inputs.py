"""Check CTs to segment before any work starts, and pair them with true masks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from monai_sparse_refine.data.inputs import (
    FilePath,
    check_apart,
    check_names,
    check_output_dir,
    check_volume,
    find_volumes,
)
from monai_sparse_refine.data.weights import read_weights
from monai_sparse_refine.errors import InputError
from monai_sparse_refine.volume import case_name

__all__ = ["ct_cases", "preflight_ct"]

_SOFT_TISSUE_HU = -200.0


def preflight_ct(
    inputs: FilePath | Sequence[FilePath], output_dir: FilePath | None, *, weights: Sequence[FilePath] = ()
) -> list[Path]:
    """Check CTs, output folder and weights.

    Args:
        inputs: NIfTI or NRRD file, folder or several.
        output_dir: folder to write to; None where nothing is written.
        weights: state dicts to read.

    Returns:
        The input files.

    Raises:
        InputError: with one line for each problem: files that cannot be read, that are no CT in HU, that share a name;
            an output folder that cannot be written to or is the input's; weights that cannot be read.
    """
    problems: list[str] = []
    files: list[Path] = []
    try:
        files = find_volumes(inputs)
    except InputError as error:
        problems.append(str(error))
    for file in files:
        try:
            if check_volume(file, hu_threshold=_SOFT_TISSUE_HU).kind != "ct":
                problems.append(
                    f"{file}: is a binary mask; expected a CT in Hounsfield units: masks are refined with "
                    "SparseRefined, or python -m monai_sparse_refine refine --bundle"
                )
        except InputError as error:
            problems.append(str(error))
    checks: list[tuple[Any, ...]] = [(check_names, files), *((read_weights, path) for path in weights)]
    if output_dir is not None:
        checks += [(check_output_dir, output_dir), (check_apart, inputs, output_dir)]
    for check, *given in checks:
        try:
            check(*given)
        except InputError as error:
            problems.append(str(error))
    if problems:
        raise InputError("\n".join(problems))
    return files


def ct_cases(files: Sequence[FilePath], *, truth_dir: FilePath | None = None) -> list[dict[str, str]]:
    """List CTs as ``{"image": path}``, with ``"truth"``, a label map, where a folder of true masks is given.

    Args:
        files: CTs.
        truth_dir: label maps with SegTHOR ids, named like the CTs; a "_ct" at the end of a CT's name may be
            "_organs" there, as ``rendered_thorax_cases`` names them. They may lie among other files.

    Raises:
        InputError: a case without a truth.
    """
    cases = [{"image": str(file)} for file in files]
    if truth_dir is None:
        return cases
    found = {case_name(path): str(path) for path in find_volumes(truth_dir)}
    for case in cases:
        name = case_name(case["image"])
        wanted = [name, name.removesuffix("_ct") + "_organs"]
        match = next((found[w] for w in wanted if w in found and found[w] != case["image"]), None)
        if match is None:
            raise InputError(f"truth_dir {truth_dir} has no mask for {name!r}; name it like the CT")
        case["truth"] = match
    return cases
