"""Do no harm: which refinement of a label is too far from its input to be believed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from monai_sparse_refine.errors import InputError

__all__ = ["RefineGate", "as_gate"]


class RefineGate(NamedTuple):
    """Bounds within which a refined label is accepted; None switches a bound off.

    A label that had voxels and lost them all is never accepted.

    Args:
        max_volume_change: largest change of the volume, relative to the volume before: 0.5 allows half as
            much to one and a half times as much.
        min_dice: smallest Dice coefficient of the label before and after; or a dict of them by the label's name, where
            a label that it lacks has no such bound.
        min_kept: smallest fraction of the voxels before that are still there after.
        max_taken: of the voxels before that its own refinement keeps, largest fraction that other labels may take by
            being more certain of them. Labels that are refined well hardly disagree; where they do the input has
            failed.
    """

    max_volume_change: float | None = 0.5
    min_dice: float | Mapping[str, float] | None = 0.7
    min_kept: float | None = None
    max_taken: float | None = None

    def reason_to_refuse(self, *, before: int, after: int, common: int, label: str = "") -> str:
        """Why a label is to be returned as it came in; "" where it is accepted.

        Args:
            before: voxels of the label before.
            after: voxels after.
            common: voxels that it has before and after.
            label: its name, for a bound of its own.
        """
        if before == 0:
            return ""
        if after == 0:
            return "nothing of it was left"
        change = (after - before) / before
        if self.max_volume_change is not None and abs(change) > self.max_volume_change:
            return (
                f"its volume changed by {100 * change:+.1f} %, allowed are {100 * self.max_volume_change:g} %"
            )
        dice = 2 * common / (before + after)
        least = self.min_dice.get(label) if isinstance(self.min_dice, Mapping) else self.min_dice
        if least is not None and dice < least:
            return f"its Dice with the input is {dice:.3f}, at least {least:g} is allowed"
        kept = common / before
        if self.min_kept is not None and kept < self.min_kept:
            return (
                f"{100 * kept:.1f} % of its voxels were kept, at least {100 * self.min_kept:g} % are allowed"
            )
        return ""

    def reason_to_give_back(self, taken: float) -> str:
        """Why a label is to keep what it had, where others take that fraction of what it keeps; "" where they may."""
        if self.max_taken is not None and taken > self.max_taken:
            return f"it lost {100 * taken:.1f} % of what it keeps, at most {100 * self.max_taken:g} % are allowed"
        return ""

    def compare(self, before: np.ndarray, after: np.ndarray, label: str = "") -> str:
        """`reason_to_refuse` for two boolean arrays of one shape."""
        return self.reason_to_refuse(
            before=int(np.count_nonzero(before)),
            after=int(np.count_nonzero(after)),
            common=int(np.count_nonzero(before & after)),
            label=label,
        )


def as_gate(gate: RefineGate | Mapping[str, Any] | None) -> RefineGate | None:
    """A gate from a gate, a dict of its bounds (as a configuration file has it), or None for no gate.

    Raises:
        InputError: an unknown bound, or a value that makes no sense for it.
    """
    if gate is None:
        return None
    if isinstance(gate, Mapping):
        unknown = set(gate) - set(RefineGate._fields)
        if unknown:
            raise InputError(f"gate has {sorted(unknown)}; expected only {', '.join(RefineGate._fields)}")
        gate = RefineGate(**gate)
    if not isinstance(gate, RefineGate):
        raise InputError(f"gate is {gate!r}; expected a RefineGate, a dict of its bounds, or None")
    bounds = [
        (name, value)
        for name, given in gate._asdict().items()
        for value in (given.values() if isinstance(given, Mapping) and name == "min_dice" else [given])
    ]
    for name, value in bounds:
        highest = float("inf") if name == "max_volume_change" else 1.0
        if value is not None and not (isinstance(value, (int, float)) and 0 <= value <= highest):
            expected = "0 or more" if name == "max_volume_change" else "a number from 0 to 1"
            raise InputError(f"gate {name} is {value!r}; expected {expected}, or None to switch it off")
    return gate
