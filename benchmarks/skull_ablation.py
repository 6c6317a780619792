"""What each part of skull completion earns, on the validation skulls: one part left out or changed at a time.

    python -m benchmarks.skull_ablation --patients DIR --phantoms 4

The network is the same trained one in every row, so a silenced input shows how much the network leans on it, not
how a network trained without it would do.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.command_line import command_line
from benchmarks.score_commands import add_bundle_options, drawn_phantoms, write_results
from benchmarks.skull_baselines import BASELINES, Method
from benchmarks.skull_cases import BUNDLE, TEST_KINDS, SkullCase, skull_cases
from benchmarks.skull_networks import BundleMethod
from benchmarks.skull_scores import COLUMNS, group_sections, score
from monai_sparse_refine.data import complete_skulls, read_split

FIRST_SEED = 600  # phantoms of training, validation during training and test have other seeds
SHOWN = ("implant_dice", "border_dice", "hd95_mm", "closed", "outside_percent")
_SIMPLE = {"inferer": {"_target_": "SimpleInferer"}}


def _extracted(**options: Any) -> dict[str, Any]:
    """The final implant told from noise in another way; the steps before tell it as they do."""
    kept = {"_target_": "monai_sparse_refine.transforms.ExtractImplant"}
    return {
        "postprocessing#transforms#7#extract": {
            **kept,
            "min_relative_volume": "@min_relative_volume",
            **options,
        }
    }


# Row: options of BundleMethod that differ from the bundle as it is.
VARIANTS: dict[str, dict[str, Any]] = {
    "the bundle": {},
    "without test-time mirroring": {"overrides": _SIMPLE},
    "one grid": {"overrides": {"other_spacings": []}},
    "mirror image not registered": {"overrides": {"preprocessing#transforms#6#register": False}},
    "without averaging with the vault": {"overrides": {"postprocessing#transforms#3#finest_mm": 0.0}},
    "vault trusted by agreement alone": {"overrides": {"postprocessing#transforms#3#repetition": None}},
    "without averaging with the mirror image": {"overrides": {"mirror_agreement": 2.0}},
    "no lower threshold at the rim": {"overrides": {"rim_threshold": 0.45}},
    "gaps not closed by the mirror image": {"overrides": {"mirror_threshold": None}},
    "gaps not closed by the vault": {"overrides": {"vault_threshold": None}},
    "glabella not closed by the vault": {"overrides": {"postprocessing#transforms#5#midline_mm": 0.0}},
    "small gaps closed by the vault too": {"overrides": {"postprocessing#transforms#5#vault_least_ml": 0.0}},
    "likely gaps not closed": {"overrides": {"gap_threshold": None}},
    "nothing more at the rim": {
        "overrides": {
            "rim_threshold": 0.45,
            "mirror_threshold": None,
            "vault_threshold": None,
            "gap_threshold": None,
        }
    },
    "burr holes not looked for": {"overrides": _extracted(reach_mm=0.0)},
    "thin edges over cut bone left out": {"overrides": _extracted(film_mm=0.0)},
    "angles at the bone left out": {"overrides": _extracted(corner_voxels=0)},
    "implant and bone not closed by a ball": {"overrides": {"gap_radius_mm": 0.0}},
    "mirror image silenced": {"silent": [1]},
    "interpolated vault silenced": {"silent": [2]},
    "both silenced": {"silent": [1, 2]},
    "vault trusted from 0.8 on": {"overrides": {"postprocessing#transforms#3#repetition": 0.0}},
    "binary working masks": {"overrides": {"preprocessing#transforms#9#threshold": 0.5}},
    "guesses made at 2 mm": {"overrides": {"guess_spacing": 2.0}},
    "working grid 2 mm": {"overrides": {"fine_spacing": None}},
    "working grid 1.5 mm": {
        "overrides": {
            "working_spacing": 1.5,
            "guess_spacing": 1.0,
            "fine_spacing": None,
            "other_spacings": [1.75, 1.25, 1.0],
        }
    },
    "pruning at 0": {"overrides": {"keep_threshold": 0.0}},
    "threshold 0.4": {"overrides": {"threshold": 0.4}},
    "threshold 0.5": {"overrides": {"threshold": 0.5}},
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Score every variant and write ``skull_ablation.md`` and ``.csv``."""
    options = _options(arguments)
    methods: dict[str, Method] = dict(BASELINES)
    for name in options.variants:
        methods[name] = BundleMethod(
            options.bundle, weights=options.weights, engine=options.engine, **VARIANTS[name]
        )
    rows = []
    for case in _cases(options):
        for name, method in methods.items():
            row = {"test_set": case.test_set, "case": case.name, "kind": case.kind, "group": case.group}
            rows.append({**row, "method": name, **score(case, method(case.defective))})
        print(case.test_set, case.name, case.kind, flush=True)
    page = _page(rows, Path(options.output), command=command_line("skull_ablation", arguments))
    write_results(options.output, "skull_ablation", rows, page)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--patients", help="folder of complete skulls of patients")
    parser.add_argument("--split", default=str(BUNDLE / "docs" / "split.json"), help="split of the patients")
    parser.add_argument("--part", default="validation", help="part of the split")
    parser.add_argument("--phantoms", type=int, default=0, help=f"phantoms with seeds from {FIRST_SEED}")
    parser.add_argument("--phantom-spacing", type=float, default=1.0, help="their voxel size in mm")
    parser.add_argument("--phantom-dir", default="runs/ablation_phantoms", help="where they are kept")
    parser.add_argument("--kinds", nargs="+", default=list(TEST_KINDS), help="kinds of holes")
    parser.add_argument("--seed", type=int, default=0, help="decides the holes")
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=VARIANTS, help="rows")
    add_bundle_options(parser)
    return parser.parse_args(arguments)


def _cases(options: argparse.Namespace) -> list[SkullCase]:
    sets = {}
    if options.patients:
        names = read_split(options.split, options.part)
        sets["patients"] = complete_skulls(options.patients, names=names)
    if options.phantoms:
        sets["procedural phantoms"] = drawn_phantoms(options, first_seed=FIRST_SEED)
    cases = [
        case
        for name, skulls in sets.items()
        for case in skull_cases(name, skulls, kinds=options.kinds, seed=options.seed)
    ]
    if not cases:
        raise SystemExit("error: no case; give --patients or --phantoms")
    return cases


def _page(rows: Sequence[dict[str, Any]], folder: Path, *, command: str) -> str:
    columns = [column for column in COLUMNS if column.name in SHOWN]
    others = [path.relative_to(folder).as_posix() for path in sorted(folder.glob("*/skull_ablation.md"))]
    see = [f"Other skulls are in [{Path(other).parent.name}]({other})." for other in others]
    lines = [
        "# Ablation of skull completion",
        "",
        "Cells are `median / mean / worst` over holes in validation skulls, on which the options were chosen.",
        "The weights are the same in every row: a silenced input shows how much the network leans on it.",
        f"Made by `{command}`; every hole is in [skull_ablation.csv](skull_ablation.csv).",
        *see,
    ]
    return "\n".join([*lines, "", group_sections(rows, columns)]) + "\n"


if __name__ == "__main__":
    main()
