"""What is left of a refined case: masks, meshes, a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from monai.data import MetaTensor

from monai_sparse_refine.cli.picture import before_after_figure
from monai_sparse_refine.report import completion_figure, write_mesh
from monai_sparse_refine.transforms.save import save_mask
from monai_sparse_refine.volume import as_mask, spacing_of

__all__ = ["write_completion", "write_refinement"]


def write_completion(
    name: str, before: MetaTensor, after: MetaTensor, folder: Path, *, mesh: bool, picture: bool
) -> list[Path]:
    """Write a completed mask, what was added to it as mask and mesh, and a picture of both.

    Args:
        name: of the case; the files' names begin with it.
        before: binary mask [1, X, Y, Z] with its affine.
        after: the same with what was added.
        folder: where to write.
        mesh: write the mesh, where something was added.
        picture: draw the picture.

    Returns:
        The files written.
    """
    implant = MetaTensor((after.as_tensor() > before.as_tensor()).to(after.dtype), meta=dict(before.meta))
    implant.affine = before.affine
    files = [
        save_mask(after, folder / f"{name}_completed.nii.gz", reference=before),
        save_mask(implant, folder / f"{name}_implant.nii.gz", reference=before),
    ]
    path = folder / f"{name}_implant.stl"
    if mesh and bool(implant.any()):
        files.append(write_mesh(implant, affine=before.affine, path=path))
    else:
        path.unlink(missing_ok=True)  # of an earlier run: it would pass for this implant's
    if picture:
        spacing = spacing_of(before)
        path = folder / f"{name}.png"
        files.append(completion_figure(before, after, implant, spacing=spacing, path=path, title=name))
    return files


def write_refinement(
    name: str,
    before: MetaTensor,
    after: MetaTensor,
    rows: list[dict[str, Any]],
    folder: Path,
    *,
    mesh: bool,
    picture: bool,
) -> list[Path]:
    """Write a refined label map, a mesh for each label, and a picture of before and after.

    Args:
        name: of the case; the files' names begin with it.
        before: label map [1, X, Y, Z] with its affine.
        after: the refined one.
        rows: the report of the refinement; it names the labels and their ids.
        folder: where to write.
        mesh: write the meshes of the labels that have voxels.
        picture: draw the picture.

    Returns:
        The files written.
    """
    files = [save_mask(after, folder / f"{name}_refined.nii.gz", reference=before, labels=True)]
    label_map = after.as_tensor().numpy()[0]
    for row in rows:
        path = folder / f"{name}_{row['label']}.stl"
        if mesh and row["voxels_after"]:
            mask = np.isin(label_map, row["ids"])
            files.append(write_mesh(mask, affine=before.affine, path=path))
        else:
            path.unlink(missing_ok=True)  # of an earlier run
    if picture:
        ids = [number for row in rows for number in row["ids"]]
        masks = [np.where(np.isin(as_numpy(m), ids), as_numpy(m), 0) for m in (before, after)]
        if as_mask(masks[0]).any() or as_mask(masks[1]).any():
            path = folder / f"{name}.png"
            files.append(before_after_figure(*masks, affine=before.affine, path=path, title=name))
    return files


def as_numpy(volume: MetaTensor) -> np.ndarray:
    """[1, X, Y, Z] as an array [X, Y, Z]."""
    return volume.as_tensor().cpu().numpy()[0]
