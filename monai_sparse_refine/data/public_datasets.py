"""Data lists of public data sets of skulls and thoracic organs, in the folders that their archives unpack to."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from monai_sparse_refine.data.inputs import find_volumes
from monai_sparse_refine.errors import InputError
from monai_sparse_refine.volume import case_name

__all__ = [
    "SKULLBREAK_KINDS",
    "mug500_skulls",
    "paired_skulls",
    "segthor_cases",
    "skullbreak_cases",
    "skullfix_cases",
]

SKULLBREAK_KINDS = ("bilateral", "frontoorbital", "parietotemporal", "random_1", "random_2")

_MUG500_CASE = re.compile(r"^A\d{4}$")


def skullbreak_cases(
    folder: str | Path,
    *,
    kinds: Sequence[str] = SKULLBREAK_KINDS,
    names: Sequence[str] | None = None,
) -> list[dict[str, Any]]:
    """List the pairs of SkullBreak (Kodym et al., Data in Brief 35:106902, 2021), five holes a skull.

    Expects ``complete_skull/NNN.nrrd``, ``defective_skull/<kind>/NNN.nrrd`` and, where it is there,
    ``implant/<kind>/NNN.nrrd``, in the folder itself or in a ``training_set`` below it.

    Args:
        folder: where the archive was unpacked to.
        kinds: kinds of holes, of `SKULLBREAK_KINDS`.
        names: keep only these skulls ("000", ...), so that a split goes by patient; None for all.

    Returns:
        ``{"image": defective, "label": complete, "implant": implant, "kind": kind, "name": "000_bilateral"}``
        for each skull and kind; without "implant" where that folder is missing.

    Raises:
        InputError: an unknown kind, a missing folder, or a skull without its partner.
    """
    unknown = [kind for kind in kinds if kind not in SKULLBREAK_KINDS]
    if unknown:
        raise InputError(f"kinds has {unknown}; expected some of {list(SKULLBREAK_KINDS)}")
    root = _root(folder, data_set="SkullBreak")
    complete = _chosen(root / "complete_skull", names)
    cases = []
    for kind in kinds:
        defective = _partners(complete, root / "defective_skull" / kind)
        implants = root / "implant" / kind
        implant = _partners(complete, implants) if implants.is_dir() else {}
        for name, path in complete.items():
            cases.append(_pair(defective[name], path, implant.get(name), name=f"{name}_{kind}", kind=kind))
    return cases


def skullfix_cases(folder: str | Path, *, names: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """List the pairs of SkullFix (AutoImplant 2020, and task 3 of 2021), one hole a skull.

    Expects ``complete_skull/NNN.nrrd``, ``defective_skull/NNN.nrrd`` and, where it is there,
    ``implant/NNN.nrrd``, in the folder itself or in a ``training_set`` below it. The challenge's test sets have
    defective skulls only: pass their folder to the inference configuration.

    Args:
        folder: where the archive was unpacked to.
        names: keep only these skulls ("000", ...); None for all.

    Returns:
        ``{"image": defective, "label": complete, "implant": implant, "kind": "skullfix", "name": "000"}`` each.

    Raises:
        InputError: a missing folder, or a skull without its partner.
    """
    root = _root(folder, data_set="SkullFix")
    implants = root / "implant"
    return paired_skulls(
        root / "defective_skull",
        root / "complete_skull",
        implants=implants if implants.is_dir() else None,
        names=names,
        kind="skullfix",
    )


def mug500_skulls(folder: str | Path, *, names: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """List the complete skulls of MUG500+ (Li et al., Data in Brief 39:107524, 2021) as ``{"label", "name"}``.

    The archives unpack to nested folders; every ``A0001.nrrd`` to ``A0500.nrrd`` below ``folder`` is found. The
    craniotomy skulls (``B0001.nrrd`` ...) have no complete partner and are left out: pass them to the inference
    configuration.

    Args:
        folder: where the archives were unpacked to.
        names: keep only these skulls ("A0001", ...), in this order; None for all.

    Raises:
        InputError: a folder without such files, two files of one name, or a missing named case.
    """
    place = Path(folder)
    if not place.is_dir():
        raise InputError(f"MUG500+ {place}: no such folder; give the one that its archives were unpacked to")
    found: dict[str, Path] = {}
    for path in sorted(place.rglob("*.nrrd")):
        name = case_name(path)
        if not _MUG500_CASE.match(name):
            continue
        if name in found:
            raise InputError(f"MUG500+ {place}: {name} is there twice, {found[name]} and {path}; remove one")
        found[name] = path
    if not found:
        raise InputError(f"MUG500+ {place}: no file like A0001.nrrd in it or below; unpack its archives here")
    wanted = sorted(found) if names is None else list(names)
    _check_all(wanted, found, place)
    return [{"label": str(found[name]), "name": name} for name in wanted]


def paired_skulls(
    defective: str | Path,
    complete: str | Path,
    *,
    implants: str | Path | None = None,
    names: Sequence[str] | None = None,
    kind: str = "given",
) -> list[dict[str, Any]]:
    """List defective and complete skulls of two plain folders, paired by file name (NIfTI or NRRD).

    Args:
        defective: folder of skulls with a hole.
        complete: folder of the complete ones, named alike.
        implants: folder of the implants, named alike; None for none.
        names: keep only these cases, in this order; None for all of `complete`.
        kind: what to call the holes.

    Returns:
        ``{"image": defective, "label": complete, "kind": kind, "name": name}`` each, with "implant" if given.

    Raises:
        InputError: a folder that is missing or has no volumes, or a case without its partner.
    """
    skulls = _chosen(Path(complete), names)
    holed = _partners(skulls, Path(defective))
    plugs = {} if implants is None else _partners(skulls, Path(implants))
    return [_pair(holed[name], path, plugs.get(name), name=name, kind=kind) for name, path in skulls.items()]


def segthor_cases(folder: str | Path, *, names: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """List the chest CTs of SegTHOR (Lambert et al., IPTA 2020) with their masks of four organs.

    Expects ``Patient_NN/Patient_NN.nii.gz`` and ``Patient_NN/GT.nii.gz`` in the folder itself or in a ``train``
    below it. A patient without ``GT.nii.gz`` (the challenge's test set) has no mask to train on and is left out.

    Args:
        folder: where the archive was unpacked to.
        names: keep only these patients ("Patient_01", ...), in this order; None for all.

    Returns:
        ``{"image": CT, "label": label map, "name": "Patient_01"}`` each; ids 1 esophagus, 2 heart, 3 trachea, 4 aorta.

    Raises:
        InputError: a missing folder, one without such patients, or a missing named one.
    """
    place = Path(folder)
    found: dict[str, tuple[Path, Path]] = {}
    for root in (place, place / "train"):
        for label in sorted(root.glob("Patient_*/GT.nii*")):
            name = label.parent.name
            image = next(iter(sorted(label.parent.glob(f"{name}.nii*"))), None)
            if image is not None:
                found.setdefault(name, (image, label))
    if not found:
        has = (
            "no Patient_NN with Patient_NN.nii.gz and GT.nii.gz in it" if place.is_dir() else "no such folder"
        )
        raise InputError(f"SegTHOR {place}: {has}; give the folder that the archive was unpacked to")
    wanted = sorted(found) if names is None else list(names)
    missing = [name for name in wanted if name not in found]
    if missing:
        raise InputError(f"SegTHOR {place} lacks {len(missing)} patients, the first is {missing[0]!r}")
    return [{"image": str(found[name][0]), "label": str(found[name][1]), "name": name} for name in wanted]


def _root(folder: str | Path, *, data_set: str) -> Path:
    """The folder that has ``complete_skull``: the given one, or ``training_set`` in it."""
    place = Path(folder)
    for root in (place, place / "training_set"):
        if (root / "complete_skull").is_dir() and (root / "defective_skull").is_dir():
            return root
    found = sorted(path.name for path in place.iterdir())[:6] if place.is_dir() else None
    has = "there is no such folder" if found is None else f"it has {found or 'nothing'}"
    raise InputError(
        f"{data_set} {place}: expected the folders complete_skull and defective_skull in it (or in its "
        f"training_set), but {has}; give the folder that the archive was unpacked to"
    )


def _chosen(folder: Path, names: Sequence[str] | None) -> dict[str, Path]:
    """Volumes of a folder by case name, all of them or the named ones in the order of the names."""
    found = {case_name(path): path for path in find_volumes(folder)}
    if names is None:
        return found
    _check_all(names, found, folder)
    return {name: found[name] for name in names}


def _partners(cases: dict[str, Path], folder: Path) -> dict[str, Path]:
    """The volumes of a folder that belong to the cases; every case needs one."""
    found = {case_name(path): path for path in find_volumes(folder)}
    _check_all(list(cases), found, folder)
    return found


def _check_all(wanted: Sequence[str], found: dict[str, Path], folder: Path) -> None:
    missing = [name for name in wanted if name not in found]
    if missing:
        raise InputError(
            f"{folder} lacks {len(missing)} of {len(wanted)} cases, the first is {missing[0]!r}; "
            "unpack the archive again, or leave them out with names="
        )


def _pair(image: Path, label: Path, implant: Path | None, *, name: str, kind: str) -> dict[str, Any]:
    case = {"image": str(image), "label": str(label), "kind": kind, "name": name}
    return case if implant is None else {**case, "implant": str(implant)}
