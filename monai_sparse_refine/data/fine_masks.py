"""Crops of fine bone masks to train super-resolution on: from CTs, packed masks and procedural skulls."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
from monai.transforms import LoadImage
from scipy import ndimage

from monai_sparse_refine.data.inputs import find_volumes
from monai_sparse_refine.data.phantom_volume import skull_phantom
from monai_sparse_refine.data.skull_cases import read_split
from monai_sparse_refine.errors import InputError
from monai_sparse_refine.files import atomic_path
from monai_sparse_refine.volume import as_volume, case_name, spacing_of

__all__ = ["FineMask", "crops", "ct_mask", "export_fine_masks", "simulated_ct_mask"]

PARTS = ("training", "validation")
_PHANTOM_MM = (0.5, 0.7, 0.9, 1.0, 1.2, 1.5, 2.0)
_FIRST_SEED = 5_000  # phantoms of tests have other seeds
# CTs of voxels up to this size show bone as it is; coarser ones are interpolated to finer grids first.
_FINE_MM = 2.0


class FineMask(NamedTuple):
    """A mask to cut crops from: name, boolean array [X, Y, Z], spacing in mm, number of crops."""

    name: str
    mask: np.ndarray
    spacing: tuple[float, float, float]
    crops: int


def simulated_ct_mask(
    solid: np.ndarray, spacing: Sequence[float], rng: np.random.Generator, *, threshold: float | None = None
) -> np.ndarray:
    """Threshold a simulated CT of a solid: bone of uneven density, blurred by the scanner, with its noise.

    What a threshold does to real scans happens here too: thin bone is lost or torn by partial volume, surfaces are
    ragged, pores open and close.

    Args:
        solid: bool or 0 and 1 [X, Y, Z].
        spacing: mm.
        rng: draws 700 to 1500 HU of bone, its texture, a blur of 0.35 to 0.8 mm (sigma), noise of 3 to 90 HU.
        threshold: HU; None draws 200 to 350.

    Returns:
        Boolean array, largest part.
    """
    mm = np.asarray(spacing, dtype=float)
    texture = 1 + _noise(solid.shape, rng.uniform(0.1, 0.4), rng.uniform(2, 5) / mm, rng)
    bone = solid.astype(np.float32) * np.float32(rng.uniform(700, 1500)) * texture
    hu = ndimage.gaussian_filter(bone, rng.uniform(0.35, 0.8) / mm) + np.float32(rng.uniform(20, 80))
    hu += _noise(solid.shape, _log_uniform(3, 90, rng), rng.uniform(0.4, 0.8), rng)
    return _largest(hu > (rng.uniform(200, 350) if threshold is None else threshold))


def ct_mask(
    ct: np.ndarray, spacing: Sequence[float], voxel_mm: Sequence[float] | None, rng: np.random.Generator
) -> np.ndarray:
    """Bone of a CT, interpolated (cubic) to finer voxels, somewhat sharpened, with noise, at 200 to 400 HU.

    Args:
        ct: HU [X, Y, Z].
        spacing: mm.
        voxel_mm: edges of the new voxels; None thresholds the CT as it is.
        rng: draws.

    Returns:
        Boolean array, largest part.
    """
    hu = ct.astype(np.float32)
    if voxel_mm is not None:
        edges = np.asarray(voxel_mm, dtype=float)
        zoom = np.maximum(1, np.round(hu.shape * np.asarray(spacing) / edges)) / hu.shape
        hu = ndimage.zoom(hu, zoom, order=3, grid_mode=True, mode="nearest")
        hu += np.float32(rng.uniform(0, 1.2)) * (hu - ndimage.gaussian_filter(hu, 2.0 / edges))
        hu += _noise(hu.shape, _log_uniform(2, 100, rng), rng.uniform(0.4, 0.9), rng)
    return _largest(hu > rng.uniform(200, 400))


def crops(mask: np.ndarray, count: int, size: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Cubes of ``size`` voxels around random foreground voxels; a smaller volume is padded with background."""
    missing = [max(0, size - n) for n in mask.shape]
    padded = np.pad(mask, [(n // 2, n - n // 2) for n in missing])
    places = np.argwhere(padded)
    for _ in range(count if len(places) else 0):
        centre = places[rng.integers(len(places))] + rng.integers(-size // 4, size // 4 + 1, 3)
        low = [int(np.clip(c - size // 2, 0, n - size)) for c, n in zip(centre, padded.shape, strict=True)]
        yield padded[tuple(slice(start, start + size) for start in low)]


def phantom_masks(count: int, rng: np.random.Generator, *, first_seed: int) -> Iterator[FineMask]:
    """Simulated CTs of procedural skulls of 0.5 to 2 mm, slices up to twice as thick; every sixth as it is."""
    for number in range(count):
        edge = float(rng.choice(_PHANTOM_MM))
        spacing = (edge, edge, edge * float(rng.choice([1, 1, 1.5, 2])))
        solid = skull_phantom(first_seed + number, spacing=spacing)[0].numpy() > 0
        mask = solid if number % 6 == 5 else simulated_ct_mask(solid, spacing, rng)
        yield FineMask(f"phantom{first_seed + number}", mask, spacing, 14 if edge < 1.4 else 6)


def scan_masks(files: Sequence[Path], rng: np.random.Generator) -> Iterator[FineMask]:
    """Bone of CTs as they are, and interpolated to about 2 mm (fine ones to 1 mm, coarse ones to both)."""
    load = LoadImage(ensure_channel_first=True)
    for file in files:
        image = load(file)
        ct, spacing = as_volume(image, name=case_name(file)), spacing_of(image)
        if ct.min() >= 0:  # a mask
            yield FineMask(case_name(file), ct > 0, spacing, 2)
            continue
        coarse = max(spacing) > _FINE_MM
        yield FineMask(case_name(file), ct_mask(ct, spacing, None, rng), spacing, 2 if coarse else 30)
        for low, high, count in ((0.8, 1.4, 6), (1.4, 2.6, 3)) if coarse else ((0.9, 1.1, 14),):
            edge = float(rng.uniform(low, high))
            voxel = (edge, edge, edge * float(rng.uniform(1, 1.6)))
            yield FineMask(f"{case_name(file)}_{edge:.2f}mm", ct_mask(ct, spacing, voxel, rng), voxel, count)


def packed_masks(source: str | Path, leave_out: Sequence[str]) -> Iterator[FineMask]:
    """Masks of the packed file that `monai_sparse_refine.data.head_masks` reads, whole, but for those left out."""
    try:
        with np.load(source, allow_pickle=False) as packed:
            masks, ids, spacings = packed["masks"], packed["ids"], packed["vox"]
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{source} is no packed mask file with 'masks', 'ids' and 'vox': {error}") from error
    for bits, name, spacing in zip(masks, ids, spacings, strict=True):
        mask = np.unpackbits(bits).reshape(128, 128, 128).astype(bool)
        if str(name) not in leave_out and mask.sum() > 5000:
            yield FineMask(str(name), mask, (float(spacing[0]), float(spacing[1]), float(spacing[2])), 2)


def export_fine_masks(
    masks: Iterator[FineMask], folder: str | Path, *, rng: np.random.Generator, size: int = 96
) -> int:
    """Write crops of masks as ``<name>_<number>.nii.gz`` (uint8) and return their number."""
    written = 0
    for item in masks:
        for crop in crops(item.mask, item.crops, size, rng):
            with atomic_path(Path(folder) / f"{item.name}_{written:05d}.nii.gz") as temporary:
                nib.save(nib.Nifti1Image(crop.astype(np.uint8), np.diag([*item.spacing, 1.0])), temporary)
            written += 1
    return written


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line: write the folders `training` and `validation` of crops."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output-dir", required=True, help="folder for the folders training and validation")
    parser.add_argument("--cts", help="folder of head CTs, some of them named in the split")
    parser.add_argument("--packed", help="packed .npz file of head bone masks")
    parser.add_argument("--split", help="split file (JSON) of the patients of --cts and --packed")
    parser.add_argument(
        "--more", nargs="*", default=[], help="more CTs or masks (files or folders) to train on"
    )
    parser.add_argument("--phantoms", type=int, default=24, help="procedural skulls to train on")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    if (options.cts or options.packed) and not options.split:
        raise SystemExit("error: --cts and --packed need --split, which says who is trained on")
    cts = (
        {case_name(file).removesuffix("_ct"): file for file in find_volumes(options.cts)}
        if options.cts
        else {}
    )
    for number, part in enumerate(PARTS):
        rng = np.random.default_rng([options.seed, number])
        named = read_split(options.split, part) if options.split else []
        sources = [
            phantom_masks(
                options.phantoms if number == 0 else 2, rng, first_seed=_FIRST_SEED + (1000 if number else 0)
            ),
            scan_masks([cts[name] for name in named if name in cts], rng),
        ]
        if number == 0:
            if options.packed:
                others = [n for other in ("validation", "test") for n in read_split(options.split, other)]
                sources.append(packed_masks(options.packed, others))
            if options.more:
                sources.append(scan_masks(find_volumes(options.more), rng))
        total = sum(export_fine_masks(s, Path(options.output_dir) / part, rng=rng) for s in sources)
        print(f"{total} crops in {Path(options.output_dir) / part}", flush=True)


def _noise(
    shape: Sequence[int], deviation: float, sigma: float | np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Smooth Gaussian noise of a standard deviation; ``sigma`` of its grain in voxels."""
    noise = ndimage.gaussian_filter(rng.standard_normal(tuple(shape), dtype=np.float32), sigma)
    # A grain as wide as a small volume would shift its mean.
    return (noise - noise.mean()) * np.float32(deviation / noise.std())


def _log_uniform(low: float, high: float, rng: np.random.Generator) -> float:
    """Clean scans as often as noisy ones: a network that expects noise everywhere is unsure of smooth surfaces."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _largest(mask: np.ndarray) -> np.ndarray:
    labels, count = ndimage.label(mask, structure=np.ones((3, 3, 3)))
    return labels == np.bincount(labels.ravel())[1:].argmax() + 1 if count else mask


if __name__ == "__main__":
    main()
