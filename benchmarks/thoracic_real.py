"""The thoracic bundle on one real contrast chest CT, with masks of aorta and heart: cropped scans, nothing rendered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.data import MetaTensor

from benchmarks.thoracic_methods import ORGANS, DenseUNet, classical
from benchmarks.thoracic_scores import organ_scores
from monai_sparse_refine.errors import InputError
from monai_sparse_refine.transforms import RandMaskCorruption, SparseRefine

__all__ = ["real_rows"]

SCANS = {
    "aorta": ("aorta_report__test_result__models__ct_cropped", "aorta_report__test_result__models__aorta"),
    "heart": ("pulmonary_report__models__ct_cropped", "pulmonary_report__models__heart"),
}
SEEDS = range(4)  # corruptions of each mask


def real_rows(
    folder: Path, unet: DenseUNet, refine: SparseRefine, refine_foreign: SparseRefine
) -> list[dict[str, Any]]:
    """Rows of scores: the UNet's mask and corrupted true masks, before and after.

    Args:
        folder: of the scans.
        unet: the dense network.
        refine: what refines its masks.
        refine_foreign: what refines other masks.

    Raises:
        InputError: a scan or mask that is not there.
    """
    rows = []
    for organ, names in SCANS.items():
        files = [folder / f"{name}.nii.gz" for name in names]
        for file in files:
            if not file.is_file():
                raise InputError(f"{file}: no such file; give the folder of the real chest CT")
        ct, mask = (nib.load(file) for file in files)
        truth = _on_grid(mask, ct, ORGANS[organ])
        dense = unet(str(files[0]))
        candidates = {
            "resampled, linear": dense["labels"],
            "largest component + holes": classical(dense["labels"]),
            "ours": refine(dense["labels"], dense["ct"], dense["probability"]),
        }
        for method, labels in candidates.items():
            rows.append(
                {"part": "real", "case": organ, "method": method, **organ_scores(labels, truth, organ)}
            )
        for seed in SEEDS:
            fault = RandMaskCorruption(count=(2, 3)).set_random_state(seed)
            # A corrupted mask is 0 and 1; the label map wants the organ's id.
            faulty: Any = fault(truth)
            corrupted = MetaTensor(faulty.as_tensor() * ORGANS[organ], affine=truth.affine)
            candidates = {
                "corrupted": corrupted,
                "corrupted, largest component + holes": classical(corrupted),
                "corrupted, ours without intensities": refine_foreign(corrupted),
                "corrupted, ours": refine_foreign(corrupted, dense["ct"]),
            }
            for method, labels in candidates.items():
                scores = organ_scores(labels, truth, organ)
                rows.append({"part": "real", "case": f"{organ} {seed}", "method": method, **scores})
    return rows


def _on_grid(mask: Any, ct: Any, number: int) -> MetaTensor:
    """A mask at the centres of a CT's voxels, as a label map with one id."""
    to_mask = np.linalg.inv(mask.affine) @ ct.affine
    index = np.stack(np.meshgrid(*[np.arange(n) for n in ct.shape], indexing="ij"), axis=-1)
    source = np.rint(index @ to_mask[:3, :3].T + to_mask[:3, 3]).astype(int)
    volume = np.asarray(mask.dataobj) > 0
    inside = ((source >= 0) & (source < volume.shape)).all(-1)
    source = np.clip(source, 0, np.asarray(volume.shape) - 1)
    on = volume[tuple(np.moveaxis(source, -1, 0))] & inside
    return MetaTensor(torch.from_numpy(on[None].astype(np.uint8) * np.uint8(number)), affine=ct.affine)
