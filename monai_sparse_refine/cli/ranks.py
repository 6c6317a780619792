"""A folder over the processes that torchrun has started."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, NamedTuple, TypeVar

import torch
import torch.distributed as dist

__all__ = ["Ranks"]

Item = TypeVar("Item")


class Ranks(NamedTuple):
    """This process among all: its number, how many there are, and its number on this machine."""

    rank: int = 0
    world: int = 1
    local: int = 0

    @classmethod
    def from_environment(cls) -> Ranks:
        """What torchrun says, or one process alone."""
        rank, world, local = (
            int(os.environ.get(n, d)) for n, d in (("RANK", 0), ("WORLD_SIZE", 1), ("LOCAL_RANK", 0))
        )
        return cls(rank, world, local)

    def device(self) -> torch.device:
        """A GPU of its own where there are some, else the CPU."""
        if not torch.cuda.is_available():
            return torch.device("cpu")
        return torch.device("cuda", self.local % torch.cuda.device_count())

    def shard(self, items: Sequence[Item]) -> list[tuple[int, Item]]:
        """This process's items, each with its number among all, from 1."""
        return [(i + 1, item) for i, item in enumerate(items) if i % self.world == self.rank]

    @contextmanager
    def together(self) -> Iterator[None]:
        """Connect the processes, where there are several."""
        if self.world == 1:
            yield
            return
        # One rank may have much larger cases than another, and then the others wait for it at the end.
        dist.init_process_group("gloo", timeout=timedelta(days=7))
        try:
            yield
        finally:
            dist.destroy_process_group()

    def gather(self, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """The rows of all processes, first process first."""
        if self.world == 1:
            return list(rows)
        parts: list[Any] = [None] * self.world
        dist.all_gather_object(parts, list(rows))
        return [row for part in parts for row in part]
