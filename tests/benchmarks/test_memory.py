from pathlib import Path

import numpy as np
import pytest

from benchmarks import memory

MIB = 2**20


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux lets the peak start anew")
def test_the_peak_counts_from_the_start_and_stays_when_memory_is_given_back():
    np.ones(200 * MIB, np.uint8)  # what was before does not count
    before = memory.start()
    np.ones(64 * MIB, np.uint8)
    assert 60 * MIB < memory.peak() - before < 100 * MIB


def test_elsewhere_it_is_the_peak_of_the_whole_process(monkeypatch):
    def no_linux(*_, **__):
        raise FileNotFoundError

    peak = memory.peak()
    monkeypatch.setattr(Path, "read_text", no_linux)
    monkeypatch.setattr(Path, "write_text", no_linux)
    assert memory.start() >= 0.9 * peak
