"""Cases that count several times: how many are prepared, which are given, and that all of it is seeded."""

import pytest
import torch
from monai.data import DataLoader
from monai.transforms import Compose, RandFlipd, RandLambda
from torch.utils.data import Dataset

from monai_sparse_refine.errors import InputError
from monai_sparse_refine.training import EchoDataset

CASE_GB = 8e-9  # of a case of `_Counted`: two float32


class _Counted(Dataset):
    """Gives the number of cases prepared so far, with something random behind it."""

    def __init__(self) -> None:
        self.prepared = 0
        self.noise = RandLambda(func=lambda x: x, prob=0.5)

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> dict:
        self.prepared += 1
        drawn = float(self.noise.R.random_sample())
        return {"case": self.prepared, "drawn": drawn, "image": torch.arange(2.0).reshape(1, 2, 1, 1)}


def _given(dataset: EchoDataset, n: int) -> list:
    return [dataset[i % len(dataset)]["case"] for i in range(n)]


def test_once_prepares_every_case_anew_and_remembers_none():
    dataset = EchoDataset(_Counted(), times=1)
    assert _given(dataset, 50) == list(range(1, 51)) and len(dataset) == 10 and not dataset._cases


@pytest.mark.parametrize("times", [2, 4, 2.5])
def test_a_case_counts_so_often_in_the_mean(times):
    dataset = EchoDataset(_Counted(), times=times, warm_up=1).set_random_state(0)
    given = _given(dataset, 2000)
    assert dataset.dataset.prepared == pytest.approx(2000 / times, rel=0.1)
    assert len(set(given)) == dataset.dataset.prepared  # each was given when it was prepared


def test_the_first_cases_are_all_new():
    given = _given(EchoDataset(_Counted(), times=8, warm_up=12).set_random_state(0), 40)
    assert given[:12] == list(range(1, 13)) and len(set(given)) < 40


def test_no_more_than_the_memory_is_used_and_old_cases_go():
    dataset = EchoDataset(_Counted(), times=2, max_gb=4.5 * CASE_GB, warm_up=4).set_random_state(0)
    given = _given(dataset, 400)
    assert len(dataset._cases) == 4
    assert min(given[-50:]) > 100  # nobody stays for ever


def test_where_the_memory_is_too_small_every_case_is_new():
    for cases in (0.5, 3.5):
        dataset = EchoDataset(_Counted(), times=4, max_gb=cases * CASE_GB, warm_up=4)
        assert _given(dataset, 50) == list(range(1, 51)) and len(dataset._cases) == int(cases)


def test_equal_cases_differ_by_the_transform_and_stay_as_they_were():
    image = torch.arange(4.0).reshape(1, 4, 1, 1)
    dataset = EchoDataset(
        [{"image": image}], transform=RandFlipd("image", prob=0.5, spatial_axis=0), times=1000, warm_up=1
    )
    dataset.set_random_state(0)
    seen = {tuple(dataset[0]["image"].flatten().tolist()) for _ in range(30)}
    assert seen == {(0, 1, 2, 3), (3, 2, 1, 0)}
    assert image.flatten().tolist() == [0, 1, 2, 3]


def test_a_seed_repeats_the_draws_of_the_dataset_and_of_the_transform():
    def run(seed: int) -> list:
        flip = Compose([RandFlipd("image", prob=0.5, spatial_axis=0)])
        dataset = EchoDataset(_Counted(), transform=flip, times=3, warm_up=2).set_random_state(seed)
        given = [dataset[0] for _ in range(60)]
        return [[x["case"] for x in given], given[0]["drawn"], [float(x["image"][0, 0]) for x in given]]

    assert run(1) == run(1)
    assert all(one != other for one, other in zip(run(1), run(2), strict=True))


def test_a_worker_remembers_over_epochs():
    loader = DataLoader(EchoDataset(_Counted(), times=5, warm_up=2), num_workers=1, persistent_workers=True)
    cases = [int(case) for _ in range(6) for batch in loader for case in batch["case"]]
    assert len(cases) == 60
    assert cases[:2] == [1, 2] and cases.count(1) + cases.count(2) > 2  # the warm-up happened once
    assert len(set(cases)) < 30


@pytest.mark.parametrize("wrong", [{"times": 0.5}, {"warm_up": 0}, {"max_gb": 0}])
def test_bad_arguments(wrong):
    with pytest.raises(InputError, match="expected"):
        EchoDataset(_Counted(), **wrong)
