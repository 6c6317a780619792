import numpy as np
import pytest
import torch
from matplotlib.image import imread
from monai.data import MetaTensor

from monai_sparse_refine.errors import InputError
from monai_sparse_refine.report import super_resolution_figure, super_resolution_scores
from monai_sparse_refine.transforms import CoarsenMask


@pytest.fixture
def fine() -> MetaTensor:
    """A hollow ball in a volume of 2 x 2 x 3 mm voxels with a margin on one side."""
    axes = np.meshgrid(np.arange(32) - 11.5, np.arange(24) - 11.5, np.arange(16) - 7.5, indexing="ij")
    radius = np.sqrt(axes[0] ** 2 + axes[1] ** 2 + (1.5 * axes[2]) ** 2)
    mask = ((radius < 10) & (radius > 7)).astype(np.uint8)
    return MetaTensor(torch.from_numpy(mask)[None], affine=torch.diag(torch.tensor([-2.0, 2, 3, 1])))


def test_masks_of_all_resolutions_are_drawn_side_by_side(fine, tmp_path):
    coarse = CoarsenMask(2)(fine)
    masks = {"coarse": coarse, "truth": fine}
    path = super_resolution_figure(masks, path=tmp_path / "new" / "a.png", title="a ball", note="a note")
    picture = imread(path)[..., :3]
    left, right = np.array_split(picture, 2, axis=1)
    for half in (left, right):
        assert (half[200:] > 0.5).mean() > 0.1  # bone
    assert np.abs(left[:, : right.shape[1]] - right[:, : left.shape[1]]).max() > 0.3
    assert [file.name for file in path.parent.iterdir()] == ["a.png"]


def test_an_empty_mask_is_drawn_too(fine, tmp_path):
    drawn = {
        name: imread(super_resolution_figure({"mask": mask}, path=tmp_path / f"{name}.png", title="a"))
        for name, mask in (("bone", fine), ("none", fine * 0))
    }
    below_title = [(picture[200:, :, :3] > 0.5).mean() for picture in drawn.values()]
    assert below_title[1] < 0.02 < below_title[0]


def test_masks_without_affine_and_no_masks_are_refused(fine, tmp_path):
    with pytest.raises(InputError, match="no affine"):
        super_resolution_figure({"a": fine.numpy()}, path=tmp_path / "a.png", title="a")
    with pytest.raises(InputError, match="empty"):
        super_resolution_figure({}, path=tmp_path / "a.png", title="a")


def test_scores_of_equal_and_shifted_masks(fine):
    assert super_resolution_scores(fine, fine) == {
        "dice": 1.0,
        "re_percent": 0.0,
        "hd95_mm": 0.0,
        "surface_dice_1_voxel": 1.0,
    }
    shifted = MetaTensor(fine.as_tensor().roll(1, 1), affine=fine.affine)
    scores = super_resolution_scores(shifted, fine)
    assert scores["dice"] < 0.95 and scores["surface_dice_1_voxel"] == 1.0
    assert 1 < scores["hd95_mm"] <= 3
