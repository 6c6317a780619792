"""Limits of the measurements: what is measured, what exceeds a limit, and what is not tried after that."""

import argparse

import pytest

from benchmarks import paper_runner
from benchmarks.paper_growth import make_outlines
from benchmarks.paper_runner import FAILED, OVER_MEMORY, OVER_TIME, add_arguments, sweep

CASES = {8: {"file": "small"}, 16: {"file": "large"}}


def options(*arguments):
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args(
        ["--models", "dense ch1", "--modes", "infer", "--device", "cpu", "--threads", "1", *arguments]
    )


def swept(monkeypatch, answers, *arguments):
    """Rows of a sweep in which (size file, batch) gives (seconds, MiB) or a status; and what was tried."""
    tried = []

    def run(_, *, case, batch, **what):
        tried.append((case, batch))
        answer = answers[case, batch]
        if isinstance(answer, str):
            return {"status": answer}
        return {"status": "ok", "seconds": answer[0], "peak_mib": answer[1]}

    monkeypatch.setattr(paper_runner, "_in_a_process", run)
    rows = sweep(options(*arguments), CASES, (1, 2, 4))
    return [(row["size"], row["batch"], row["status"]) for row in rows], tried


def test_a_batch_that_the_one_before_rules_out_is_not_tried(monkeypatch):
    answers = {("small", 1): (1.0, 600.0), ("small", 2): (2.0, 1100.0), ("large", 1): (6.0, 10.0)}
    rows, tried = swept(monkeypatch, answers, "--time-limit", "10", "--memory-gb", "2")
    assert tried == list(answers)
    assert [status for *_, status in rows] == [
        "ok",
        "ok",
        f"{OVER_MEMORY} (expected)",
        "ok",
        f"{OVER_TIME} (expected)",
        f"{OVER_TIME} (expected)",
    ]


def test_a_single_case_over_a_limit_ends_the_sizes(monkeypatch):
    rows, tried = swept(monkeypatch, {("small", 1): OVER_TIME})
    assert tried == [("small", 1)]
    assert [status for *_, status in rows] == [OVER_TIME, *[f"{OVER_TIME} (expected)"] * 5]


def test_a_failure_rules_nothing_out(monkeypatch):
    answers = {(case, batch): FAILED for case in ("small", "large") for batch in (1, 2, 4)}
    rows, tried = swept(monkeypatch, answers)
    assert tried == list(answers) and {status for *_, status in rows} == {FAILED}


@pytest.mark.slow
def test_processes_are_measured_and_limited(tmp_path):
    cases = make_outlines([32, 64], tmp_path)
    measured = list(sweep(options("--repeats", "2", "--modes", "train"), cases))
    assert [(row["status"], row["repeats"]) for row in measured] == [("ok", 2)] * 2
    assert measured[1]["volume"] == 64**2 and measured[1]["seconds"] > 0
    slow = list(sweep(options("--time-limit", "0.01"), cases))
    assert [row["status"] for row in slow] == [OVER_TIME, f"{OVER_TIME} (expected)"]
    small = next(iter(sweep(options("--memory-gb", "0.2"), make_outlines([1024], tmp_path))))
    assert small["status"] == OVER_MEMORY
