import torch

from benchmarks.full_resolution_accuracy import SHOWN, CompleteAndRefine, _page
from monai_sparse_refine.data import skull_phantom
from monai_sparse_refine.metrics import dice
from monai_sparse_refine.transforms import RandCranialDefect


def test_a_skull_is_completed_coarse_and_refined_to_its_own_grid():
    skull = skull_phantom(3, spacing=3.0)
    defective = RandCranialDefect("parietotemporal").set_random_state(0)(skull)
    implant = CompleteAndRefine(engine="native")(defective)
    assert implant.shape == defective.shape and implant.dtype == torch.uint8
    assert not bool((implant.as_tensor() * defective.as_tensor().to(torch.uint8)).any())
    true = (skull.as_tensor() > 0) & ~(defective.as_tensor() > 0)
    assert dice(implant.numpy()[0] > 0, true.numpy()[0]) > 0.5


def test_the_page_has_a_row_for_each_way():
    scores = {name: 0.5 for name in SHOWN}
    about = {"case": "a", "kind": "cube", "group": "unseen kinds", "grid": "8 x 8 x 4"}
    rows = [{**about, **scores, "method": method, "seconds": n} for n, method in enumerate(("one", "two"))]
    page = _page(rows, command="python")
    assert "## a (8 x 8 x 4), unseen kinds: 1 holes" in page
    assert page.count("| two | 0.500 / 0.500 / 0.500 |") == 2 and page.rstrip().endswith(
        "| 50 % | 1 / 1 / 1 |"
    )
