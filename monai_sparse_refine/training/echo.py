"""Train on every prepared case several times, where preparing one takes longer than a training step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from monai.data.utils import set_rnd
from monai.transforms import Randomizable
from monai.utils import MAX_SEED
from torch.utils.data import Dataset

from monai_sparse_refine.errors import InputError


class EchoDataset(Dataset, Randomizable):
    """A dataset of which one case in several is prepared anew; the others are earlier ones, drawn at random.

    It gives as many steps for the preparation's time as one case counts (data echoing, Choi et al., arXiv:1907.05550).
    Drawn from many, equal cases lie far apart. Every worker process remembers cases of its own: with workers the data
    loader wants ``persistent_workers=True``, or each epoch forgets what the one before prepared.

    Args:
        dataset: dataset of dictionaries whose preparation is costly.
        transform: cheap random transform of every case that is given, so that equal cases differ. It must not change
            its input in place. None: nothing.
        times: how often a case counts, in the mean. 1: every case is prepared anew.
        max_gb: memory of the remembered cases' arrays in GB, for each worker; above that random ones are forgotten.
        warm_up: fewest remembered cases to draw from. Below that, as at the start or where the memory is too small for
            so many, every case is prepared anew.

    Raises:
        InputError: for `times` or `warm_up` below 1, or `max_gb` not above 0.
    """

    def __init__(
        self,
        dataset: Any,
        *,
        transform: Callable[[Any], Any] | None = None,
        times: float = 4,
        max_gb: float = 2.0,
        warm_up: int = 16,
    ) -> None:
        if times < 1:
            raise InputError(f"times is {times}; expected at least 1, which prepares every case anew")
        if warm_up < 1:
            raise InputError(f"warm_up is {warm_up}; expected at least 1 case")
        if not max_gb > 0:
            raise InputError(f"max_gb is {max_gb}; expected a memory above 0, in GB")
        self.dataset = dataset
        self.transform = transform
        self.times = times
        self.max_gb = max_gb
        self.warm_up = warm_up
        self._cases: list[Any] = []
        self._bytes = 0

    def set_random_state(
        self, seed: int | None = None, state: np.random.RandomState | None = None
    ) -> EchoDataset:
        """Seed the draws, and whatever is random in the dataset and the transform."""
        super().set_random_state(seed, state)
        inner = int(self.R.randint(MAX_SEED // 2))
        set_rnd(self.transform, set_rnd(self.dataset, inner))
        return self

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        if len(self._cases) < self.warm_up or self.R.random_sample() * self.times < 1:
            case = self.dataset[index]
            self._remember(case)
        else:
            case = self._cases[self.R.randint(len(self._cases))]
        return case if self.transform is None else self.transform(case)

    def _remember(self, case: Any) -> None:
        if self.times == 1:  # nothing will be repeated
            return
        self._cases.append(case)
        self._bytes += _size(case)
        while self._bytes > self.max_gb * 1e9:
            self._bytes -= _size(self._cases.pop(self.R.randint(len(self._cases))))


def _size(case: Any) -> int:
    """Bytes of a case's tensors and arrays."""
    values = case.values() if isinstance(case, Mapping) else [case]
    return sum(int(getattr(value, "nbytes", 0)) for value in values)
