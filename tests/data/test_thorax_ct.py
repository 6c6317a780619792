"""A rendered chest: organs where their masks are, air and bone where they belong, another one for every seed."""

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from monai_sparse_refine.data import render_thorax_ct
from monai_sparse_refine.errors import InputError


def organs(codes: str = "RAS") -> MetaTensor:
    """Simple organs, 4 x 4 x 5 mm, in any orientation."""
    x, y, z = np.ogrid[:40, :40, :36]
    labels = np.zeros((40, 40, 36), np.uint8)
    labels[((x - 18) ** 2 + (y - 24) ** 2) / 120 + ((z - 12) / 7) ** 2 < 1] = 2
    labels[(x - 20) ** 2 + (y - 9) ** 2 + 0 * z < 6] = 1
    labels[((x - 15) ** 2 + (y - 10) ** 2 < 9) & (z < 24)] = 4
    labels[((x - 20) ** 2 + (y - 14) ** 2 < 7) & (z >= 20)] = 3
    image = nib.Nifti1Image(labels, np.diag([4.0, 4, 5, 1]))
    turn = nib.orientations.ornt_transform(
        nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(codes)
    )
    image = image.as_reoriented(turn)
    return MetaTensor(torch.from_numpy(np.asarray(image.dataobj)[None].copy()), affine=image.affine)


@pytest.fixture(scope="module")
def rendered():
    return render_thorax_ct(organs(), seed=1)


def test_masks_stay_and_the_grid_holds_the_body(rendered):
    ct, labels = rendered
    assert ct.dtype == torch.int16 and labels.dtype == torch.uint8 and ct.shape == labels.shape
    assert ct.shape[1] > 60 and ct.shape[3] == 36
    torch.testing.assert_close(ct.affine, labels.affine)
    corner = np.rint(np.linalg.solve(labels.affine, [0, 0, 0, 1])[:3]).astype(int)
    x, y, _ = corner
    np.testing.assert_array_equal(labels[0, x : x + 40, y : y + 40], organs()[0])
    assert labels.sum() == organs().sum()
    assert (ct[0, [0, -1]] < -800).all() and (ct[0, :, [0, -1]] < -800).all()


def test_organs_have_their_densities(rendered):
    ct, labels = (np.asarray(volume)[0] for volume in rendered)
    core = {number: ct[_eroded(labels == number)] for number in (1, 2, 3, 4)}
    assert np.median(core[3]) < -850
    assert np.median(core[2]) > 40 and np.median(core[4]) > 30
    assert -50 < np.median(core[1]) < 120 or np.median(core[1]) < -250
    assert (ct > 250).mean() > 0.002  # bone
    assert 0.05 < ((ct < -650) & (ct > -950)).mean() < 0.6  # lungs


def test_in_places_organs_touch_the_lungs_and_in_others_lie_in_fat():
    from scipy import ndimage

    lungs = []
    for seed in range(8):
        ct, labels = (np.asarray(volume)[0] for volume in render_thorax_ct(organs(), seed=seed))
        heart = labels == 2
        ring = ndimage.binary_dilation(heart, iterations=2) & ~ndimage.binary_dilation(heart) & (labels == 0)
        lungs.append((ct[ring] < -500).mean())  # 4 to 8 mm from the heart
    assert max(lungs) > 0.3 and min(lungs) < 0.15


def _eroded(mask: np.ndarray) -> np.ndarray:
    from scipy import ndimage

    thin = ndimage.binary_erosion(mask, np.ones((3, 3, 1)))
    return thin if thin.any() else mask


def test_a_seed_decides_and_orientation_does_not(rendered):
    again, _ = render_thorax_ct(organs(), seed=1)
    assert torch.equal(again, rendered[0])
    other, _ = render_thorax_ct(organs(), seed=2)
    assert other.shape != again.shape or not torch.equal(other, again)
    turned, labels = render_thorax_ct(organs("LPS"), seed=1)
    assert nib.aff2axcodes(turned.affine.numpy()) == ("L", "P", "S")
    torch.testing.assert_close(turned.flip(1, 2).as_tensor(), again.as_tensor())
    torch.testing.assert_close(labels.flip(1, 2).as_tensor(), rendered[1].as_tensor())


def test_the_masks_own_grid_on_request():
    ct, labels = render_thorax_ct(organs("LPS"), seed=3, field_of_view=False)
    assert ct.shape == organs("LPS").shape
    torch.testing.assert_close(ct.affine, organs("LPS").affine)
    assert torch.equal(labels, organs("LPS"))


def test_single_organs_are_enough():
    for number in (1, 2, 3, 4):
        labels = MetaTensor(organs().as_tensor() * (organs().as_tensor() == number), affine=organs().affine)
        assert render_thorax_ct(labels, seed=0, field_of_view=False)[0].float().std() > 100


def test_what_is_no_label_map_of_organs_is_told():
    oblique = organs()
    turn = np.eye(4)
    turn[:2, :2] = [[0.8, -0.6], [0.6, 0.8]]
    oblique.affine = torch.as_tensor(turn) @ oblique.affine
    for labels, message in (
        (organs().as_tensor(), "no affine"),
        (organs() * 0, "ids"),
        (organs() + 4, "ids"),
        (oblique, "oblique"),
    ):
        with pytest.raises(InputError, match=message):
            render_thorax_ct(labels, seed=0)
