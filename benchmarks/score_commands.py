"""What the commands that score skull completion share: options, phantoms and where the results go."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.skull_cases import BUNDLE
from monai_sparse_refine.data import complete_skulls, phantom_cases
from monai_sparse_refine.files import atomic_path
from monai_sparse_refine.report import write_case_table

__all__ = [
    "SCANS",
    "TEST_SEED",
    "add_bundle_options",
    "add_whole_head_options",
    "drawn_phantoms",
    "whole_heads",
    "write_results",
]

SCANS = ("invesalius_cranium_skull", "philips_skullphantom_bone1mm_skull")
TEST_SEED = 90_000  # of the first phantom to score on; those of training and validation have smaller ones


def add_bundle_options(parser: argparse.ArgumentParser) -> None:
    """Add which bundle is scored, how it is run, and where the results go."""
    parser.add_argument("--bundle", default=str(BUNDLE), help="bundle to score")
    parser.add_argument("--weights", help="its weights; the bundle's own by default")
    parser.add_argument("--engine", default="auto", help="auto, native or minkowski")
    parser.add_argument("--output", default="docs/results", help="folder to write to")


def add_whole_head_options(parser: argparse.ArgumentParser) -> None:
    """Add which scans and phantoms are scored: heads that do not end below the vertex."""
    parser.add_argument("--scans", help=f"folder with {' and '.join(SCANS)}")
    parser.add_argument("--scan-names", nargs="+", default=list(SCANS), help="which of its scans")
    parser.add_argument("--phantoms", type=int, default=0, help=f"phantoms with seeds from {TEST_SEED}")
    parser.add_argument("--phantom-dir", default="runs/test_phantoms", help="where they are kept")
    parser.add_argument("--phantom-spacing", type=float, default=1.0, help="their voxel size in mm")


def whole_heads(options: argparse.Namespace) -> dict[str, list[dict[str, Any]]]:
    """The test sets that these options ask for, by name."""
    sets: dict[str, list[dict[str, Any]]] = {}
    if options.scans:
        sets["whole-head scans"] = complete_skulls(options.scans, names=options.scan_names)
    if options.phantoms:
        sets["procedural phantoms"] = drawn_phantoms(options, first_seed=TEST_SEED)
    return sets


def drawn_phantoms(options: argparse.Namespace, *, first_seed: int) -> list[dict[str, Any]]:
    """The procedural skulls that ``--phantoms``, ``--phantom-dir`` and ``--phantom-spacing`` ask for."""
    return phantom_cases(
        options.phantom_dir, count=options.phantoms, first_seed=first_seed, spacing=options.phantom_spacing
    )


def write_results(folder: str | Path, name: str, rows: Sequence[Mapping[str, Any]], page: str) -> None:
    """Write every hole's scores to ``NAME.csv`` and the page to ``NAME.md``, whole or not at all."""
    write_case_table(rows, Path(folder) / f"{name}.csv")
    file = Path(folder) / f"{name}.md"
    with atomic_path(file) as temporary:
        temporary.write_text(page, encoding="utf-8")
    print(f"written: {file} and .csv")
