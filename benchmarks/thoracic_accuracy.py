"""Accuracy of thoracic organs after refinement against the dense UNet and simple repair: tables, a CSV, pictures.

    python -m benchmarks.thoracic_accuracy --masks ../shared/data/thorax_segthor_pred \\
        --real ../shared/data/thorax_totalseg

The CTs of the test patients are rendered around their masks (kept in --rendered). Rows whose weights are not given are
left out, and the page says so.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.data import MetaTensor

from benchmarks.command_line import command_line
from benchmarks.thoracic_methods import (
    ORGANS,
    Cost,
    DenseUNet,
    classical,
    dense_twin,
    measured,
    refiner,
    unet_settings,
)
from benchmarks.thoracic_page import page, result_table
from benchmarks.thoracic_real import real_rows
from benchmarks.thoracic_scores import organ_scores
from monai_sparse_refine.data import read_split, rendered_thorax_cases
from monai_sparse_refine.errors import or_exit
from monai_sparse_refine.files import atomic_path
from monai_sparse_refine.metrics import dice
from monai_sparse_refine.report import organ_figure, write_case_table
from monai_sparse_refine.transforms import RandMaskCorruption, SparseRefine, load_recipe

REPOSITORY = Path(__file__).resolve().parents[1]
BUNDLE = REPOSITORY / "bundles" / "thoracic_organ_refinement"
TEST_SEED = 900  # CTs of training have other seeds


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    options = _options(arguments)
    bundle = Path(options.bundle)
    unet = or_exit(DenseUNet, bundle, weights=options.dense_weights, device=options.device)
    recipe, foreign = (
        or_exit(
            load_recipe,
            bundle,
            weights=options.weights,
            device=options.device,
            overrides={"engine": options.engine, **settings},
        )
        for settings in (unet_settings(bundle), {})
    )
    refine, refine_foreign = refiner(recipe, bundle), refiner(foreign, None)
    twin = None
    if options.twin_weights is not None:
        other = or_exit(dense_twin, recipe, options.twin_weights, device=options.device)
        twin = refiner(other, bundle)
    rows: list[dict[str, Any]] = []
    folder = Path(options.output)
    pictures: list[Path] = []
    drawn: dict[str, tuple[float, Any]] = {}
    for part in options.parts:
        names = or_exit(read_split, options.split, part)[: options.max_cases]
        cases = or_exit(
            rendered_thorax_cases,
            options.masks,
            options.rendered,
            names=names,
            deform=False,
            first_seed=TEST_SEED,
        )
        for case in cases:
            for row, item in _rows_of(case, unet, refine, refine_foreign, twin):
                rows.append({"part": part, **row})
                _consider(drawn, part, row, item)
            print(f"{part}: {case['name']}", file=sys.stderr, flush=True)
    if options.real:
        rows += or_exit(real_rows, Path(options.real), unet, refine, refine_foreign)
    for name, (_, picture) in sorted(drawn.items()):
        path = folder / "pictures" / f"organ_{name}.png"
        pictures.append(organ_figure(**picture, path=path))
    write_case_table(rows, folder / "thoracic_accuracy.csv")
    text = page(rows, pictures, command=command_line("thoracic_accuracy", arguments), twin=twin is not None)
    with atomic_path(folder / "thoracic_accuracy.md") as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(result_table([row for row in rows if row["part"] == "test"]))
    print(f"\nwritten: {folder / 'thoracic_accuracy.md'}, thoracic_accuracy.csv, {len(pictures)} pictures")


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--masks", required=True, help="folder of organ masks (SegTHOR ids)")
    parser.add_argument("--rendered", default="runs/thorax_test", help="where the rendered CTs are kept")
    parser.add_argument("--real", help="folder of the real chest CTs with aorta and heart masks")
    parser.add_argument(
        "--split", default=str(BUNDLE / "docs" / "split.json"), help="split file of the masks"
    )
    parser.add_argument("--parts", nargs="+", default=["test", "failure"], help="parts of the split")
    parser.add_argument("--max-cases", type=int, help="at most so many patients of each part")
    parser.add_argument("--bundle", default=str(BUNDLE), help="bundle to score")
    parser.add_argument("--weights", help="the refiner's weights; the bundle's own by default")
    parser.add_argument("--dense-weights", help="the UNet's weights; the bundle's own by default")
    parser.add_argument("--twin-weights", help="weights of a dense refiner with the refiner's layers")
    parser.add_argument("--engine", default="auto", help="auto, native or minkowski")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--output", default=str(REPOSITORY / "docs" / "results"), help="folder to write to")
    return parser.parse_args(arguments)


def _rows_of(
    case: Mapping[str, Any],
    unet: DenseUNet,
    refine: SparseRefine,
    refine_foreign: SparseRefine,
    twin: SparseRefine | None,
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Every method on one patient: rows of scores, and what a picture of them needs."""
    truth = _labels(case["label"])
    dense = unet(case["image"])
    ct, soft, labels = dense["ct"], dense["probability"], dense["labels"]
    none = Cost(0.0, 0.0)
    after: Any
    yield from _scores(
        case, "dense UNet, working grid", dense["coarse"], _coarse(truth, dense["coarse"]), dense["cost"], ct
    )
    yield from _scores(case, "resampled, nearest", dense["nearest"], truth, none, ct)
    yield from _scores(case, "resampled, linear", labels, truth, none, ct)
    after, cost = measured(lambda: classical(labels))
    yield from _scores(case, "largest component + holes", after, truth, cost, ct)
    if twin is not None:
        after, cost = measured(lambda: twin(labels, ct, soft))
        yield from _scores(case, "dense refiner of equal size", after, truth, cost, ct)
    for name, run, inputs in (
        ("ours, masks alone", refine_foreign, ()),
        ("ours without intensities", refine, (None, soft)),
        ("ours", refine, (ct, soft)),
    ):
        after, cost = measured(partial(run, labels, *inputs))
        yield from _scores(case, name, after, truth, cost, ct, before=labels)
    corrupted = _corrupted(truth)
    yield from _scores(case, "corrupted", corrupted, truth, none, ct)
    yield from _scores(case, "corrupted, largest component + holes", classical(corrupted), truth, none, ct)
    yield from _scores(
        case, "corrupted, ours without intensities", refine_foreign(corrupted), truth, none, ct
    )
    yield from _scores(case, "corrupted, ours", refine_foreign(corrupted, ct), truth, none, ct)
    yield from _scores(case, "true, ours without intensities", refine_foreign(truth), truth, none, ct)
    yield from _scores(case, "true, ours", refine_foreign(truth, ct), truth, none, ct)


