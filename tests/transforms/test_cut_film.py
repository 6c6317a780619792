import numpy as np
import pytest
from scipy import ndimage

from monai_sparse_refine.metrics import border_gap
from monai_sparse_refine.transforms.cut_film import film_on_cut
from monai_sparse_refine.transforms.implant_cleaning import clean_implant

SHAPE = (110, 110, 66)
MIDDLE = np.array([54.5, 54.5, 5.0])


@pytest.fixture(scope="module")
def cut() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Bone, true implant, difference with a film all over the bone, and the implant without its thin edge.

    A dome of 7 voxels with a hole whose wall is cut at some 70 degrees, wider outside than inside.
    """
    x, y, z = np.indices(SHAPE) - MIDDLE[:, None, None, None]
    reach = np.sqrt(x**2 + y**2 + z**2)
    wall = (reach > 45) & (reach < 52) & (z > 0)
    across = np.hypot(x, y)
    implant = wall & (across < 14 + 3.0 * (reach - 45)) & (z > 20)
    bone = wall & ~implant
    film = ndimage.binary_dilation(bone, np.ones((3, 3, 3))) & ~bone
    body = ndimage.binary_opening(implant, np.ones((3, 3, 3)))
    return bone, implant, implant | film, body


def test_the_film_on_a_cut_face_is_kept_and_that_on_natural_bone_is_not(cut) -> None:
    bone, implant, difference, body = cut
    film = film_on_cut(difference, body, bone, spacing=(1, 1, 1), middle=MIDDLE, reach_mm=6.0)
    assert not (film & (body | bone)).any() and not (film & ~difference).any()
    edge = implant & ~body
    beyond = ndimage.distance_transform_edt(~implant) > 2  # the smoothed surface turns over the edge
    noise = difference & beyond & (ndimage.distance_transform_edt(~body) <= 6)
    assert (film & edge).sum() > 0.5 * edge.sum()
    assert (film & noise).sum() < 0.1 * noise.sum()


def test_the_film_is_joined_to_the_implant_within_reach(cut) -> None:
    bone, _, difference, body = cut
    reach = ndimage.distance_transform_edt(~body)
    for reach_mm in (1.0, 3.0):
        film = film_on_cut(difference, body, bone, spacing=(1, 1, 1), middle=MIDDLE, reach_mm=reach_mm)
        assert film.any() and reach[film].max() <= reach_mm
        assert ndimage.label(film | body, np.ones((3, 3, 3)))[1] == 1


def test_millimetres_count(cut) -> None:
    bone, _, difference, body = (np.repeat(mask, 2, axis=2) for mask in cut)
    film = film_on_cut(difference, body, bone, spacing=(1, 1, 0.5), middle=MIDDLE * (1, 1, 2), reach_mm=3.0)
    assert ndimage.distance_transform_edt(~body, sampling=(1, 1, 0.5))[film].max() <= 3.0
    once = film_on_cut(cut[2], cut[3], cut[0], spacing=(1, 1, 1), middle=MIDDLE, reach_mm=3.0)
    assert abs(film.sum() / 2 / once.sum() - 1) < 0.25


def test_nothing_grows_from_nothing(cut) -> None:
    bone, _, difference, body = cut
    empty = np.zeros_like(bone)
    for made, implant in ((difference, empty), (body, body)):
        assert not film_on_cut(made, implant, bone, spacing=(1, 1, 1), middle=MIDDLE, reach_mm=4.0).any()


def test_the_cleaning_closes_a_hole_that_was_cut_aslant(cut) -> None:
    bone, implant, difference, _ = cut
    options = {"spacing": (1, 1, 1), "middle": MIDDLE}
    bare = clean_implant(difference, bone, film_mm=0.0, **options)
    kept = clean_implant(difference, bone, **options)
    assert not (bare & ~kept).any()
    assert border_gap(kept, implant, bone) <= 2 < border_gap(bare, implant, bone)
    coarse = clean_implant(difference, bone, spacing=(2.5, 2.5, 2.5), middle=MIDDLE)
    without = clean_implant(difference, bone, spacing=(2.5, 2.5, 2.5), middle=MIDDLE, film_mm=0.0)
    assert np.array_equal(coarse, without)
