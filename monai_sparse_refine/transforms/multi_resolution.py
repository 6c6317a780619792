"""One case at several in-plane resolutions, as the reference method is trained and judged."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from monai.config import KeysCollection
from monai.config.type_definitions import NdarrayOrTensor
from monai.data import MetaTensor
from monai.data.utils import affine_to_spacing
from monai.transforms import MapTransform, Transform
from monai.utils import TransformBackends

from monai_sparse_refine.errors import InputError
from monai_sparse_refine.transforms.resample import box_affine, resample_to_shape
from monai_sparse_refine.volume import as_tensor

__all__ = [
    "MakeMultiResolution",
    "MakeMultiResolutionD",
    "MakeMultiResolutionDict",
    "MakeMultiResolutiond",
    "in_plane_shape",
]

IN_PLANE = (64, 128, 256, 512)


def in_plane_shape(shape: Sequence[int], spacing: Sequence[float], in_plane: int) -> tuple[int, int, int]:
    """Shape of the grid with `in_plane` voxels along the longer of the first two axes, over the same box.

    The other in-plane axis keeps its share. Slices are merged where they are closer than the new in-plane
    voxels, so that a low resolution is low along every axis, and never interpolated: a 512 x 512 x Z scan stays
    as it is at 512.

    Args:
        shape: voxels (3,).
        spacing: mm (3,).
        in_plane: voxels along the longer in-plane side.
    """
    side = [shape[axis] * spacing[axis] for axis in range(3)]  # mm
    pitch = max(side[0], side[1]) / in_plane
    x, y = (max(1, round(side[axis] / pitch)) for axis in range(2))
    z = min(shape[2], max(1, round(side[2] / pitch)))
    return x, y, z


class MakeMultiResolution(Transform):
    """Resample one mask to several in-plane resolutions (Li et al., Sci. Rep. 13:20229, 2023, use 64 to 512).

    The first two axes are in-plane, the third runs along the slices (MONAI's ``Orientationd`` with RAS gives
    that for axial scans). Every grid covers exactly the mask's own box, and the affine follows. Where an axis
    shrinks a voxel takes the mean, where it grows it is interpolated linearly.

    Args:
        in_plane: voxels along the longer in-plane side, one for each result.
        threshold: fraction of a voxel that must be foreground; None keeps the fractions (float32).

    Raises:
        InputError: a resolution that is not positive or there twice; when called, for what is not
            [C, X, Y, Z].
    """

    backend = [TransformBackends.TORCH]

    def __init__(self, in_plane: Sequence[int] = IN_PLANE, *, threshold: float | None = 0.5) -> None:
        self.in_plane = tuple(int(n) for n in in_plane)
        if not self.in_plane or min(self.in_plane) < 1 or len(set(self.in_plane)) < len(self.in_plane):
            raise InputError(f"in_plane is {tuple(in_plane)}; expected different positive numbers of voxels")
        self.threshold = threshold

    def __call__(self, mask: NdarrayOrTensor) -> dict[int, MetaTensor]:
        """Resample a mask.

        Args:
            mask: [C, X, Y, Z]; without an affine a voxel counts as 1 mm.

        Returns:
            By in-plane resolution: [C, x, y, z] in the mask's dtype, with its metadata and the new affine.
        """
        source = mask if isinstance(mask, MetaTensor) else MetaTensor(as_tensor(mask))
        if source.ndim != 4:
            raise InputError(f"mask has shape {tuple(source.shape)}; expected one case [C, X, Y, Z]")
        shape = tuple(source.shape[1:])
        spacing = affine_to_spacing(source.affine, r=3).tolist()
        results = {}
        for size in self.in_plane:
            target = in_plane_shape(shape, spacing, size)
            values = source.as_tensor()
            if target != shape:
                values = resample_to_shape(values, target)
                if self.threshold is not None:
                    values = (values >= self.threshold).to(source.dtype)
            result = MetaTensor(values.clone(), meta=dict(source.meta))
            result.affine = box_affine(source.affine, shape, target)
            results[size] = result
        return results


class MakeMultiResolutiond(MapTransform):
    """Dictionary version of `MakeMultiResolution`: writes ``image_64``, ``image_128`` ... beside ``image``.

    Args:
        keys: masks [C, X, Y, Z].
        in_plane, threshold: as in `MakeMultiResolution`.
        key_format: name of each result, from its ``key`` and its ``size``.
        allow_missing_keys: whether a missing key is passed over.

    Raises:
        InputError: where a result would overwrite an entry of the dictionary.
    """

    backend = MakeMultiResolution.backend

    def __init__(
        self,
        keys: KeysCollection,
        in_plane: Sequence[int] = IN_PLANE,
        *,
        threshold: float | None = 0.5,
        key_format: str = "{key}_{size}",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.transform = MakeMultiResolution(in_plane, threshold=threshold)
        self.key_format = key_format

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the dictionary with one more entry for each key and resolution."""
        result = dict(data)
        for key in self.key_iterator(result):
            for size, mask in self.transform(result[key]).items():
                name = self.key_format.format(key=key, size=size)
                if name in result:
                    raise InputError(
                        f"key_format {self.key_format!r} gives {name!r}, which is there already; "
                        "use both {key} and {size}"
                    )
                result[name] = mask
        return result


MakeMultiResolutionD = MakeMultiResolutionDict = MakeMultiResolutiond
