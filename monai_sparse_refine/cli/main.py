"""Arguments of the command line, and what its exit codes say."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from monai_sparse_refine import __version__
from monai_sparse_refine.errors import InputError

__all__ = ["main"]

PROGRAM = "python -m monai_sparse_refine"
EXIT_CODES = "exit code: 0 all done; 1 something could not be used (said in one line each); 2 wrong arguments"
EXAMPLES = f"""\
examples:
  complete a skull, and get the implant as a mask and as a mesh
      {PROGRAM} refine skull.nii.gz results
  refine the heart and the aorta in the label maps of a folder, on two GPUs
      torchrun --nproc_per_node=2 -m monai_sparse_refine refine masks results \\
          --bundle my_bundle --label-preset totalsegmentator --labels heart aorta

{EXIT_CODES}
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        if options.command == "tasks":
            return _print_tasks()
        # What it needs takes seconds to import, too long for --help.
        from monai_sparse_refine.cli.refine import run

        return run(options)
    except InputError as error:
        if os.environ.get("RANK", "0") == "0":  # all the processes of torchrun fail alike
            print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; what is finished is complete", file=sys.stderr)
        return 130


def _print_tasks() -> int:
    from monai_sparse_refine.transforms import list_bundles

    bundles = list_bundles()
    for name, folder in bundles.items():
        print(f"{name:32s} {folder}")
    if not bundles:
        print("no bundles found; set MONAI_SPARSE_BUNDLES to the folder that holds them", file=sys.stderr)
    return 0 if bundles else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=PROGRAM, description="Refine segmentation masks with sparse networks.", epilog=EXIT_CODES
    )
    parser.add_argument("--version", action="version", version=f"monai-sparse-refine {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("tasks", help="list the tasks that there are bundles for")
    refine = commands.add_parser(
        "refine",
        help="refine a mask, or a folder of them",
        usage="%(prog)s IN [OUT] [options]",
        description="Refine masks on their own voxel grid. Writes masks, meshes, a picture for each case\n"
        "and a table, cases.csv. A label whose refinement strays too far from its input is\n"
        "left as it is.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_refine(refine)
    return parser


def _add_refine(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "input",
        metavar="IN",
        type=Path,
        help="mask or (for a skull) CT, or a folder of them: NIfTI, NRRD, a DICOM series or DICOM SEG (needs pydicom)",
    )
    parser.add_argument(
        "output",
        metavar="OUT",
        type=Path,
        nargs="?",
        help="folder for the results (default: refined, beside IN)",
    )
    network = parser.add_argument_group("which network")
    which = network.add_mutually_exclusive_group()
    which.add_argument(
        "--task",
        default="skull_completion",
        help="name of its bundle (default: %(default)s; `tasks` lists them)",
    )
    which.add_argument("--bundle", metavar="FOLDER", help="folder of a bundle, instead of a task")
    network.add_argument("--weights", metavar="FILE", type=Path, help="weights instead of the bundle's own")
    network.add_argument("--device", help="cpu, cuda, cuda:1 ... (default: a GPU where there is one)")
    network.add_argument(
        "--max-voxels",
        metavar="N",
        type=int,
        help="most voxels a level may generate, which bounds the memory",
    )
    labels = parser.add_argument_group("which labels")
    labels.add_argument(
        "--labels",
        nargs="+",
        metavar="LABEL",
        help="ids, names of the preset, or NAME=ID (NAME=ID,ID for a union); default: all of the preset",
    )
    labels.add_argument(
        "--label-preset",
        metavar="NAME",
        help="whose label ids: segthor, totalsegmentator, "
        "totalsegmentator_v1, wholebody_ct_segmentation or vista3d",
    )
    labels.add_argument(
        "--hu-threshold",
        metavar="HU",
        type=float,
        default=300.0,
        help="bone in a CT lies above (default: %(default)g)",
    )
    labels.add_argument(
        "--image",
        metavar="PATH",
        type=Path,
        help="CT that the mask was made from, or a folder of CTs of the same names, for a network that looks at it",
    )
    bounds = parser.add_argument_group("what is allowed to change")
    bounds.add_argument(
        "--max-volume-change",
        metavar="X",
        type=float,
        default=0.5,
        help="of a label, relative (default: %(default)g)",
    )
    bounds.add_argument(
        "--min-dice",
        metavar="X",
        type=float,
        default=0.7,
        help="of a label before and after (default: %(default)g)",
    )
    bounds.add_argument("--no-gate", action="store_true", help="accept whatever the network makes of it")
    written = parser.add_argument_group("what is written")
    written.add_argument("--no-mesh", action="store_true", help="no STL meshes")
    written.add_argument("--no-picture", action="store_true", help="no PNG pictures")
    written.add_argument("-q", "--quiet", action="store_true", help="only errors")
