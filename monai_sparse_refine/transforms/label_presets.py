"""Which labels to refine: by id, by name, or by the names that a well-known network gives its label ids."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from monai_sparse_refine.errors import InputError

__all__ = ["LABEL_PRESETS", "MAX_LABEL_ID", "Label", "LabelSelection", "resolve_labels"]

# Ids are looked up in a table of this size; no public label map comes near it.
MAX_LABEL_ID = 65535

# TotalSegmentator v1 splits the heart: myocardium, left atrium and ventricle, right atrium and ventricle.
_TOTALSEGMENTATOR_V1 = {
    "esophagus": (42,),
    "heart": (44, 45, 46, 47, 48),
    "trachea": (43,),
    "aorta": (7,),
}

LABEL_PRESETS: dict[str, dict[str, tuple[int, ...]]] = {
    "segthor": {"esophagus": (1,), "heart": (2,), "trachea": (3,), "aorta": (4,)},
    "wholebody_ct_segmentation": _TOTALSEGMENTATOR_V1,
    "totalsegmentator_v1": _TOTALSEGMENTATOR_V1,
    "totalsegmentator": {
        "esophagus": (15,),
        "heart": (51,),
        "trachea": (16,),
        "aorta": (52,),
        "skull": (91,),
    },
    "vista3d": {"esophagus": (11,), "heart": (115,), "trachea": (57,), "aorta": (6,), "skull": (120,)},
}


class Label(NamedTuple):
    """One structure: its name, and the ids that make it up in a label map (or its channels in a one-hot mask)."""

    name: str
    ids: tuple[int, ...]


LabelSelection = str | int | Sequence[str | int] | Mapping[str, int | Sequence[int]] | None


def resolve_labels(labels: LabelSelection = None, preset: str | None = None) -> tuple[Label, ...] | None:
    """Turn what a user writes into labels.

    Args:
        labels: names of the preset, ids, several of both, or a dict from your own names to one id or several
            (a union). None takes all the names of the preset.
        preset: a name in `LABEL_PRESETS`.

    Returns:
        At least one label, no id in two of them; None where neither is given, which means every label that a
        mask has.

    Raises:
        InputError: an unknown preset or name, an id that is no positive number up to 65535 (0 is the
            background), or one that is named twice.
    """
    known: Mapping[str, tuple[int, ...]] = {}
    if preset is not None:
        if preset not in LABEL_PRESETS:
            raise InputError(
                f"label_preset is {preset!r}; expected one of {', '.join(map(repr, LABEL_PRESETS))}"
            )
        known = LABEL_PRESETS[preset]
    if labels is None:
        return tuple(Label(name, ids) for name, ids in known.items()) or None
    if isinstance(labels, Mapping):
        chosen = [Label(str(name), _ids(ids, str(name))) for name, ids in labels.items()]
    else:
        several = [labels] if isinstance(labels, (str, int)) else list(labels)
        chosen = [_one(item, known, preset) for item in several]
    if not chosen:
        raise InputError("labels is empty; name at least one label, or leave it out to refine all of them")
    seen: dict[int, str] = {}
    for label in chosen:
        for number in label.ids:
            if number in seen:
                raise InputError(
                    f"label id {number} belongs to {seen[number]!r} and to {label.name!r}; name it only once"
                )
            seen[number] = label.name
    return tuple(chosen)


def _one(item: str | int, known: Mapping[str, tuple[int, ...]], preset: str | None) -> Label:
    if not isinstance(item, str):
        # The name of a known id reads better in a report than a number.
        name = next((name for name, ids in known.items() if ids == (item,)), str(item))
        return Label(name, _ids(item, name))
    if item in known:
        return Label(item, known[item])
    if item.isdigit():  # from a command line
        return _one(int(item), known, preset)
    if preset is None:
        raise InputError(
            f"labels has the name {item!r}, which means nothing without label_preset; choose one of "
            f"{', '.join(map(repr, LABEL_PRESETS))}, or give ids, or a dict such as {{{item!r}: 1}}"
        )
    raise InputError(
        f"labels has the name {item!r}, which label_preset {preset!r} does not know; it has "
        f"{', '.join(known)}: use one of these, or the label's id"
    )


def _ids(ids: int | Iterable[int], name: str) -> tuple[int, ...]:
    several = (ids,) if isinstance(ids, int) else tuple(ids)
    for number in several:
        if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= MAX_LABEL_ID:
            raise InputError(
                f"label {name!r} has the id {number!r}; expected a whole number from 1 to {MAX_LABEL_ID} "
                "(0 is the background)"
            )
    if not several:
        raise InputError(f"label {name!r} has no id; give it at least one")
    return several
