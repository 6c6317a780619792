"""Save masks as NIfTI on exactly the grid of the file they came from."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from monai.config import KeysCollection, PathLike
from monai.config.type_definitions import NdarrayOrTensor
from monai.transforms import MapTransform
from monai.utils import TransformBackends, ensure_tuple_rep

from monai_sparse_refine.errors import InputError
from monai_sparse_refine.files import atomic_path
from monai_sparse_refine.volume import as_volume, case_name

__all__ = ["SaveMaskD", "SaveMaskDict", "SaveMaskd", "save_mask"]

# What places a NIfTI's voxels in space: copied from the source as it stands, without a round trip over an
# affine.
GEOMETRY_FIELDS = (
    "pixdim",
    "xyzt_units",
    "qform_code",
    "sform_code",
    "quatern_b",
    "quatern_c",
    "quatern_d",
    "qoffset_x",
    "qoffset_y",
    "qoffset_z",
    "srow_x",
    "srow_y",
    "srow_z",
)


def save_mask(
    mask: Any, path: PathLike, *, affine: Any = None, reference: Any = None, labels: bool = False
) -> Path:
    """Write a binary mask as uint8 NIfTI; the file appears complete or not at all.

    Where the reference was loaded from a NIfTI file and has kept that file's grid, the file's geometry (both
    forms with their codes, units) and its shape, trailing axes of one voxel included, are taken over bit for
    bit. Nothing else of its header is: a description or an extension may tell who the patient is.

    Args:
        mask: values 0 and 1, [X, Y, Z] or [1, X, Y, Z].
        path: file name that ends in .nii or .nii.gz.
        affine: voxel to world mm, RAS, [4, 4]; by default the reference's.
        reference: MetaTensor of the same shape that the mask belongs to; by default the mask.
        labels: it is a label map, whose ids up to 65535 are saved as uint8, or as uint16 where they need it.

    Returns:
        The path written.

    Raises:
        InputError: another suffix, values other than 0 and 1 (or label ids), or an unknown affine.
    """
    target = Path(path).expanduser()
    if not target.name.lower().endswith((".nii", ".nii.gz")):
        raise InputError(f"path is {target}; a mask is saved as .nii or .nii.gz")
    volume = as_volume(mask, name="mask")
    if labels:
        data = volume.astype(np.uint16)
        if not np.array_equal(data, volume):
            raise InputError(f"label map to save as {target.name} has values that are no ids from 0 to 65535")
        data = data if data.max(initial=0) > 255 else data.astype(np.uint8)
    else:
        if not np.all((volume == 0) | (volume == 1)):
            raise InputError(
                f"mask to save as {target.name} has values other than 0 and 1; threshold it first"
            )
        data = volume.astype(np.uint8)
    reference = mask if reference is None else reference
    if affine is None:
        affine = getattr(reference, "affine", None)
    if affine is None:
        raise InputError(
            f"affine of {target.name} is not known: pass affine=, or a MetaTensor that carries one"
        )
    matrix = np.asarray(affine, dtype=float).reshape(4, 4)
    image = _image_like(getattr(reference, "meta", {}), data, matrix)
    if image is None:
        # Scanner coordinates; the quaternion form cannot hold shear, so it is left out where there is some.
        image = nib.Nifti1Image(data, matrix)
        image.set_sform(matrix, code=1)
        image.header.set_xyzt_units("mm")
        columns = matrix[:3, :3] / np.linalg.norm(matrix[:3, :3], axis=0)
        if np.allclose(columns.T @ columns, np.eye(3), atol=1e-5):
            image.set_qform(matrix, code=1)
    with atomic_path(target) as temporary:
        nib.save(image, temporary)
    return target


def _image_like(meta: Mapping[str, Any], data: np.ndarray, affine: np.ndarray) -> nib.Nifti1Image | None:
    """An image with the geometry of the NIfTI file in the metadata; None for no such file or another grid."""
    source = Path(str(meta.get("filename_or_obj") or ""))
    if not source.name.lower().endswith((".nii", ".nii.gz")) or not source.is_file():
        return None
    original: Any = nib.load(source)
    if original.shape[:3] != data.shape or not set(original.shape[3:]) <= {1}:
        return None
    # MONAI mends the affine of a file whose two forms disagree; what it made of it is the file's grid too.
    grids = [original.affine, meta.get("original_affine")]
    # Up to a hundredth of a voxel: float32 on the way may not turn the file's own grid into another one.
    tolerance = 0.01 * np.linalg.norm(affine[:3, :3], axis=0).min()
    if not any(g is not None and np.allclose(np.asarray(g), affine, rtol=0, atol=tolerance) for g in grids):
        return None
    header = type(original.header)()
    for field in GEOMETRY_FIELDS:
        header[field] = original.header[field]
    header.set_data_dtype(data.dtype)
    return type(original)(data.reshape(original.shape), None, header)


class SaveMaskd(MapTransform):
    """Save masks as `<case>_<postfix>.nii.gz`, on the voxel grid of the file they came from.

    The case is named after the reference's file; without one it is called "mask". The path is left in the
    mask's metadata as `saved_to`, where it has metadata.

    Args:
        keys: keys of the masks, values 0 and 1 (or label ids, with ``labels``), [1, X, Y, Z].
        output_dir: folder to write to, made where missing.
        postfix: one for each key; by default the key itself.
        reference_key: key of the volume whose file and affine the masks belong to; by default the mask's own.
        suffix: ".nii.gz" or ".nii".
        labels: they are label maps, see `save_mask`.
        allow_missing_keys: do not raise where a key is missing.

    Raises:
        InputError: when called, for values other than 0 and 1, an unknown affine, or a case whose file is named like
            that of another folder, whose result it would replace.
    """

    backend = [TransformBackends.NUMPY]

    def __init__(
        self,
        keys: KeysCollection,
        output_dir: PathLike,
        *,
        postfix: str | tuple[str, ...] | list[str] | None = None,
        reference_key: Hashable | None = None,
        suffix: str = ".nii.gz",
        labels: bool = False,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.output_dir = Path(output_dir).expanduser()
        self._sources: dict[str, str] = {}  # by the name of what was saved
        self.postfixes = (
            tuple(map(str, self.keys)) if postfix is None else ensure_tuple_rep(postfix, len(self.keys))
        )
        if len(set(self.postfixes)) < len(self.postfixes):
            raise InputError(f"postfix is {postfix!r}; expected a different one for each of {self.keys}")
        self.reference_key = reference_key
        self.suffix = suffix
        self.labels = labels

    def __call__(self, data: Mapping[Hashable, NdarrayOrTensor]) -> dict[Hashable, NdarrayOrTensor]:
        """Save every key of a dictionary of [1, X, Y, Z] masks; the data stay as they are."""
        d = dict(data)
        for key, postfix in self.key_iterator(d, self.postfixes):
            reference = d[key] if self.reference_key is None else d[self.reference_key]
            source = getattr(reference, "meta", {}).get("filename_or_obj")
            name = f"{case_name(source) if source else 'mask'}_{postfix}{self.suffix}"
            self._check_source(name, source)
            path = save_mask(d[key], self.output_dir / name, reference=reference, labels=self.labels)
            meta = getattr(d[key], "meta", None)
            if meta is not None:
                meta["saved_to"] = str(path)
        return d

    def _check_source(self, name: str, source: Any) -> None:
        if source is None:
            return
        before = self._sources.setdefault(name, str(source))
        if before != str(source):
            raise InputError(
                f"{source}: would replace {name} of {before}; rename one of them, or save each folder's cases apart"
            )


SaveMaskD = SaveMaskDict = SaveMaskd
