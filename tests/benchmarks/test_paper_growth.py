"""Growing outlines: pixels grow with the side, and the gap takes its share."""

import numpy as np
import pytest

from benchmarks.paper_growth import GAP, make_outlines, outline


@pytest.mark.parametrize("size", [128, 512])
def test_an_outline_has_a_gap_of_its_share(size):
    complete, defective = outline(size)
    assert complete.shape == defective.shape == (size, size) and complete.dtype == np.uint8
    assert not (defective > complete).any()
    assert 1 - defective.sum() / complete.sum() == pytest.approx(GAP, abs=0.05)
    assert not complete[0].any() and not complete[:, -1].any()


def test_pixels_double_with_the_side(tmp_path):
    cases = make_outlines([256, 512], tmp_path)
    assert cases[512]["occupied"] == pytest.approx(2 * cases[256]["occupied"], rel=0.05)
    with np.load(cases[256]["file"]) as case:
        assert int(case["defective"].sum()) == cases[256]["occupied"] < int(case["complete"].sum())
