"""Find a bundle, and read from its configuration how its network refines a mask."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser

from monai_sparse_refine.data.weights import load_weights
from monai_sparse_refine.engine import get_engine
from monai_sparse_refine.errors import InputError
from monai_sparse_refine.transforms.refine_recipe import RefineRecipe

__all__ = ["BUNDLES_VARIABLE", "RECIPE", "bundle_places", "find_bundle", "list_bundles", "load_recipe"]

BUNDLES_VARIABLE = "MONAI_SPARSE_BUNDLES"
INFERENCE, RECIPE = "configs/inference.json", "configs/refine.json"


def bundle_places() -> list[Path]:
    """Folders in which a bundle is looked for by its name, first to last.

    Those in the environment variable ``MONAI_SPARSE_BUNDLES`` (separated like those of PATH), `bundles` in the
    working directory, and `bundles` beside the package, where it runs from a checkout.
    """
    named = [
        Path(place).expanduser() for place in os.environ.get(BUNDLES_VARIABLE, "").split(os.pathsep) if place
    ]
    return [*named, Path.cwd() / "bundles", Path(__file__).resolve().parents[2] / "bundles"]


def list_bundles() -> dict[str, Path]:
    """The bundles that can refine masks, by name; of two with one name the one that is found first."""
    found: dict[str, Path] = {}
    for place in bundle_places():
        for recipe in sorted(place.glob(f"*/{RECIPE}")):
            folder = recipe.parents[1]
            found.setdefault(folder.name, folder)
    return found


def find_bundle(bundle: str | os.PathLike[str]) -> Path:
    """The folder of a bundle.

    Args:
        bundle: a folder, or the name of one in `bundle_places`.

    Raises:
        InputError: no such bundle, or a folder that is none.
    """
    folder = Path(bundle).expanduser()
    for place in (folder, *(place / folder for place in bundle_places())):
        if (place / INFERENCE).is_file():
            return place.resolve()
    if folder.is_dir():
        raise InputError(
            f"bundle {folder}: is no bundle, it has no {INFERENCE}; give the bundle's own folder"
        )
    known = ", ".join(list_bundles()) or "none"
    places = ", ".join(str(place) for place in bundle_places())
    raise InputError(
        f"bundle {str(bundle)!r}: no such folder, and no bundle of that name in {places} (found there: {known}); "
        f"give the folder, or set {BUNDLES_VARIABLE} to the folder that holds your bundles"
    )


def load_recipe(
    bundle: str | os.PathLike[str],
    *,
    weights: str | os.PathLike[str] | None = None,
    device: torch.device | str | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> RefineRecipe:
    """Build the :class:`RefineRecipe` of a bundle, with its weights loaded.

    The recipe is the section "refine" of `configs/refine.json`, read on top of `configs/inference.json`, so that
    it can refer to the network and the settings there. Nothing else of the two files is evaluated. A bundle
    without such a file gives its "network_def" the mask as it is.

    Args:
        bundle: folder or name, see `find_bundle`.
        weights: state dict to load instead of the bundle's own ("weights").
        device: where the network goes; None for a GPU where there is one, else the CPU.
        overrides: other values for entries of the configuration, by id.

    Raises:
        InputError: no such bundle, a configuration that cannot be read, weights that are missing or do not fit.
    """
    folder = find_bundle(bundle)
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    parser = ConfigParser()
    try:
        parser.read_config([file for file in (folder / INFERENCE, folder / RECIPE) if file.is_file()])
        settings = {"bundle_root": str(folder), "device": place, **(overrides or {})}
        for name, value in settings.items():
            parser[name] = value
        if "engine" in parser:
            # "auto" means another engine where a GPU is asked for that MinkowskiEngine was not built with.
            chosen = get_engine(parser["engine"], device=place).__name__
            parser["engine"] = chosen.rsplit(".", 1)[-1]
        if "refine" in parser:
            recipe = parser.get_parsed_content("refine")
        else:
            recipe = RefineRecipe(parser.get_parsed_content("network_def"))
        own_weights = parser.get_parsed_content("weights") if weights is None else weights
    except InputError:
        raise
    except Exception as error:
        # A configuration evaluates expressions, so anything may come out of it.
        reason = " ".join(str(error).split())[:300]
        raise InputError(
            f"bundle {folder}: its configuration cannot be used ({type(error).__name__}: {reason})"
        ) from error
    if not isinstance(recipe, RefineRecipe):
        raise InputError(
            f"bundle {folder}: 'refine' in {RECIPE} is a {type(recipe).__name__}; expected a "
            "monai_sparse_refine.transforms.RefineRecipe"
        )
    load_weights(recipe.network, own_weights)
    recipe.network.to(place).eval()
    return recipe
