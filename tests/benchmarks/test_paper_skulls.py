"""Both kinds of skulls: repeatable training pairs at every size, and test cases that are the same everywhere."""

import nibabel as nib
import numpy as np
import pytest
import torch

from benchmarks.paper_skulls import CTSkulls, MRILikeSkulls
from monai_sparse_refine.data import phantom_cases


@pytest.fixture(scope="module")
def ct(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phantoms")
    phantoms = phantom_cases(folder, count=4, first_seed=2_000, spacing=4.0)
    return CTSkulls(phantoms[:2], phantoms[2:], kinds=["parietotemporal", "random"])


@pytest.fixture(scope="module")
def mri(tmp_path_factory):
    folder = tmp_path_factory.mktemp("brains")
    x, y, z = np.mgrid[:30, :36, :28] - np.array([15, 18, 14]).reshape(3, 1, 1, 1)
    for number in range(3):
        brain = (x / 13) ** 2 + (y / (16 - number)) ** 2 + (z / 12) ** 2 < 1
        image = nib.Nifti1Image(brain.astype(np.uint8), np.diag([4.0, 4.0, 4.0, 1.0]))
        nib.save(image, folder / f"p{number}_brain.nii.gz")
    return MRILikeSkulls(folder, test=1, holes=2)


@pytest.mark.parametrize(("kind", "sizes"), [("ct", (32, 48)), ("mri", (24, 36))])
def test_a_seed_gives_the_same_pair_and_another_seed_another(kind, sizes, request):
    skulls = request.getfixturevalue(kind)
    for size in sizes:
        pairs = [skulls.training_pair(size, seed=seed) for seed in (4, 4, 5)]
        defective, complete = pairs[0]
        assert max(defective.shape) == size and defective.shape == complete.shape
        assert not bool((defective > complete).any()) and 0 < int(defective.sum()) < int(complete.sum())
        assert all(torch.equal(a, b) for a, b in zip(*pairs[:2], strict=True))
        assert not all(
            a.shape == b.shape and torch.equal(a, b) for a, b in zip(pairs[0], pairs[2], strict=True)
        )


@pytest.mark.parametrize(("kind", "sizes"), [("ct", (48, 64)), ("mri", (24, 36))])
def test_the_test_cases_are_the_same_at_every_size(kind, sizes, request):
    skulls = request.getfixturevalue(kind)
    small, large = (list(skulls.test_cases(size)) for size in sizes)
    assert [(case.name, case.kind) for case in small] == [(case.name, case.kind) for case in large]
    assert len(small) == 2
    for case in small:
        assert case.test_set == skulls.name and case.grid == sizes[0]
        assert 0.002 < float(case.true_implant.sum() / case.complete.sum()) < 0.5
    assert len(list(skulls.test_cases(sizes[0], count=1))) == 1


def test_training_and_test_are_other_heads(mri):
    assert not {head.name for head in mri.training} & {head.name for head in mri.test}


def test_phantoms_come_early_however_many_patients_there_are(ct):
    """The few cases of large sizes hold both kinds."""
    names = [skull["name"] for skull in ct.test]
    assert [case.name for case in ct.test_cases(48)] == [names[0], names[1]]