def _scores(
    case: Mapping[str, Any],
    method: str,
    labels: Any,
    truth: MetaTensor,
    cost: Cost,
    ct: MetaTensor,
    before: MetaTensor | None = None,
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    for organ, number in ORGANS.items():
        pred, true = (np.asarray(volume.cpu())[0] == number for volume in (labels, truth))
        row = {
            "case": str(case["name"]).split("_pred")[0],
            "method": method,
            **organ_scores(labels, truth, organ),
            "seconds": cost.seconds,
            "peak_gb": cost.peak_gb,
        }
        item = {"after": pred, "truth": true, "image": np.asarray(ct)[0], "affine": np.asarray(truth.affine)}
        if before is not None:
            item["before"] = np.asarray(before)[0] == number
        yield row, item


def _consider(
    drawn: dict[str, tuple[float, Any]], part: str, row: Mapping[str, Any], item: dict[str, Any]
) -> None:
    """Keep what is drawn: for each organ the test patient with the largest gain, and the one that comes out worst."""
    if row["method"] != "ours" or "before" not in item:
        return
    gain = row["dice"] - dice(item["before"], item["truth"])
    title = f"{row['organ']}, {row['case']}: Dice {row['dice'] - gain:.3f} -> {row['dice']:.3f}"
    kept = {**item, "title": title}
    wanted = {f"{row['organ']}": -gain, f"worst_{row['organ']}": row["dice"]} if part == "test" else {}
    if part == "failure":
        wanted = {f"failure_{row['organ']}": 0.0}
    for name, order in wanted.items():
        if name not in drawn or order < drawn[name][0]:
            drawn[name] = (order, kept)


def _corrupted(truth: MetaTensor) -> MetaTensor:
    """The true masks with seeded faults, organ by organ."""
    out = torch.zeros_like(truth.as_tensor())
    for number in ORGANS.values():
        corrupt = RandMaskCorruption(count=(2, 3)).set_random_state(number)
        mask = MetaTensor((truth.as_tensor() == number).to(torch.uint8), affine=truth.affine)
        faulty: Any = corrupt(mask)
        out[(faulty.as_tensor() > 0) & (out == 0)] = number
    return MetaTensor(out, affine=truth.affine)


def _labels(path: str) -> MetaTensor:
    image: Any = nib.load(path)
    return MetaTensor(torch.from_numpy(np.asarray(image.dataobj).astype(np.uint8))[None], affine=image.affine)


def _coarse(truth: MetaTensor, grid: MetaTensor) -> MetaTensor:
    """The truth at the centres of the working grid's voxels."""
    to_source = np.linalg.inv(np.asarray(truth.affine)) @ np.asarray(grid.affine)
    index = np.stack(np.meshgrid(*[np.arange(n) for n in grid.shape[1:]], indexing="ij"), axis=-1)
    source = np.rint(index @ to_source[:3, :3].T + to_source[:3, 3]).astype(int)
    volume = np.asarray(truth)[0]
    inside = ((source >= 0) & (source < volume.shape)).all(-1)
    source = np.clip(source, 0, np.asarray(volume.shape) - 1)
    out = np.where(inside, volume[tuple(np.moveaxis(source, -1, 0))], 0).astype(np.uint8)
    return MetaTensor(torch.from_numpy(out)[None], affine=grid.affine)


if __name__ == "__main__":
    main()
