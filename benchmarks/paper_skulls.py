"""The two kinds of skulls of the accuracy tables: a training stream of each, and fixed test cases."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import nibabel as nib
import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, CopyItemsd, LoadImaged, Orientationd, RandFlipd

from benchmarks.mri_like import Head, cut_ball, mirrored, read_head, split_brains, surfaces
from benchmarks.skull_cases import SEEN_KINDS, SkullCase, skull_cases
from monai_sparse_refine.data import phantom_cases, skull_phantom
from monai_sparse_refine.data.inputs import find_volumes
from monai_sparse_refine.files import atomic_path
from monai_sparse_refine.transforms import MakeMultiResolutiond, RandCranialDefectd, ToBinaryMaskd
from monai_sparse_refine.volume import case_name

CT, MRI = "CT skulls", "MRI-like skulls"
TEST_MM = (0.4375, 0.4375, 2.0)
Pair = tuple[torch.Tensor, torch.Tensor]


class Skulls(Protocol):
    """Skulls of one kind at several resolutions."""

    name: str

    def training_pair(self, size: int, *, seed: int) -> Pair:
        """A defective and the complete skull, uint8 [1, X, Y, Z]; a seed always gives the same."""

    def test_cases(self, size: int, *, count: int | None = None) -> Iterator[SkullCase]:
        """Fixed holes in skulls that training never saw, the same at every size; at most ``count``."""


class CTSkulls:
    """Skulls of CT scans and phantoms, at in-plane sizes; one hole in each test skull, the kinds in turn.

    Args:
        training: complete skulls, ``{"label": file, "name": name}``.
        test: others.
        kinds: kinds of holes, of training and test alike.
    """

    name = CT

    def __init__(
        self,
        training: Sequence[Mapping[str, Any]],
        test: Sequence[Mapping[str, Any]],
        *,
        kinds: Sequence[str] = SEEN_KINDS,
    ) -> None:
        self.training, self.test, self.kinds = list(training), list(test), tuple(kinds)
        self._loaded: dict[int, MetaTensor] = {}

    def training_pair(self, size: int, *, seed: int) -> Pair:
        """See `Skulls`."""
        draw = Compose(
            [
                RandFlipd("label", prob=0.5, spatial_axis=0),
                CopyItemsd("label", names="image"),
                RandCranialDefectd("image", self.kinds, allow_intact=True),
                MakeMultiResolutiond(["image", "label"], [size]),
            ]
        )
        draw.set_random_state(seed)
        index = int(np.random.default_rng(seed).integers(len(self.training)))
        made = draw({"label": self._complete(index)})
        return made[f"image_{size}"].as_tensor(), made[f"label_{size}"].as_tensor()

    def test_cases(self, size: int, *, count: int | None = None) -> Iterator[SkullCase]:
        """See `Skulls`. The first of them are taken from both ends of the list in turn: patients and phantoms."""
        ends = [self.test[i // 2] if i % 2 == 0 else self.test[-1 - i // 2] for i in range(len(self.test))]
        for number, skull in enumerate(ends[:count]):
            # A cropped scan may have no room for one kind; then the next is tried.
            kinds = [self.kinds[(number + turn) % len(self.kinds)] for turn in range(len(self.kinds))]
            for kind in kinds:
                found = list(skull_cases(self.name, [skull], kinds=[kind], grids=[size], seed=97 * number))
                if found:
                    yield found[0]
                    break

    def _complete(self, index: int) -> MetaTensor:
        if index not in self._loaded:
            load = Compose(
                [
                    LoadImaged("label", ensure_channel_first=True, dtype=np.float32),
                    ToBinaryMaskd("label"),
                    Orientationd("label", axcodes="RAS", labels=None),
                ]
            )
            mask = load(dict(self.training[index]))["label"]
            self._loaded[index] = MetaTensor(mask.as_tensor().to(torch.uint8), affine=mask.affine)
        return self._loaded[index]


class MRILikeSkulls:
    """Outer and inner surfaces made of brain masks, on cubes of voxels; ball-shaped holes.

    Args:
        folder: brain masks (NIfTI, label 1), one or more of a patient.
        radius_mm: of the holes.
        holes: in each test head.
        test: test patients.
        seed: of the split and the heads' thickness.
    """

    name = MRI

    def __init__(
        self,
        folder: str | Path,
        *,
        radius_mm: tuple[float, float] = (20.0, 35.0),
        holes: int = 2,
        test: int = 8,
        seed: int = 0,
    ) -> None:
        files = [Path(path) for path in find_volumes(folder)]
        numbers = {file: seed + number for number, file in enumerate(files)}
        parts = split_brains(files, seed=seed, test=test)
        self.training, self.test = ([read_head(file, seed=numbers[file]) for file in part] for part in parts)
        self.radius_mm, self.holes = radius_mm, holes
        self._made: dict[tuple[str, int, bool], tuple[Head, MetaTensor]] = {}

    def training_pair(self, size: int, *, seed: int) -> Pair:
        """See `Skulls`."""
        random = np.random.default_rng(seed)
        head = self.training[random.integers(len(self.training))]
        key = head.name, size, bool(random.random() < 0.5)
        if key not in self._made:
            turned = mirrored(head) if key[2] else head
            self._made[key] = turned, surfaces(turned, size)
        head, complete = self._made[key]
        defective = cut_ball(head, complete, seed=seed, radius_mm=self.radius_mm)
        return defective.as_tensor(), complete.as_tensor()

    def test_cases(self, size: int, *, count: int | None = None) -> Iterator[SkullCase]:
        """See `Skulls`."""
        every = [(number, head) for _ in range(self.holes) for number, head in enumerate(self.test)]
        for hole, (number, head) in enumerate(every[:count]):
            complete = surfaces(head, size)
            defective = cut_ball(head, complete, seed=hole, radius_mm=self.radius_mm)
            largest = float(max(self.radius_mm))
            yield SkullCase(self.name, head.name, f"ball {number}", largest, size, complete, defective)


def training_phantoms(folder: str | Path, count: int) -> list[dict[str, Any]]:
    """Phantoms to train on, kept in a folder, with the voxels of 128 in-plane."""
    return phantom_cases(folder, count=count, first_seed=2_000, spacing=1.75)


def test_phantoms(folder: str | Path, count: int) -> list[dict[str, Any]]:
    """Other phantoms, kept in a folder, with the in-plane voxels of 512 and slices as of a clinical scan."""
    cases = []
    for seed in range(90_000, 90_000 + count):
        path = Path(folder) / f"phantom_{seed}_{TEST_MM[0]:g}_{TEST_MM[2]:g}mm.nii.gz"
        if not path.exists():
            phantom = skull_phantom(seed, spacing=TEST_MM)
            with atomic_path(path) as temporary:
                nib.save(nib.Nifti1Image(phantom[0].numpy(), phantom.affine.numpy()), temporary)
        cases.append({"label": str(path), "name": case_name(path)})
    return cases
