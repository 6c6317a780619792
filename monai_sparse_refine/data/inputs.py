"""Check a user's files before any work starts, and say in one line for each what is wrong."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import nibabel as nib
import nrrd
import numpy as np
import torch

from monai_sparse_refine.data.weights import read_weights
from monai_sparse_refine.errors import InputError
from monai_sparse_refine.volume import case_name, volume_kind

__all__ = [
    "VolumeSummary",
    "check_device",
    "check_geometry",
    "check_on_grid_of",
    "check_output_dir",
    "check_volume",
    "find_volumes",
    "preflight",
]

SUFFIXES = (".nii", ".nii.gz", ".nrrd")
# MONAI turns the first into RAS and takes any other for RAS, "LPS" too, which would turn the skull about.
NRRD_SPACES = ("left-posterior-superior", "right-anterior-superior", "RAS")

# Voxels of anything that was scanned; a spacing in metres or microns lies outside.
FINEST_MM, COARSEST_MM = 0.01, 100.0

FilePath = str | os.PathLike[str]


class VolumeSummary(NamedTuple):
    """What a readable volume holds.

    `shape` in voxels and `spacing` in mm are of the three spatial axes; `foreground` counts the voxels of the
    mask, or of the CT above the threshold.
    """

    path: Path
    kind: Literal["mask", "ct"]
    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    foreground: int


def find_volumes(path: FilePath | Iterable[FilePath]) -> list[Path]:
    """List the NIfTI and NRRD files (.nii, .nii.gz, .nrrd) that a user points to.

    Args:
        path: a file, a folder (its own files, sorted by name, hidden ones left out), or several of both.

    Returns:
        At least one path, none twice.

    Raises:
        InputError: missing, of another format, or a folder without such files.
    """
    given = [path] if isinstance(path, (str, os.PathLike)) else list(path)
    if not given:
        raise InputError(f"no input given; expected a file or folder with {_formats()}")
    found: dict[Path, None] = {}
    for item in given:
        place = Path(item).expanduser()
        if place.is_dir():
            files = sorted(f for f in place.iterdir() if _is_volume(f) and not f.name.startswith("."))
            if not files:
                deeper = next((f for f in place.rglob("*") if _is_volume(f)), None)
                hint = f"; there are some in {deeper.parent}" if deeper else ""
                raise InputError(f"{place}: no {_formats()} file in this folder{hint}")
            found.update(dict.fromkeys(files))
        elif not place.exists():
            raise InputError(f"{place}: no such file or folder; check the path")
        elif not _is_volume(place):
            raise InputError(
                f"{place}: not a file of a known format; expected {_formats()}: convert it first"
            )
        else:
            found[place] = None
    return list(found)


def check_volume(path: FilePath, *, hu_threshold: float = 300.0) -> VolumeSummary:
    """Read a volume to its last byte and check that it can be used.

    Args:
        path: NIfTI or NRRD file.
        hu_threshold: HU above which a voxel of a CT is bone.

    Returns:
        What it holds.

    Raises:
        InputError: unreadable or truncated, not 3D (a fourth axis of one voxel is allowed in NIfTI), NaN or
            infinity, empty, labels other than 0 and 1, nothing above the threshold, or no usable affine. The
            message starts with the path.
    """
    file = Path(path)
    volume, affine = _read(file)
    _check_dimensions(file, volume.shape)
    volume = volume.reshape(volume.shape[:3])
    spacing = _checked_spacing(file, affine)
    kind = volume_kind(volume, hu_threshold=hu_threshold, name=f"{file}:")
    foreground = int(np.count_nonzero(volume if kind == "mask" else volume > hu_threshold))
    x, y, z = map(int, volume.shape[:3])
    dx, dy, dz = (float(v) for v in spacing)
    return VolumeSummary(file, kind, (x, y, z), (dx, dy, dz), foreground)


def check_geometry(path: FilePath) -> None:
    """Read the header of a volume alone, and check that its orientation can be used.

    Args:
        path: NIfTI or NRRD file.

    Raises:
        InputError: unreadable, no single volume, axes that span none, or world axes that MONAI does not know.
    """
    file = Path(path)
    shape, affine = _read_geometry(file)
    _check_dimensions(file, shape)
    _checked_spacing(file, affine)


def check_on_grid_of(path: FilePath, reference: FilePath) -> None:
    """Raise InputError where two files are not on one voxel grid; reads their headers alone.

    Args:
        path: NIfTI or NRRD file, named in the message.
        reference: file whose grid it has to be on, to a tenth of a voxel.
    """
    (shape, affine), (wanted, grid) = (_read_geometry(Path(file)) for file in (path, reference))
    shape, wanted = shape[:3], wanted[:3]
    if shape != wanted:
        raise InputError(
            f"{path}: has shape {shape}, {reference} {wanted}; both have to lie on one voxel grid"
        )
    corners = np.array(list(np.ndindex(2, 2, 2))) * (np.array(shape) - 1)
    apart = corners @ (affine - grid)[:3, :3].T + (affine - grid)[:3, 3]
    if float(np.abs(apart).max()) > 0.1 * float(np.linalg.norm(grid[:3, :3], axis=0).min()):
        raise InputError(
            f"{path}: has the shape of {reference}, but its affine places it up to {np.abs(apart).max():.1f} mm apart; "
            "bring both to one orientation and grid"
        )


def check_output_dir(path: FilePath) -> Path:
    """Make the folder where it is missing, and really write a small file in it, which is removed again.

    Raises:
        InputError: it cannot be made or written to.
    """
    folder = Path(path).expanduser()
    if folder.exists() and not folder.is_dir():
        raise InputError(f"output folder {folder}: is a file; give a folder")
    probe = folder / f".{uuid.uuid4().hex[:8]}.writable"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"0")
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(
            f"output folder {folder}: cannot be written to ({reason}); give another folder"
        ) from error
    finally:
        # The folder itself may be what is missing.
        if folder.is_dir():
            probe.unlink(missing_ok=True)
    return folder


def preflight(
    inputs: FilePath | Sequence[FilePath],
    output_dir: FilePath | None,
    *,
    hu_threshold: float = 300.0,
    weights: FilePath | None = None,
    device: str | torch.device | None = None,
) -> list[Path]:
    """Check everything a run needs before it starts.

    Args:
        inputs: file, folder or several; see `find_volumes`.
        output_dir: folder to write to; None where nothing is written.
        hu_threshold: HU above which a voxel of a CT is bone.
        weights: weights to read, see `monai_sparse_refine.data.weights.read_weights`; None for none.
        device: device to run on; None for no check.

    Returns:
        The input files.

    Raises:
        InputError: with one line for each problem, of all the files, not only of the first.
    """
    problems: list[str] = []

    def attempt(check: Any, *args: Any, **options: Any) -> Any:
        try:
            return check(*args, **options)
        except InputError as error:
            problems.append(str(error))

    files: list[Path] = attempt(find_volumes, inputs) or []
    for file in files:
        attempt(check_volume, file, hu_threshold=hu_threshold)
    attempt(check_names, files)
    if output_dir is not None:
        attempt(check_output_dir, output_dir)
        attempt(check_apart, inputs, output_dir)
    if weights is not None:
        attempt(read_weights, weights)
    if device is not None:
        attempt(check_device, device)
    if problems:
        raise InputError("\n".join(problems))
    return files


def _is_volume(path: Path) -> bool:
    return path.name.lower().endswith(SUFFIXES) and path.is_file()


def _formats() -> str:
    return f"{', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}"


def _read(file: Path) -> tuple[np.ndarray, np.ndarray]:
    """Values and RAS-or-alike affine [4, 4] of a file; every way to fail becomes an InputError."""
    find_volumes(file)
    try:
        if file.name.lower().endswith(".nrrd"):
            volume, header = nrrd.read(str(file))
            return volume, _nrrd_affine(file, header, volume.ndim)
        image: Any = nib.load(file)
        # Stored integers stay integers; a scaled file becomes float, as it will when it is loaded.
        return np.asanyarray(image.dataobj), _nifti_affine(file, image)
    except (InputError, MemoryError):
        raise
    except Exception as error:
        raise _unreadable(file, error) from error


def _read_geometry(file: Path) -> tuple[tuple[int, ...], np.ndarray]:
    """Shape, and the affine to RAS, from the header alone."""
    try:
        if not file.name.lower().endswith(".nrrd"):
            image: Any = nib.load(file)
            return tuple(int(n) for n in image.shape), _nifti_affine(file, image)
        header = nrrd.read_header(str(file))
        affine = _nrrd_affine(file, header, int(header["dimension"]))
        if header.get("space", NRRD_SPACES[0]) == NRRD_SPACES[0]:
            affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
        return tuple(int(n) for n in header["sizes"]), affine
    except (InputError, MemoryError):
        raise
    except Exception as error:
        raise _unreadable(file, error) from error


def _check_dimensions(file: Path, shape: Sequence[int]) -> None:
    if len(shape) < 3 or tuple(shape[3:]) not in ((), (1,)):
        raise InputError(
            f"{file}: has {len(shape)} dimensions, shape {tuple(shape)}; expected one 3D volume: save a single volume, "
            "not a slice, series or colour picture"
        )


def _nifti_affine(file: Path, image: Any) -> np.ndarray:
    """The affine; programs differ in which spacing they take where a header has two."""
    affine = np.asarray(image.affine, dtype=float)
    sides, zooms = (
        np.linalg.norm(affine[:3, :3], axis=0),
        np.asarray(image.header.get_zooms()[:3], dtype=float),
    )
    if len(zooms) == 3 and np.isfinite(affine).all() and np.any(np.abs(sides - zooms) > 0.02 * zooms):
        raise InputError(
            f"{file}: its affine has voxels of {np.round(sides, 4).tolist()} mm, its pixdim of "
            f"{np.round(zooms, 4).tolist()}: correct the one that is wrong and save it again"
        )
    return affine


def _unreadable(file: Path, error: Exception) -> InputError:
    """A damaged file makes a reader raise anything: EOFError, zlib.error, OSError, ValueError, KeyError ..."""
    reason = " ".join(str(error).split())[:160]
    return InputError(
        f"{file}: cannot be read ({type(error).__name__}: {reason}); the file is damaged, incomplete "
        "or not what its name says: copy or export it again"
    )


def _checked_spacing(file: Path, affine: np.ndarray) -> np.ndarray:
    """Spacing (3,) in mm; axes that lie in one plane, or of no length, span no volume."""
    spacing: np.ndarray = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.isfinite(affine).all() or (
        abs(np.linalg.det(affine[:3, :3])) < 1e-6 * max(1e-30, float(spacing.prod()))
    ):
        raise InputError(
            f"{file}: its affine {np.round(affine[:3, :3], 4).tolist()} does not give three independent "
            "axes of finite length; export the file again with its orientation"
        )
    if spacing.min() < FINEST_MM or spacing.max() > COARSEST_MM:
        raise InputError(
            f"{file}: its spacing is {np.round(spacing, 6).tolist()}, which cannot be mm of a scan; convert the affine "
            "to mm (some programs write metres or microns)"
        )
    return spacing


def _nrrd_affine(file: Path, header: dict[str, Any], ndim: int) -> np.ndarray:
    directions, origin = header.get("space directions"), header.get("space origin")
    if ndim == 3 and (directions is None or origin is None or np.shape(directions) != (3, 3)):
        raise InputError(
            f"{file}: its header has no 'space directions' and 'space origin' for three axes, so no "
            "orientation; export it again from a program that keeps them"
        )
    space = header.get("space", "left-posterior-superior")
    if space not in NRRD_SPACES:
        raise InputError(f"{file}: its space is {space!r}; expected left-posterior-superior: export it so")
    affine = np.eye(4)
    if ndim == 3:
        affine[:3, :3] = np.asarray(directions, dtype=float).T
        affine[:3, 3] = np.asarray(origin, dtype=float)
    return affine


def check_names(files: Sequence[Path]) -> None:
    """Two inputs of one name would overwrite each other's results."""
    first: dict[str, Path] = {}
    for file in files:
        other = first.setdefault(case_name(file), file)
        if other is not file:
            raise InputError(
                f"{file}: has the same name as {other}, so the same output files; rename one of them"
            )


def check_apart(inputs: FilePath | Sequence[FilePath], output_dir: FilePath) -> None:
    """Results among the inputs would be taken for inputs by the next run."""
    target = Path(output_dir).expanduser().resolve()
    for item in [inputs] if isinstance(inputs, (str, os.PathLike)) else inputs:
        place = Path(item).expanduser()
        if place.is_dir() and place.resolve() == target:
            raise InputError(f"output folder {output_dir}: is the input folder; give another one")


def check_device(device: str | torch.device) -> None:
    """Raise InputError, with the reason, where a device cannot be used."""
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().splitlines()[0][:160]
        raise InputError(f"device {str(device)!r}: cannot be used ({reason}); 'cpu' always can") from error
