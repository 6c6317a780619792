"""A label map of probabilities: the most probable class, each organ cleaned as before a refinement."""

import numpy as np
import torch
from monai.data import MetaTensor

from monai_sparse_refine.transforms import KeepMajorComponents, OrganLabelsD, OrganLabelsd

AFFINE = np.diag([1.0, 2, 2, 1])


def probabilities() -> MetaTensor:
    """Two organs, the second one with a blob of three voxels 6 mm away, where the first is nearly as probable."""
    soft = torch.zeros(3, 12, 4, 4, dtype=torch.uint8)
    soft[1, :3] = 200
    soft[2, 4:8] = 180
    soft[2, 10, 0, :3], soft[1, 10, 0, :3] = 130, 120
    soft[0] = 255 - soft[1:].sum(0)
    return MetaTensor(soft, affine=AFFINE)


def test_the_most_probable_class_wins():
    out = OrganLabelsd("p", labels_key="l", organs=("a", "b"))({"p": probabilities()})["l"]
    assert out.shape == (1, 12, 4, 4) and out.dtype == torch.uint8
    assert (out == 1).sum() == 3 * 16 and (out == 2).sum() == 4 * 16 + 3
    np.testing.assert_array_equal(out.affine, AFFINE)


def test_each_organ_is_prepared_by_its_own_step():
    for prepare, voxels in (
        (KeepMajorComponents(fraction=1), 4 * 16),
        ({"a": KeepMajorComponents(fraction=1)}, 4 * 16 + 3),
        ({"b": KeepMajorComponents(fraction=0, near_mm=2)}, 4 * 16),
        ({"b": KeepMajorComponents(fraction=0, near_mm=3)}, 4 * 16 + 3),
    ):
        data = OrganLabelsD("p", prepare=prepare, organs=("a", "b"))({"p": probabilities()})
        assert (data["dense"] == 2).sum() == voxels and (data["dense"] == 1).sum() == 3 * 16
