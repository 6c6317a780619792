"""A chest CT rendered around the masks of heart, aorta, trachea and esophagus, another one for every seed."""

from __future__ import annotations

from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.data import MetaTensor

from monai_sparse_refine.data.thorax_ct_body import Body, paint_body
from monai_sparse_refine.data.thorax_ct_organs import paint_organs, paint_unlabelled
from monai_sparse_refine.data.thorax_ct_scanner import scan
from monai_sparse_refine.errors import InputError
from monai_sparse_refine.volume import as_volume

__all__ = ["render_thorax_ct"]

_AIR_MM = 12.0  # of air around the body


def render_thorax_ct(labels: Any, *, seed: int, field_of_view: bool = True) -> tuple[MetaTensor, MetaTensor]:
    """Render a CT that has the organs exactly where their masks are, and a plausible chest around them.

    Drawn by the seed: the body's outline, fat, muscle, lungs with vessels (in some fluid, ground glass,
    consolidation), diaphragm, spine, ribs, sternum, mediastinal fat, the couch; contrast (or none) in the aorta and
    in the chambers of either side of the heart, in vessels that no mask has (pulmonary artery, superior vena cava,
    azygos vein); the aorta's wall, clots and plaques on it, at times a stent; air in the trachea and, here and there,
    in the esophagus; then the scanner: blur in plane and over the slices' thickness (partial volume), noise, streaks
    from dense contrast, a scale of HU that is a little off.

    Args:
        labels: label map [1, X, Y, Z] with its affine, ids 1 esophagus, 2 heart, 3 trachea, 4 aorta; axes
            along the world's, in any order and direction.
        seed: decides everything that the masks do not.
        field_of_view: enlarge the grid in plane to hold the whole body; the voxels of the masks stay the same.
            False keeps the masks' own grid.

    Returns:
        CT in HU (int16) and the label map (uint8), MetaTensors [1, X', Y', Z] on one grid.

    Raises:
        InputError: no affine, an oblique one, other ids, or no voxel of an organ.
    """
    if not isinstance(labels, MetaTensor):
        raise InputError("labels carry no affine; pass a MetaTensor, such as LoadImage returns")
    volume = as_volume(labels, name="labels").astype(np.uint8)
    present = set(np.unique(volume).tolist()) - {0}
    if not present or not present <= {1, 2, 3, 4}:
        raise InputError(
            f"labels has the ids {sorted(present)}; expected some of 1 esophagus, 2 heart, 3 trachea, 4 aorta"
        )
    affine = np.asarray(labels.affine.cpu(), dtype=float)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.allclose(np.abs(affine[:3, :3]).max(axis=0), spacing, rtol=1e-3):
        raise InputError("labels has an oblique affine; resample it to axes along the body's first")
    source = nib.Nifti1Image(volume, affine)
    image = nib.as_closest_canonical(source)
    back = nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("RAS"), nib.io_orientation(affine))
    organs, mm = np.asarray(image.dataobj), np.asarray(image.header.get_zooms()[:3], dtype=float)
    rng = np.random.default_rng(seed)
    body = Body.draw(organs, mm, rng)
    corner = np.asarray(image.affine[:3, 3])
    if field_of_view:
        before, after = body.padding(organs.shape, mm, air_mm=_AIR_MM)
        organs = np.pad(organs, [*zip(before, after, strict=True)])
        corner = corner - before * mm
        body = body.moved(before * mm)
    hu = paint_body(body, organs, mm, rng)
    paint_unlabelled(hu, body, organs, mm, rng)
    paint_organs(hu, organs, mm, rng)
    ct = scan(hu, body, mm, rng)
    grid = np.diag([*mm, 1.0])
    grid[:3, 3] = corner
    return _like(ct, grid, back), _like(organs, grid, back)


def _like(volume: np.ndarray, affine: np.ndarray, orientation: np.ndarray) -> MetaTensor:
    """A RAS volume [X, Y, Z] in the orientation of the source, as [1, X, Y, Z]."""
    image = nib.Nifti1Image(volume, affine).as_reoriented(orientation)
    data = np.ascontiguousarray(np.asarray(image.dataobj))[None]
    return MetaTensor(torch.from_numpy(data), affine=torch.as_tensor(image.affine))
