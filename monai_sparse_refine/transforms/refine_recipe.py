"""How a network refines one binary mask: what it gets, and what becomes of its answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.inferers import Inferer, SimpleInferer
from monai.networks.utils import eval_mode
from monai.transforms import Compose
from scipy import ndimage
from torch import Tensor, nn

from monai_sparse_refine.errors import InputError
from monai_sparse_refine.volume import affine_of_box, as_mask, bounding_box, spacing_of

__all__ = ["CERTAIN", "RefineRecipe", "by_label"]

Step = Callable[[Any], Any]
Passes = int | Sequence[int]
Adjust = Callable[..., Any]

# Probabilities are kept in one byte. 255 is left for voxels that are not up for refinement at all.
CERTAIN = 254


class RefineRecipe:
    """The network of a bundle, with all that belongs to it between a mask on its native grid and the refined one.

    A bundle says it in `configs/refine.json` (see `monai_sparse_refine.transforms.load_recipe`). Without options a
    network gets the mask as it is, [1, 1, X, Y, Z], and answers with logits of that shape.

    Args:
        network: dense in, dense logits out, such as :class:`monai_sparse_refine.networks.MaskRefiner`.
        preprocessing: dictionary transforms (one, a list or a Compose) that make what the network gets, at key
            "image", from the mask there (float32 MetaTensor [1, X, Y, Z] with its affine). "label" holds the
            label's name; "intensity" the intensities and "probability" the dense network's probability of the label
            (MetaTensors like the mask), where there are some. The steps are undone on the refined probabilities, so
            those that change the grid have to be invertible.
        inferer: how the network is run, such as :class:`monai_sparse_refine.inferers.FlipAverageInferer`;
            ``SimpleInferer`` by default.
        prepare: takes the mask (uint8 MetaTensor [1, X, Y, Z]) and returns the one that is refined, such as
            :class:`monai_sparse_refine.transforms.KeepMajorComponents`; or a dict of such steps by the label's name.
        threshold: probability above which a voxel belongs to the refined mask; two numbers: with intensities, without.
        hysteresis: a voxel leaves the side that the (prepared) mask has it on only where the probability is that much
            beyond the threshold; two numbers, with intensities and without.
        passes: how often the network is run; two numbers: with intensities, without; or a dict of such by the label's
            name, where those that it lacks are run once. 0: not at all, the mask is prepared and cleaned alone. After
            the first time it gets its own answer as the mask, and no probability: it is no longer held to what the
            dense network got wrong, and sees as far beyond the new surface as before beyond the old one.
        recut: without intensities, but with the dense network's probability: the mask that is refined is cut anew from
            it, where it is above this; a number, or a dict of them by the label's name. None, or a label that is not
            in the dict: the mask stays as it is.
        recut_blur_mm: standard deviation, mm, of a Gaussian that smooths the probability before: one that was
            interpolated from a coarse grid has this grid's steps. 0: as it is.
        margin: voxels around the label's bounding box that the network sees; None shows it the whole volume.
        adjust: takes the probabilities [1, X, Y, Z] and the input mask, and returns other probabilities, such as
            :class:`monai_sparse_refine.transforms.AverageVault`; or several such steps in turn. What preprocessing
            leaves at key "guesses" is given to each as a third argument.
        keep_input: completion only adds: every voxel of the input stays.
        additions: takes the refined mask and the input mask, and returns what is added to the input, such as
            :class:`monai_sparse_refine.transforms.ExtractImplant`; implies ``keep_input``. Of several such steps every
            further one takes what the one before returned, and the input mask.
        clean: takes the refined mask (uint8 MetaTensor [1, X, Y, Z]) and returns what is to stay of it; like
            ``prepare``.
        intensity_window: (low, high) of the intensities (HU for CT) that the network takes as a second channel,
            scaled to 0 to 0.5 and clipped: a value above 0.5 would count as foreground. None: no such channel.
        labels: names of the labels that the network was trained for; None for any.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        preprocessing: Any = None,
        inferer: Inferer | None = None,
        prepare: Step | Mapping[str, Step] | None = None,
        threshold: float | Sequence[float] = 0.5,
        hysteresis: float | Sequence[float] = 0.0,
        passes: Passes | Mapping[str, Passes] = 1,
        recut: float | Mapping[str, float] | None = None,
        recut_blur_mm: float = 0.0,
        margin: int | None = 16,
        adjust: Adjust | Sequence[Adjust] | None = None,
        keep_input: bool = False,
        additions: Adjust | Sequence[Adjust] | None = None,
        clean: Step | Mapping[str, Step] | None = None,
        intensity_window: Sequence[float] | None = None,
        labels: Sequence[str] | None = None,
    ) -> None:
        cut, leeway = _pair(threshold), _pair(hysteresis)
        if len(cut) != 2 or not all(0 < value < 1 for value in cut):
            raise InputError(
                f"threshold is {threshold}; expected a probability between 0 and 1, or two "
                "(with and without intensities)"
            )
        if len(leeway) != 2 or not all(0 <= h < min(t, 1 - t) for t, h in zip(cut, leeway, strict=True)):
            raise InputError(
                f"hysteresis is {hysteresis}; expected one number, or two (with and without intensities), 0 or more "
                "and less than from the threshold to 0 and to 1"
            )
        runs = [_pair(n) for n in (passes.values() if isinstance(passes, Mapping) else [passes])]
        if not all(len(pair) == 2 and all(isinstance(n, int) and n >= 0 for n in pair) for pair in runs):
            raise InputError(
                f"passes is {passes}; expected a whole number from 0, or two (with and without intensities), "
                "or a dict of them by label"
            )
        cuts = recut.values() if isinstance(recut, Mapping) else [] if recut is None else [recut]
        if not all(0 < value < 1 for value in cuts):
            raise InputError(
                f"recut is {recut}; expected a probability between 0 and 1, or a dict of them by label"
            )
        if not recut_blur_mm >= 0:
            raise InputError(f"recut_blur_mm is {recut_blur_mm}; expected 0 mm or more")
        if margin is not None and margin < 0:
            raise InputError(f"margin is {margin}; expected 0 or more voxels, or None for the whole volume")
        if intensity_window is not None and not intensity_window[0] < intensity_window[1]:
            raise InputError(f"intensity_window is {tuple(intensity_window)}; expected low < high")
        by_name = {"prepare": prepare, "passes": passes, "recut": recut, "clean": clean}
        for name, given in by_name.items():
            unknown = sorted(set(given) - set(labels or given)) if isinstance(given, Mapping) else []
            if unknown:
                raise InputError(
                    f"{name} has the labels {unknown}; the recipe's are {', '.join(labels or ())}"
                )
        self.network = network
        self.preprocessing = None if preprocessing is None else Compose(preprocessing)
        self.inferer = SimpleInferer() if inferer is None else inferer
        self.prepare = prepare
        self.threshold = cut
        self.hysteresis = leeway
        self.passes = passes
        self.recut = recut
        self.recut_blur_mm = recut_blur_mm
        self.margin = margin
        self.adjust = _steps(adjust)
        self.additions = _steps(additions)
        self.keep_input = keep_input or bool(self.additions)
        self.clean = clean
        self.intensity_window = None if intensity_window is None else tuple(intensity_window)
        self.labels = None if labels is None else tuple(labels)

    def refine(
        self,
        mask: MetaTensor,
        *,
        intensity: Tensor | None = None,
        probability: Tensor | None = None,
        label: str = "",
        device: Any = None,
    ) -> np.ndarray:
        """Refine one binary mask.

        Args:
            mask: [1, X, Y, Z] of 0 and 1, with its affine; not empty.
            intensity: [1, X, Y, Z], where the network takes it.
            probability: the dense network's of this label, [1, X, Y, Z], where the network takes it.
            label: name of the structure, for a network that is told.
            device: where the network is; None for that of its parameters.

        Returns:
            uint8 [X, Y, Z]: 0 outside the refined mask, inside it the probability as 1 to 254.

        Raises:
            InputError: intensities that are missing, or an answer of another shape.
            FloatingPointError: an answer with NaN or infinity.
        """
        graded = self._prepared_and_refined(mask, intensity, probability, label, device)
        if self.keep_input:  # also what the preparation let go
            graded[as_mask(mask)] = CERTAIN
        return graded

    def _prepared_and_refined(
        self, mask: MetaTensor, intensity: Tensor | None, probability: Tensor | None, label: str, device: Any
    ) -> np.ndarray:
        if intensity is None and probability is not None:
            mask = self._cut_anew(mask, probability, label)
        step = by_label(self.prepare, label)
        if step is None:
            return self._refine(mask, intensity, probability, label, device)
        mask = step(mask)
        box = bounding_box(as_mask(mask), margin=self.margin) if self.margin is not None else None
        if box is None:
            return self._refine(mask, intensity, probability, label, device)
        # What far components took is not worth the network's time.
        part = (slice(None), *box)
        grid = torch.as_tensor(affine_of_box(mask.affine, box))
        cut = MetaTensor(mask.as_tensor()[part], affine=grid)
        hu, soft = (None if volume is None else volume[part] for volume in (intensity, probability))
        out = np.zeros(tuple(mask.shape[1:]), dtype=np.uint8)
        out[box] = self._refine(cut, hu, soft, label, device)
        return out

    def _refine(
        self, mask: MetaTensor, intensity: Tensor | None, probability: Tensor | None, label: str, device: Any
    ) -> np.ndarray:
        blind = intensity is None
        runs = self._runs(label)[blind]
        if runs == 0:
            return self._graded(_as_probability(probability, mask), as_mask(mask), mask, label)
        answer = self._answer(mask, intensity, probability, label, device)
        for _ in range(runs - 1):
            found = self._inside(answer, mask, blind=blind)
            if not found.any():
                break
            again = MetaTensor(torch.from_numpy(found)[None].to(torch.uint8), affine=mask.affine)
            answer = self._answer(again, intensity, None, label, device)
        return self._graded(answer, self._inside(answer, mask, blind=blind), mask, label)

    def _cut_anew(self, mask: MetaTensor, probability: Tensor, label: str) -> MetaTensor:
        """The mask where a dense network's probability is above the label's own threshold, if it has one."""
        limit = self.recut.get(label) if isinstance(self.recut, Mapping) else self.recut
        if limit is None:
            return mask
        soft = _as_probability(probability, mask)
        if self.recut_blur_mm:
            sigma = [self.recut_blur_mm / step for step in spacing_of(mask)]
            soft = ndimage.gaussian_filter(soft, sigma, mode="nearest", truncate=3.0)
        inside = soft > limit
        # A network that was sure of nothing has not said that nothing is there.
        return (
            MetaTensor(torch.from_numpy(inside)[None].to(mask.dtype), affine=mask.affine)
            if inside.any()
            else mask
        )

    def _runs(self, label: str) -> tuple[int, ...]:
        """How often the network is run with intensities, and without."""
        runs = self.passes.get(label, 1) if isinstance(self.passes, Mapping) else self.passes
        return (runs, runs) if isinstance(runs, int) else tuple(runs)

    def _answer(
        self, mask: MetaTensor, intensity: Tensor | None, probability: Tensor | None, label: str, device: Any
    ) -> np.ndarray:
        """The network's probabilities on the grid of the mask, [X, Y, Z]."""
        data: dict[str, Any] = {"image": mask.float(), "label": label}
        if self.intensity_window is not None and intensity is None:
            raise InputError(
                "the network takes intensities, and there are none: give image_key, the key of the image "
                "that the mask was made from (or the image itself, as the second argument)"
            )
        for name, volume in (("intensity", intensity), ("probability", probability)):
            if volume is not None:
                data[name] = MetaTensor(volume, affine=mask.affine)
        if self.preprocessing is not None:
            data = self.preprocessing(data)
        elif self.intensity_window is not None:
            data["image"] = torch.cat([data["image"], self._scaled(data["intensity"])])
        source = data["image"]
        refined = self._run(source, device)  # [1, *working grid]
        if self.preprocessing is not None:
            refined = self._undo(refined, source)
        if refined.shape[1:] != mask.shape[1:]:
            raise InputError(
                f"the network's answer has shape {tuple(refined.shape[1:])} on the grid of the mask, "
                f"{tuple(mask.shape[1:])}: every step of preprocessing that changes the grid must be invertible"
            )
        guesses = [data["guesses"]] if "guesses" in data else []
        for step in self.adjust:
            refined = step(refined, mask, *guesses)
        answer = refined[0].numpy()
        if not np.isfinite(answer).all():
            raise FloatingPointError("the network's answer has NaN or infinity")
        return np.asarray(answer)

    def _scaled(self, intensity: Tensor) -> Tensor:
        assert self.intensity_window is not None
        low, high = self.intensity_window
        return ((intensity.float() - low) / (2 * (high - low))).clamp(0, 0.5)

    def _run(self, source: Tensor, device: Any) -> Tensor:
        if device is None:
            device = next((p.device for p in self.network.parameters()), torch.device("cpu"))
        plain = source.as_tensor() if isinstance(source, MetaTensor) else source
        with eval_mode(self.network):
            logits = self.inferer(plain[None].to(device), self.network)
        if not isinstance(logits, Tensor) or logits.shape[:2] != (1, 1):
            got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise InputError(
                f"the network returned {got}; expected logits [1, 1, *spatial] of the refined mask"
            )
        answer: Any = logits[0]  # (1, *working grid)
        plain = answer.as_tensor() if isinstance(answer, MetaTensor) else answer
        return plain.float().sigmoid().cpu()

    def _undo(self, probability: Tensor, source: Tensor) -> Tensor:
        """Back through the preprocessing; the operations are those that its own mask went through."""
        assert self.preprocessing is not None
        if not isinstance(source, MetaTensor) or not source.applied_operations:
            return probability
        answer = MetaTensor(probability, meta=dict(source.meta))
        answer.applied_operations = list(source.applied_operations)
        back: Any = self.preprocessing.inverse({"image": answer})["image"]
        return back.as_tensor() if isinstance(back, MetaTensor) else torch.as_tensor(back)

    def _inside(self, probability: np.ndarray, mask: MetaTensor, *, blind: bool) -> np.ndarray:
        """Which voxels belong to the refined mask, by threshold and hysteresis."""
        threshold, leeway = self.threshold[blind], self.hysteresis[blind]
        inside = probability > threshold + leeway
        if leeway:
            inside |= as_mask(mask) & (probability > threshold - leeway)
        return inside

    def _graded(
        self, probability: np.ndarray, inside: np.ndarray, mask: MetaTensor, label: str
    ) -> np.ndarray:
        graded = np.where(inside, np.clip(np.rint(probability * CERTAIN), 1, CERTAIN), 0).astype(np.uint8)
        clean = by_label(self.clean, label)
        if clean is not None:
            kept = clean(MetaTensor(torch.from_numpy(inside)[None].to(torch.uint8), affine=mask.affine))
            # What the cleaning has filled is the first to give way to another label.
            graded = np.where(as_mask(kept), np.maximum(graded, 1), 0).astype(np.uint8)
        if self.keep_input:
            known = as_mask(mask)
            if self.additions:
                added: Any = MetaTensor(
                    torch.from_numpy(inside | known)[None].to(torch.uint8), affine=mask.affine
                )
                for step in self.additions:
                    added = step(added, mask)
                added = as_mask(added)
                # What is added without the network's backing is the first to give way to another label.
                graded = np.where(added, np.maximum(graded, 1), 0).astype(np.uint8)
            graded[known] = CERTAIN
        return graded


def _steps(given: Adjust | Sequence[Adjust] | None) -> list[Adjust]:
    return [] if given is None else [given] if callable(given) else list(given)


def by_label(step: Step | Mapping[str, Step] | None, label: str) -> Step | None:
    """A step that all labels share, or a label's own of a dict; None where there is none."""
    return step.get(label) if isinstance(step, Mapping) else step


def _as_probability(given: Tensor | None, mask: MetaTensor) -> np.ndarray:
    """The dense network's probability, [X, Y, Z] from 0 to 1; where there is none a half, which claims little."""
    if given is None:
        return np.full(tuple(mask.shape[1:]), 0.5, dtype=np.float32)
    return np.asarray(given[0].float() / (255 if given.dtype == torch.uint8 else 1))


def _pair(value: float | Sequence[float]) -> tuple[float, ...]:
    """With intensities, and without: one number counts for both."""
    return (value, value) if isinstance(value, (int, float)) else tuple(value)
