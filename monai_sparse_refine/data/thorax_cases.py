"""Data lists of rendered chest CTs: real organ masks, deformed or as they are, made once and kept in a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import LoadImage

from monai_sparse_refine.data.inputs import find_volumes
from monai_sparse_refine.data.thorax_ct import render_thorax_ct
from monai_sparse_refine.errors import InputError
from monai_sparse_refine.files import atomic_path
from monai_sparse_refine.volume import case_name

__all__ = ["deform_organs", "rendered_thorax_cases"]

_ORGANS = 4
_PAD_MM = 12.0


def rendered_thorax_cases(
    masks: str | Path | None,
    folder: str | Path,
    *,
    names: Sequence[str] | None = None,
    variants: int = 1,
    first_seed: int = 0,
    deform: bool = True,
) -> list[dict[str, Any]]:
    """List rendered CTs of organ masks, made on first use and kept in ``folder`` (written atomically).

    Args:
        masks: folder of label maps, SegTHOR ids (1 esophagus, 2 heart, 3 trachea, 4 aorta).
        folder: where the rendered CTs and their masks are kept, one pair per case and seed.
        names: keep only these case names (a split); None for all.
        variants: CTs per case, each with its own seed.
        first_seed: seed of the first one; every case has 1000 seeds of its own.
        deform: deform each case and change its voxel size (see `deform_organs`); False keeps the case's grid.

    Returns:
        ``{"image": CT, "label": label map, "name": name}`` each.

    Raises:
        InputError: no folder, one without volumes, or one that lacks a named case.
    """
    if masks is None:
        raise InputError("no data: give --masks_dir, a folder of organ masks to render CTs around")
    found = {case_name(path): path for path in find_volumes(masks)}
    wanted = sorted(found) if names is None else list(names)
    missing = [name for name in wanted if name not in found]
    if missing:
        raise InputError(f"{masks} lacks {len(missing)} cases of the split, the first is {missing[0]!r}")
    cases = []
    # One variant of every case before the next: any number of cases from the start covers many patients.
    for variant in range(variants):
        for name in wanted:
            seed = first_seed + 1000 * sorted(found).index(name) + variant
            stem = Path(folder).expanduser() / f"{name}_{seed:06d}"
            image, label = (stem.with_name(f"{stem.name}_{kind}.nii.gz") for kind in ("ct", "organs"))
            if not (image.exists() and label.exists()):
                source = _read(found[name])
                organs = deform_organs(source, seed=seed) if deform else source
                for path, volume in zip((image, label), render_thorax_ct(organs, seed=seed), strict=True):
                    _write(path, volume)
            cases.append({"image": str(image), "label": str(label), "name": stem.name})
    return cases


def deform_organs(labels: MetaTensor, *, seed: int) -> MetaTensor:
    """Another patient's organs: deformed smoothly, on a grid of another voxel size, perhaps cut off.

    Scale changes by up to 12 % an axis, rotation is up to 8 degrees, elastic displacement up to 9 mm; voxels are 0.95
    to 1.5 mm in plane and 1.5 to 3.3 mm along the last axis. Three in ten are cut at one end of the last axis by up to
    a third.

    Args:
        labels: label map [1, X, Y, Z], ids 1 to 4, with its affine.
        seed: decides all of it.

    Returns:
        uint8 MetaTensor [1, X', Y', Z'].
    """
    from monai_sparse_refine.transforms.resample import box_affine, resample_to_shape
    from monai_sparse_refine.transforms.warp import RandWarpMask

    rng = np.random.default_rng([seed, 1])
    volume = labels.as_tensor()[0]
    mm = np.linalg.norm(np.asarray(labels.affine)[:3, :3], axis=0)
    one_hot = torch.stack([volume == number for number in range(1, _ORGANS + 1)]).float()
    in_plane = rng.uniform(0.95, 1.5)
    target = np.array([in_plane, in_plane, rng.uniform(1.5, 3.3)])
    shape = [max(1, round(n * a / b)) for n, a, b in zip(volume.shape, mm, target, strict=True)]
    affine = box_affine(labels.affine, tuple(volume.shape), shape)
    pad = [int(np.ceil(_PAD_MM / step)) for step in target]
    soft = torch.nn.functional.pad(
        resample_to_shape(one_hot, shape), [p for p in reversed(pad) for _ in (0, 1)]
    )
    shift = torch.eye(4, dtype=torch.float64)
    shift[:3, 3] = -torch.tensor(pad, dtype=torch.float64)
    affine = affine @ shift
    warp = RandWarpMask(scale=0.12, rotation=8, elastic_mm=9, control_mm=55, flip_prob=0, threshold=0.5)
    warp.set_random_state(seed)
    warped = warp(MetaTensor(soft, affine=affine))
    organs = torch.zeros(soft.shape[1:], dtype=torch.uint8)
    for number in range(1, _ORGANS + 1):
        organs[warped[number - 1] > 0.5] = number
    if rng.uniform() < 0.3:
        cut = int(rng.uniform(0.05, 0.33) * organs.shape[2])
        part = slice(cut, None) if rng.uniform() < 0.5 else slice(None, organs.shape[2] - cut)
        organs = organs[:, :, part]
        affine[:3, 3] += affine[:3, 2] * (part.start or 0)
    return MetaTensor(organs[None].contiguous(), affine=affine)


def _read(path: Path) -> MetaTensor:
    volume = LoadImage(image_only=True, ensure_channel_first=True, dtype=np.uint8)(path)
    return MetaTensor(volume.as_tensor(), affine=volume.affine)


def _write(path: Path, volume: MetaTensor) -> None:
    with atomic_path(path) as temporary:
        nib.save(nib.Nifti1Image(volume[0].numpy(), volume.affine.numpy()), temporary)
