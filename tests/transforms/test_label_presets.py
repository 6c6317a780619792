from __future__ import annotations

import pytest

from monai_sparse_refine.errors import InputError
from monai_sparse_refine.transforms.label_presets import LABEL_PRESETS, Label, resolve_labels


@pytest.mark.parametrize(
    ("preset", "heart", "esophagus"),
    [
        ("segthor", (2,), (1,)),
        ("wholebody_ct_segmentation", (44, 45, 46, 47, 48), (42,)),
        ("totalsegmentator_v1", (44, 45, 46, 47, 48), (42,)),
        ("totalsegmentator", (51,), (15,)),
        ("vista3d", (115,), (11,)),
    ],
)
def test_every_network_has_its_own_ids(preset, heart, esophagus):
    labels = dict(resolve_labels(None, preset))
    assert labels["heart"] == heart and labels["esophagus"] == esophagus
    assert {"aorta", "trachea"} <= set(labels)


@pytest.mark.parametrize("preset", LABEL_PRESETS)
def test_no_preset_has_an_id_twice(preset):
    ids = [number for ids in LABEL_PRESETS[preset].values() for number in ids]
    assert len(ids) == len(set(ids)) and min(ids) > 0


def test_names_ids_and_unions():
    assert resolve_labels() is None
    assert resolve_labels("aorta", "segthor") == (Label("aorta", (4,)),)
    assert resolve_labels(["aorta", 2, 99], "segthor") == (
        Label("aorta", (4,)),
        Label("heart", (2,)),
        Label("99", (99,)),
    )
    assert resolve_labels("7") == (Label("7", (7,)),)
    assert resolve_labels({"lung": [10, 11], "skull": 3}) == (Label("lung", (10, 11)), Label("skull", (3,)))


@pytest.mark.parametrize(
    ("labels", "preset", "message"),
    [
        (None, "totalseg", "label_preset is 'totalseg'.*'vista3d'"),
        ("liver", "segthor", "'liver', which label_preset 'segthor' does not know; it has esophagus"),
        ("liver", None, "'liver', which means nothing without label_preset"),
        (0, None, "0 is the background"),
        (-1, None, "whole number from 1"),
        (True, None, "whole number from 1"),
        (70000, None, "to 65535"),
        ([], None, "labels is empty"),
        ({"a": []}, None, "'a' has no id"),
        ({"a": [1, 2], "b": 2}, None, "label id 2 belongs to 'a' and to 'b'"),
        ([2, "heart"], "segthor", "label id 2 belongs to 'heart' and to 'heart'"),
    ],
)
def test_what_makes_no_sense_is_refused(labels, preset, message):
    with pytest.raises(InputError, match=message):
        resolve_labels(labels, preset)
