"""A level ring of bone at the top is the end of a scan; a vertex or a ragged rim is not."""

import numpy as np

from monai_sparse_refine.data import skull_phantom
from monai_sparse_refine.transforms import RandCranialDefect
from monai_sparse_refine.transforms.scan_end import end_of_scan
from monai_sparse_refine.volume import as_mask


def test_the_end_of_a_scan_is_told_from_a_vertex_and_from_a_hole():
    skull = skull_phantom(4, spacing=2.0)
    bone = as_mask(skull)
    height = bone.shape[2]
    assert end_of_scan(bone, 2.0) == height
    top = int(np.flatnonzero(bone.any(axis=(0, 1)))[-1])
    for lower_mm in (16, 30, 50):
        end = top - lower_mm // 2
        cut_off = bone.copy()
        cut_off[..., end:] = False
        assert end_of_scan(cut_off, 2.0) == end
        assert end_of_scan(cut_off[..., :end], 2.0) == end
    for seed in range(4):
        holed = RandCranialDefect("bilateral", size_mm=(55.0, 55.0)).set_random_state(seed)(skull)
        assert end_of_scan(as_mask(holed), 2.0) == height
