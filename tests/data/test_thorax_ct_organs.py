"""What CT shows within an organ: walls and clots without contrast, stents, two sides of a heart."""

import numpy as np

from monai_sparse_refine.data.thorax_ct_organs import paint_organs

MM = np.array([1.0, 1.0, 2.0])
SEEDS = range(24)


def vessel() -> np.ndarray:
    x, y, _ = np.ogrid[:40, :40, :50]
    return np.where((x - 20) ** 2 + (y - 20) ** 2 + np.zeros((1, 1, 50)) < 12**2, 4, 0).astype(np.uint8)


def painted(organs: np.ndarray, seed: int) -> np.ndarray:
    hu = np.full(organs.shape, -100, np.float32)
    paint_organs(hu, organs, MM, np.random.default_rng(seed))
    return hu


def test_an_aorta_has_a_lumen_of_one_density_and_at_times_a_wall_clots_or_a_stent():
    x, y, _ = np.ogrid[:40, :40, :50]
    radius = np.sqrt((x - 20) ** 2 + (y - 20) ** 2) + np.zeros((1, 1, 50))
    walls = clots = stents = 0
    for seed in SEEDS:
        hu = painted(vessel(), seed)
        lumen = np.median(hu[radius < 5])
        assert 20 < lumen < 600 and np.std(hu[radius < 3]) < 60
        assert (hu[radius > 13] == -100).all()  # nothing leaves the mask
        if lumen < 130:  # no contrast, nothing to tell apart
            continue
        border, within = (hu[(low <= radius) & (radius < high)] for low, high in ((11.3, 12), (7.5, 9.5)))
        walls += np.median(border) < lumen / 2
        clots += 0.02 < (within < lumen / 2).mean() < 0.9
        stents += (hu > 1100).mean() > 0.002
    assert walls >= 5 and clots >= 2 and stents >= 1
    assert walls < len(SEEDS) and stents < len(SEEDS) / 2


def test_the_sides_of_a_heart_take_contrast_each_at_its_time():
    x, y, z = np.ogrid[:100, :90, :45]
    heart = ((x - 50) / 45) ** 2 + ((y - 45) / 40) ** 2 + ((z - 22) / 20) ** 2 < 1
    organs = np.where(heart, 2, 0).astype(np.uint8)
    differences, fats = [], []
    for seed in SEEDS:
        hu = painted(organs, seed)
        left, right = (hu[sides][heart[sides]] for sides in (np.s_[15:40], np.s_[60:85]))
        differences.append(abs(np.percentile(left, 80) - np.percentile(right, 80)))
        fats.append((hu[heart] < -40).mean())
        assert 20 < np.median(hu[heart]) < 560
    assert np.sum(np.array(differences) > 60) >= 4 and np.sum(np.array(differences) < 40) >= 4
    assert max(fats) < 0.3 and max(fats) > 0.03
