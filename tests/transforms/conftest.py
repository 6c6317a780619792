"""What tests of several transforms share."""

from collections.abc import Callable

import pytest
from monai.data import MetaTensor
from monai.transforms import Compose, Orientationd

from monai_sparse_refine.transforms import CropHeadd, InterpolateVaultd, MirrorImaged, ResampleToSpacingd


@pytest.fixture(scope="session")
def guesses_of() -> Callable[..., MetaTensor]:
    """Skull, mirror image and interpolated vault [3, X', Y', Z'], as a bundle makes them for its network."""

    def make(skull: MetaTensor, *, spacing: float) -> MetaTensor:
        steps = [
            CropHeadd("image"),
            Orientationd("image", axcodes="RAS", labels=None),
            ResampleToSpacingd("image", spacing, threshold=None),
            MirrorImaged("image", append=True, threshold=None, register=True),
            InterpolateVaultd("image", append=True),
        ]
        return Compose(steps)({"image": skull.clone()})["image"]

    return make
