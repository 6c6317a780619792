"""Which way completes a full-resolution skull best: on a working grid, on the native one, or coarse and then refined.

    python -m benchmarks.full_resolution_accuracy --scans ../shared/data/skull_masks

The scans are whole heads that no network was trained on, the same holes as in `benchmarks.skull_accuracy`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor

from benchmarks.command_line import command_line
from benchmarks.score_commands import SCANS, write_results
from benchmarks.skull_baselines import Method, identity
from benchmarks.skull_cases import BUNDLE, TEST_KINDS, skull_cases
from benchmarks.skull_networks import BundleMethod
from benchmarks.skull_scores import COLUMNS, Column, group_sections, score
from monai_sparse_refine.data import complete_skulls, load_weights
from monai_sparse_refine.errors import or_exit
from monai_sparse_refine.transforms import ExtractImplant, MakeMultiResolution, super_resolve, target_grid

REPOSITORY = Path(__file__).resolve().parents[1]
SUPER_RESOLUTION = REPOSITORY / "bundles" / "skull_super_resolution"
SHOWN = ("implant_dice", "border_dice", "hd95_mm", "closed")


class CompleteAndRefine:
    """Complete at half as many in-plane voxels, and bring the result to the native grid by super-resolution.

    Args:
        engine: "auto", "native" or "minkowski".
    """

    def __init__(self, *, engine: str) -> None:
        self.complete = BundleMethod(BUNDLE, engine=engine)
        parser = ConfigParser()
        parser.read_config(str(SUPER_RESOLUTION / "configs" / "inference.json"))
        parser["bundle_root"], parser["engine"] = str(SUPER_RESOLUTION), engine
        self.flip_axes, self.threshold = parser["flip_axes"], parser["threshold"]
        network = parser.get_parsed_content("network_def")
        self.network = load_weights(network, SUPER_RESOLUTION / "models" / "model.pt").eval()
        self.extract = ExtractImplant(min_relative_volume=0.2)

    def __call__(self, defective: MetaTensor) -> MetaTensor:
        """Implant of a defective skull, uint8 [1, X, Y, Z]."""
        half = max(defective.shape[1:3]) // 2
        coarse = MakeMultiResolution([half])(defective)[half]
        whole = torch.maximum(coarse.as_tensor(), self.complete(coarse).as_tensor().to(torch.uint8))
        grid = target_grid(tuple(coarse.shape[1:]), coarse.affine, target_shape=defective.shape[1:])
        with torch.no_grad():
            fine = super_resolve(
                self.network, whole[0], grid, flip_axes=self.flip_axes, threshold=self.threshold
            )
        completed = MetaTensor((fine[None].cpu() > 0).to(torch.uint8), affine=defective.affine)
        implant: Any = self.extract(completed, defective)
        return implant


def main(arguments: Sequence[str] | None = None) -> None:
    """Score every way, and write ``full_resolution.md`` and ``.csv``."""
    options = _options(arguments)
    skulls = or_exit(complete_skulls, options.scans, names=options.scan_names)
    methods: dict[str, Method] = {"identity (hole left open)": identity, **_methods(options)}
    rows: list[dict[str, Any]] = []
    for case in skull_cases("scans", skulls, kinds=options.kinds, seed=options.seed):
        about = {"case": case.name, "kind": case.kind, "group": case.group}
        about["grid"] = " x ".join(str(n) for n in case.complete.shape[1:])
        for name, method in methods.items():
            start = time.perf_counter()
            implant = method(case.defective)
            seconds = round(time.perf_counter() - start, 1)
            rows.append({**about, "method": name, "seconds": seconds, **score(case, implant)})
        print(case.name, case.kind, flush=True)
    if not rows:
        raise SystemExit("error: no hole of these kinds has room in these scans")
    page = _page(rows, command=command_line("full_resolution_accuracy", arguments))
    write_results(options.output, "full_resolution", rows, page)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scans", required=True, help="folder of complete skulls")
    parser.add_argument("--scan-names", nargs="+", default=list(SCANS), help="which of them")
    parser.add_argument("--kinds", nargs="+", default=list(TEST_KINDS), help="kinds of holes")
    parser.add_argument("--seed", type=int, default=0, help="decides the holes")
    parser.add_argument("--native-weights", help="weights that were trained on the native grid; adds a row")
    parser.add_argument("--engine", default="native", help="auto, native or minkowski")
    parser.add_argument("--output", default=str(REPOSITORY / "docs" / "results"), help="folder to write to")
    return parser.parse_args(arguments)


def _methods(options: argparse.Namespace) -> dict[str, Method]:
    native = {"working_spacing": None}
    methods: dict[str, Method] = {
        "the bundle (working grid 1.5 mm)": BundleMethod(BUNDLE, engine=options.engine),
        "working grid 1 mm": BundleMethod(
            BUNDLE,
            engine=options.engine,
            overrides={
                "working_spacing": 1.0,
                "guess_spacing": 1.0,
                "fine_spacing": None,
                "other_spacings": [1.75, 1.25, 1.0],
            },
        ),
        "network on the native grid": BundleMethod(BUNDLE, engine=options.engine, overrides=native),
    }
    if options.native_weights:
        methods["network trained on the native grid"] = BundleMethod(
            BUNDLE, weights=options.native_weights, engine=options.engine, overrides=native
        )
    return {
        **methods,
        "completed at half in-plane, refined sparsely": CompleteAndRefine(engine=options.engine),
    }


def _page(rows: Sequence[Mapping[str, Any]], *, command: str) -> str:
    columns = [column for column in COLUMNS if column.name in SHOWN] + [Column("seconds", "seconds", 0)]
    lines = [
        "# Ways to complete a full-resolution skull",
        "",
        "Cells are `median / mean / worst` over holes in whole-head scans that no network was trained on, scored on",
        "their native grid. The network was trained on grids of 1.5 to 4 mm. The rows between identity and the last",
        "have the bundle's steps on the native grid after the network; the last completes a mask of half as many",
        "in-plane voxels with the same bundle and brings it to the native grid by the super-resolution bundle. Seconds",
        "are of a busy machine: compare them with each other.",
        f"Made by `{command}`; every hole is in [full_resolution.csv](full_resolution.csv).",
    ]
    named = [{**row, "test_set": f"{row['case']} ({row['grid']})"} for row in rows]
    return "\n".join([*lines, "", group_sections(named, columns)]) + "\n"


if __name__ == "__main__":
    main()
