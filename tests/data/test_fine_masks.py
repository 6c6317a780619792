import nibabel as nib
import numpy as np
import pytest

from monai_sparse_refine.data.fine_masks import crops, ct_mask, main, simulated_ct_mask


@pytest.fixture
def ball() -> np.ndarray:
    axes = np.meshgrid(*[np.arange(30) - 14.5] * 3, indexing="ij")
    return sum(axis**2 for axis in axes) < 100


def test_a_simulated_ct_keeps_thick_bone_and_roughens_it(ball):
    mask = simulated_ct_mask(ball, (1, 1, 1), np.random.default_rng(0))
    overlap = 2 * (mask & ball).sum() / (mask.sum() + ball.sum())
    assert 0.8 < overlap < 1
    again = simulated_ct_mask(ball, (1, 1, 1), np.random.default_rng(0))
    np.testing.assert_array_equal(mask, again)


def test_a_sheet_thinner_than_the_blur_is_torn_or_lost():
    sheet = np.zeros((24, 24, 24), bool)
    sheet[12] = True
    sheet[:6] = True  # the largest part stays
    for seed in range(3):
        mask = simulated_ct_mask(sheet, (0.3, 0.3, 0.3), np.random.default_rng(seed), threshold=350.0)
        assert mask[:4].mean() > 0.8 and mask[12].mean() < 0.5


def test_ct_masks_are_interpolated_to_the_voxels_asked_for(ball):
    ct = np.where(ball, 900.0, -50.0)
    rng = np.random.default_rng(0)
    assert ct_mask(ct, (2, 2, 4), None, rng).shape == (30, 30, 30)
    fine = ct_mask(ct, (2, 2, 4), (2, 2, 2), rng)
    assert fine.shape == (30, 30, 60)
    assert ct_mask(ct, (2, 2, 4), (1, 1, 3), rng).shape == (60, 60, 40)
    assert fine.mean() == pytest.approx(ball.mean(), rel=0.15)


def test_crops_hold_foreground_and_small_volumes_are_padded(ball):
    rng = np.random.default_rng(0)
    cut = list(crops(ball, 4, 16, rng))
    assert len(cut) == 4 and all(c.shape == (16, 16, 16) and c.any() for c in cut)
    (padded,) = crops(ball, 1, 40, rng)
    assert padded.sum() == ball.sum()
    assert list(crops(np.zeros_like(ball), 3, 16, rng)) == []


def test_the_command_writes_training_and_validation(ball, tmp_path):
    nib.save(
        nib.Nifti1Image(np.where(ball, 900, -50).astype(np.int16), np.diag([1.5, 1.5, 1.5, 1])),
        tmp_path / "a.nii.gz",
    )
    main(["--output-dir", str(tmp_path / "out"), "--phantoms", "1", "--more", str(tmp_path / "a.nii.gz")])
    files = {part: sorted((tmp_path / "out" / part).glob("*.nii.gz")) for part in ("training", "validation")}
    assert len(files["training"]) >= 6 + 28 and len(files["validation"]) >= 12
    image = nib.load(files["training"][0])
    assert image.shape == (96, 96, 96) and image.get_data_dtype() == np.uint8
    assert set(np.unique(np.asarray(image.dataobj))) == {0, 1}


def test_patients_need_a_split(tmp_path):
    with pytest.raises(SystemExit, match="--split"):
        main(["--output-dir", str(tmp_path), "--packed", "some.npz"])
