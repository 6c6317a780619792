import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import memory

MIB = 2**20
# In a process of its own: what other tests left behind, and their threads, may give memory back meanwhile.
GROWTH = """
from benchmarks import memory

b"." * (200 * 2**20)  # what was before does not count
before = memory.start()
b"." * (64 * 2**20)
print(memory.peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux lets the peak start anew")
def test_the_peak_counts_from_the_start_and_stays_when_memory_is_given_back():
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", GROWTH], cwd=root, check=True, capture_output=True, text=True
    )
    assert 60 * MIB < int(done.stdout) < 100 * MIB


def test_elsewhere_it_is_the_peak_of_the_whole_process(monkeypatch):
    def no_linux(*_, **__):
        raise FileNotFoundError

    peak = memory.peak()
    monkeypatch.setattr(Path, "read_text", no_linux)
    monkeypatch.setattr(Path, "write_text", no_linux)
    assert memory.start() >= 0.9 * peak
