"""Refine the labels of a mask on its own grid, one at a time, with a sparse network; never do harm."""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection, PathLike
from monai.config.type_definitions import NdarrayOrTensor
from monai.data import MetaTensor
from monai.transforms import MapTransform, Transform
from monai.utils import TransformBackends, convert_to_dst_type
from torch import Tensor, nn

from monai_sparse_refine.errors import InputError
from monai_sparse_refine.transforms.gate import RefineGate, as_gate
from monai_sparse_refine.transforms.label_claims import LabelClaims
from monai_sparse_refine.transforms.label_masks import Box, LabelMasks, as_channels
from monai_sparse_refine.transforms.label_presets import Label, LabelSelection, resolve_labels
from monai_sparse_refine.transforms.refine_bundle import load_recipe
from monai_sparse_refine.transforms.refine_recipe import RefineRecipe
from monai_sparse_refine.volume import affine_of_box, bounding_box, check_same_grid, spacing_of

__all__ = ["SparseRefine", "SparseRefineD", "SparseRefineDict", "SparseRefined"]

Report = list[dict[str, Any]]


class SparseRefine(Transform):
    """Refine a label map, a one-hot mask or a binary mask with the network of a bundle, on the mask's own grid.

    Use it last, after ``AsDiscrete`` and ``Invertd``. Each label goes through the network alone, cut out with a
    margin. Shape, dtype, container, affine and metadata stay. Labels that were not asked for stay bit for bit; a
    refined label takes no voxel from them. Of several refined labels that want a voxel the one with the highest
    probability there gets it. An empty label stays empty; one whose refinement leaves the gate's bounds is
    returned as it came in.

    It may be used from several threads (the network then works on one label at a time) and pickled for workers;
    a bundle's network is loaded on first use, in each process.

    Args:
        bundle: folder of a bundle, or the name of one; see
            :func:`monai_sparse_refine.transforms.find_bundle`.
        network: instead of a bundle a network, dense in and dense logits out, or a ``RefineRecipe``. It is put in
            evaluation mode while it is used.
        weights: state dict to load instead of the bundle's own.
        labels: names of the preset, ids, or a dict from names to ids; None takes all of the preset, or without
            one every label there is.
        label_preset: "segthor", "wholebody_ct_segmentation", "totalsegmentator_v1", "totalsegmentator" or
            "vista3d".
        has_background: in a one-hot mask channel 0 is the background, and label id i is channel i; if False,
            label id i is channel i - 1.
        gate: bounds for a refined label, a :class:`RefineGate` or a dict of its bounds; None trusts the network.
        device: where the network runs; None for a GPU where there is one (bundle), or where it is (network).
        max_voxels: most voxels that any level of a bundle's network may generate; None for the bundle's own.
        spacing: mm, for masks that carry no affine.

    Raises:
        InputError: both or neither of bundle and network, unknown labels, an impossible gate; when called, for a
            mask that is none.
    """

    backend = [TransformBackends.NUMPY, TransformBackends.TORCH]

    def __init__(
        self,
        *,
        bundle: PathLike | None = None,
        network: nn.Module | RefineRecipe | None = None,
        weights: PathLike | None = None,
        labels: LabelSelection = None,
        label_preset: str | None = None,
        has_background: bool = True,
        gate: RefineGate | Mapping[str, Any] | None = RefineGate(),  # noqa: B008  # immutable
        device: torch.device | str | None = None,
        max_voxels: int | None = None,
        spacing: float | Sequence[float] | None = None,
    ) -> None:
        if (bundle is None) == (network is None):
            raise InputError("give either bundle=, a folder or name, or network=, and not both")
        if bundle is None and (weights is not None or max_voxels is not None):
            raise InputError("weights and max_voxels belong to bundle=; a network= has its own")
        self.bundle = bundle
        self.weights = weights
        self.labels = resolve_labels(labels, label_preset)
        self.has_background = has_background
        self.gate = as_gate(gate)
        self.device = device
        self.max_voxels = max_voxels
        self.spacing = spacing
        self._given = RefineRecipe(network) if isinstance(network, nn.Module) else network
        if self._given is not None:
            _check_names(self.labels, self.gate, self._given)
        self._loaded: RefineRecipe | None = None
        self._lock = threading.Lock()

    def __call__(
        self,
        mask: NdarrayOrTensor,
        image: NdarrayOrTensor | None = None,
        probability: NdarrayOrTensor | None = None,
    ) -> NdarrayOrTensor:
        """Refine a mask; see `refine`."""
        return self.refine(mask, image, probability)[0]

    def refine(
        self,
        mask: NdarrayOrTensor,
        image: NdarrayOrTensor | None = None,
        probability: NdarrayOrTensor | None = None,
    ) -> tuple[NdarrayOrTensor, Report]:
        """Refine a mask and say what was done.

        Args:
            mask: label map [1, X, Y, Z] or one-hot [C, X, Y, Z], array, tensor or MetaTensor, of any real dtype.
            image: intensities [1, X, Y, Z] on the same grid, for a network that takes them.
            probability: the dense network's class probabilities [C, X, Y, Z] on the same grid, channels like those
                of a one-hot mask, for a network that takes them. One channel is that of a single label.

        Returns:
            The refined mask, like the mask, and one row for each label: "label", "ids", "voxels_before",
            "voxels_after", "ml_before", "ml_after" (NaN where the spacing is not known), "refined", "gated",
            "reason" (why it was not refined, else "") and "seconds".

        Raises:
            InputError: a batch, a 2D image, probabilities, a one-hot mask without the channel of a label.
        """
        volume = as_channels(mask)
        affine = self._affine(mask)
        recipe = self._recipe()
        others = {"image": image, "probability": probability}
        given = {name: as_channels(v, name=name) for name, v in others.items() if v is not None}
        for name, values in given.items():
            if values.shape[1:] != volume.shape[1:]:
                raise InputError(
                    f"{name} has shape {values.shape}, mask {volume.shape}; both have to lie on one grid"
                )
            check_same_grid(mask=mask, **{name: others[name]})
        # Beyond the labels and their margin there is nothing to do: on a whole scan that saves most of the time.
        region = (slice(None), *_region(volume, recipe.margin))
        intensity = torch.as_tensor(given["image"][region].copy()) if "image" in given else None
        soft = (
            _Probabilities(given["probability"][region], self.has_background)
            if "probability" in given
            else None
        )
        masks = LabelMasks(volume[region], self.labels, has_background=self.has_background)
        claims = LabelClaims(masks)
        corner = None if affine is None else affine_of_box(affine, region[1:])
        rows = {
            label: self._refine_label(label, claims, recipe, corner, intensity, soft)
            for label in masks.labels
        }
        self._settle(claims, rows)
        out = volume.copy()
        for label in claims.claims:
            before, after = claims.result(label)
            rows[label].update(voxels_after=int(np.count_nonzero(after)), refined=True)
            if not np.array_equal(before, after):
                masks.write(out[region], label, claims.claims[label].box, after)
        voxel_ml = float("nan") if affine is None else abs(float(np.linalg.det(affine[:3, :3]))) / 1000
        for row in rows.values():
            row["ml_before"] = row["voxels_before"] * voxel_ml
            row["ml_after"] = row["voxels_after"] * voxel_ml
        return convert_to_dst_type(out, dst=mask, dtype=mask.dtype)[0], list(rows.values())

    def _refine_label(
        self,
        label: Label,
        claims: LabelClaims,
        recipe: RefineRecipe,
        affine: np.ndarray | None,
        intensity: Tensor | None,
        soft: _Probabilities | None,
    ) -> dict[str, Any]:
        """Send one label through the network, and let it ask for voxels; the row of the report."""
        started = time.perf_counter()
        row = _row(label)
        box = claims.masks.box(label, recipe.margin)
        if box is None:
            row["reason"] = "the mask has none of it"
            return row
        before = claims.masks.of(label, box)
        row["voxels_before"] = row["voxels_after"] = int(np.count_nonzero(before))
        if affine is None and (recipe.preprocessing is not None or recipe.additions):
            raise InputError(
                "the network works in mm and the mask carries no affine: pass a MetaTensor, or spacing= in mm"
            )
        grid = affine_of_box(np.eye(4) if affine is None else affine, box)
        crop = MetaTensor(torch.from_numpy(before[None].astype(np.uint8)), affine=torch.as_tensor(grid))
        part = None if intensity is None else intensity[:, box[0], box[1], box[2]]
        refused = ""
        try:
            with self._lock:
                graded = recipe.refine(
                    crop,
                    intensity=part,
                    probability=None if soft is None else soft.of(label, box),
                    label=label.name,
                    device=self.device,
                )
            if self.gate is not None:
                refused = self.gate.compare(before, graded > 0, label.name)
        except FloatingPointError as error:
            refused = str(error)
            warnings.warn(f"label {label.name} is left as it is: {refused}", stacklevel=4)
        if refused:
            row.update(gated=True, reason=refused)
            claims.keep(label)
        else:
            claims.claim(label, box, graded)
        row["seconds"] = round(time.perf_counter() - started, 3)
        return row

    def _settle(self, claims: LabelClaims, rows: dict[Label, dict[str, Any]]) -> None:
        """Refuse labels that lose too much to others, until all that are left are within the gate's bounds."""
        gate = self.gate
        settled = gate is None
        while gate is not None and not settled:
            settled = True
            for label in list(claims.claims):
                reason = gate.compare(*claims.result(label), label.name) or gate.reason_to_give_back(
                    claims.taken(label)
                )
                if reason:
                    claims.withdraw(label)
                    rows[label].update(gated=True, reason=f"with what other labels took, {reason}")
                    settled = False

    def _affine(self, mask: NdarrayOrTensor) -> np.ndarray | None:
        """Voxel to world mm, [4, 4], or None where nothing tells it."""
        if isinstance(mask, MetaTensor):
            return np.asarray(mask.affine.cpu(), dtype=float)
        return None if self.spacing is None else np.diag([*spacing_of(spacing=self.spacing), 1.0])

    def _recipe(self) -> RefineRecipe:
        """The recipe, loaded by whichever thread comes first."""
        if self._given is not None:
            if self.device is not None:
                with self._lock:
                    self._given.network.to(self.device)
            return self._given
        with self._lock:
            if self._loaded is None:
                assert self.bundle is not None
                overrides = {} if self.max_voxels is None else {"max_voxels": self.max_voxels}
                recipe = load_recipe(
                    self.bundle, weights=self.weights, device=self.device, overrides=overrides
                )
                _check_names(self.labels, self.gate, recipe)
                self._loaded = recipe
            return self._loaded

    def __getstate__(self) -> dict[str, Any]:
        """A lock cannot travel to another process, and a bundle's network is read there anew."""
        return {**self.__dict__, "_lock": None, "_loaded": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()


class SparseRefined(MapTransform):
    """Dictionary version of :class:`SparseRefine`.

    Args:
        keys: keys of the masks, [C, X, Y, Z].
        image_key: key of the intensities, for a network that takes them.
        probability_key: key of the dense network's class probabilities, for a network that takes them.
        report_key: key (or one for each of ``keys``) for the report, a list of one dict for each label; see
            :meth:`SparseRefine.refine`. None for no report.
        bundle, network, weights, labels, label_preset, has_background, gate, device, max_voxels, spacing: see
            :class:`SparseRefine`.
        allow_missing_keys: do not raise where a key is missing.
    """

    backend = SparseRefine.backend

    def __init__(
        self,
        keys: KeysCollection,
        *,
        bundle: PathLike | None = None,
        network: nn.Module | RefineRecipe | None = None,
        weights: PathLike | None = None,
        labels: LabelSelection = None,
        label_preset: str | None = None,
        has_background: bool = True,
        gate: RefineGate | Mapping[str, Any] | None = RefineGate(),  # noqa: B008  # immutable
        device: torch.device | str | None = None,
        max_voxels: int | None = None,
        spacing: float | Sequence[float] | None = None,
        image_key: Hashable | None = None,
        probability_key: Hashable | None = None,
        report_key: KeysCollection | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.image_key = image_key
        self.probability_key = probability_key
        several = report_key if isinstance(report_key, (list, tuple)) else (report_key,)
        self.report_keys = (None,) * len(self.keys) if report_key is None else tuple(several)
        if len(self.report_keys) != len(self.keys):
            raise InputError(
                f"report_key is {report_key!r}; expected one for each of keys {tuple(self.keys)}"
            )
        self.transform = SparseRefine(
            bundle=bundle,
            network=network,
            weights=weights,
            labels=labels,
            label_preset=label_preset,
            has_background=has_background,
            gate=gate,
            device=device,
            max_voxels=max_voxels,
            spacing=spacing,
        )

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Apply to a dictionary of [C, X, Y, Z] masks."""
        d = dict(data)
        for key, report_key in self.key_iterator(d, self.report_keys):
            image = None if self.image_key is None else d[self.image_key]
            soft = None if self.probability_key is None else d[self.probability_key]
            d[key], report = self.transform.refine(d[key], image, soft)
            if report_key is not None:
                d[report_key] = report
        return d


class _Probabilities:
    """A dense network's class probabilities, [C, X, Y, Z], one label and box at a time."""

    def __init__(self, values: np.ndarray, has_background: bool) -> None:
        self.values = values
        self.first = 0 if has_background and len(values) > 1 else 1

    def of(self, label: Label, box: Box) -> Tensor:
        """Sum over the label's ids, [1, *box].

        Raises:
            InputError: where an id has no channel.
        """
        if len(self.values) == 1:
            where = (slice(None), *box)
            return torch.from_numpy(self.values[where].copy())
        channels = [number - self.first for number in label.ids]
        if not all(0 <= channel < len(self.values) for channel in channels):
            raise InputError(
                f"label {label.name!r} is id {max(label.ids)}, and probability has {len(self.values)} channels; "
                "choose another label_preset or labels"
            )
        parts = [self.values[channel][box] for channel in channels]
        return torch.from_numpy(
            parts[0].copy() if len(parts) == 1 else np.sum(parts, axis=0, dtype=np.float32)
        )[None]


def _row(label: Label) -> dict[str, Any]:
    return {
        "label": label.name,
        "ids": list(label.ids),
        "voxels_before": 0,
        "voxels_after": 0,
        "ml_before": 0.0,
        "ml_after": 0.0,
        "refined": False,
        "gated": False,
        "reason": "",
        "seconds": 0.0,
    }


def _region(volume: np.ndarray, margin: int | None) -> Box:
    """Box of all labels of a label map with their margin; the whole volume without one, or for several maps."""
    box = None
    if margin is not None and len(volume) == 1:
        box = bounding_box(volume[0] != 0, margin=margin)
    return box or (slice(0, volume.shape[1]), slice(0, volume.shape[2]), slice(0, volume.shape[3]))


def _check_names(labels: Sequence[Label] | None, gate: RefineGate | None, recipe: RefineRecipe) -> None:
    """A recipe that says what its network was trained for refuses names of anything else."""
    known = {*(recipe.labels or ()), *(label.name for label in labels or ())}
    bounds = gate.min_dice if gate is not None else None
    unknown = sorted(set(bounds) - known) if isinstance(bounds, Mapping) and known else []
    if unknown:
        raise InputError(f"gate min_dice has the labels {unknown}; there are {', '.join(sorted(known))}")
    if recipe.labels is None or labels is None:
        return
    for label in labels:
        if not label.name.isdigit() and label.name not in recipe.labels:
            raise InputError(
                f"label {label.name!r} is none that the network was trained for ({', '.join(recipe.labels)})"
            )


SparseRefineD = SparseRefineDict = SparseRefined
