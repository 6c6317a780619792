"""What a person points to, as cases: NIfTI, NRRD, DICOM series and DICOM SEG, read with their geometry."""

from __future__ import annotations

import importlib
import importlib.util
import os
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import LoadImage

from monai_sparse_refine.data import find_volumes
from monai_sparse_refine.data.inputs import check_geometry
from monai_sparse_refine.errors import InputError
from monai_sparse_refine.volume import case_name

__all__ = ["Case", "find_cases", "read_case"]


class Case(NamedTuple):
    """One scan or mask: its name, its files (a series has several), and what it is."""

    name: str
    files: tuple[Path, ...]
    kind: Literal["volume", "series", "seg"]


def find_cases(path: str | os.PathLike[str]) -> list[Case]:
    """List the cases that a person points to.

    Args:
        path: a NIfTI, NRRD or DICOM file, or a folder of them; a folder that has none of its own, but folders
            with DICOM files in it, has their cases.

    Returns:
        At least one case, no two of the same name.

    Raises:
        InputError: nothing there that can be read, DICOM without pydicom, or two cases of one name.
    """
    place = Path(path).expanduser()
    cases: list[Case] = []
    if place.is_dir():
        own = _visible(place)
        if any(_is_volume(file) for file in own):
            cases = [Case(case_name(file), (file,), "volume") for file in own if _is_volume(file)]
        else:
            for folder in (place, *sorted(f for f in place.iterdir() if f.is_dir())):
                cases += _dicom_cases(folder.name, [file for file in _visible(folder) if _is_dicom(file)])
    elif place.is_file() and not _is_volume(place) and _is_dicom(place):
        cases = _dicom_cases(case_name(place.stem), [place])
    if not cases:  # says in one line what is wrong
        cases = [Case(case_name(file), (file,), "volume") for file in find_volumes(place)]
    first: dict[str, Case] = {}
    for case in cases:
        other = first.setdefault(case.name, case)
        if other is not case:
            raise InputError(
                f"{case.files[0]}: has the same name as {other.files[0]}, so the same output files; rename one"
            )
    return cases


def read_case(case: Case) -> MetaTensor:
    """Read a case as [1, X, Y, Z], float32, with its affine (RAS, mm).

    A DICOM SEG becomes a label map of its segments' numbers.

    Raises:
        InputError: a file that is damaged or not 3D, or segments that overlap.
    """
    try:
        volume = _load(case)
    except (InputError, MemoryError):
        raise
    except Exception as error:
        # A damaged file makes a reader raise anything.
        reason = " ".join(str(error).split())[:160]
        raise InputError(
            f"{case.files[0]}: cannot be read ({type(error).__name__}: {reason}); the file is damaged, "
            "incomplete or not what its name says: copy or export it again"
        ) from error
    if volume.ndim != 4 or len(volume) != 1:
        raise InputError(
            f"{case.files[0]}: has shape {tuple(volume.shape)}, channels first; expected one 3D volume"
        )
    volume.meta["filename_or_obj"] = str(case.files[0])
    return volume


def _load(case: Case) -> MetaTensor:
    """Read with what knows the kind of file."""
    if case.kind == "seg":
        return _load_segmentation(case.files[0])
    load: Any = LoadImage(
        reader=None if case.kind == "volume" else "PydicomReader", ensure_channel_first=True, dtype=np.float32
    )
    if case.kind == "volume":
        check_geometry(case.files[0])
        return load(case.files[0])
    # The reader takes a series as a folder, in which there may be nothing else.
    with tempfile.TemporaryDirectory() as folder:
        for number, file in enumerate(case.files):
            link = Path(folder) / f"{number:05d}.dcm"
            try:
                link.symlink_to(file.resolve())
            except OSError:  # a file system without links
                shutil.copyfile(file, link)
        return load(folder)


def _load_segmentation(file: Path) -> MetaTensor:
    """One label map of all the segments, which may not overlap."""
    highdicom: Any = _needed("highdicom", file, "a DICOM SEG")
    volume = highdicom.seg.segread(str(file)).get_volume(combine_segments=True)
    # DICOM's world axes run left and back, NIfTI's right and front.
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ volume.affine
    return MetaTensor(
        torch.from_numpy(volume.array.astype(np.float32))[None], affine=torch.from_numpy(affine)
    )


def _needed(package: str, file: Path, kind: str) -> Any:
    """An optional package, or a message that says how to get it."""
    if importlib.util.find_spec(package) is None:
        raise InputError(
            f"{file}: is {kind}, which needs {package}: install it with `python -m pip install {package}`, or "
            "convert the file to NIfTI"
        )
    return importlib.import_module(package)


def _dicom_cases(name: str, files: Iterable[Path]) -> list[Case]:
    """The series and segmentations among DICOM files, each named after the folder, numbered if several."""
    files = list(files)
    if not files:
        return []
    pydicom = _needed("pydicom", files[0], "DICOM")
    groups: dict[tuple[str, str], list[Path]] = {}
    for file in files:
        try:
            header = pydicom.dcmread(file, stop_before_pixels=True)
        except Exception as error:  # a damaged file makes it raise anything
            raise InputError(
                f"{file}: cannot be read as DICOM ({type(error).__name__}); export it again"
            ) from error
        modality, series = str(header.get("Modality", "")), str(header.get("SeriesInstanceUID", ""))
        if modality == "SEG":
            groups["seg", str(file)] = [file]
        elif "Rows" in header:  # reports, plans and directories have no pixels
            groups.setdefault(("series", series), []).append(file)
    several = len(groups) > 1
    return [
        Case(f"{name}_{number}" if several else name, tuple(members), "seg" if kind == "seg" else "series")
        for number, ((kind, _), members) in enumerate(groups.items(), start=1)
    ]


def _visible(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if file.is_file() and not file.name.startswith("."))


def _is_volume(path: Path) -> bool:
    return path.name.lower().endswith((".nii", ".nii.gz", ".nrrd"))


def _is_dicom(path: Path) -> bool:
    """By the four letters after the preamble; the name tells nothing."""
    with path.open("rb") as stream:
        return stream.read(132)[128:] == b"DICM"
