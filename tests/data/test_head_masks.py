import nibabel as nib
import numpy as np
import pytest

from monai_sparse_refine.data.head_masks import export_head_masks, has_usable_vault, main, split_names
from monai_sparse_refine.errors import InputError

SPACING = (4.0, 4.0, 2.5)


def _head(*, open_side: bool = False) -> np.ndarray:
    """A capsule of bone, 128 cubed, z downwards: a vault, with one side missing if asked."""
    axes = [
        (np.arange(128) - 64) * SPACING[0],
        (np.arange(128) - 60) * SPACING[1],
        (np.arange(128) - 40) * SPACING[2],
    ]
    y, x, z = np.meshgrid(*axes, indexing="ij")
    radius = np.sqrt((y / 90) ** 2 + (x / 70) ** 2 + (z / 70) ** 2)
    head = (radius < 1) & (radius > 0.86) & (z < 60)
    if open_side:
        head &= x < 0
    return head


def _pack(path, heads: dict[str, np.ndarray]):
    np.savez(
        path,
        masks=np.stack([np.packbits(head) for head in heads.values()]),
        ids=np.array(list(heads)),
        vox=np.array([SPACING] * len(heads)),
    )
    return path


def test_only_heads_that_bone_surrounds_are_usable():
    assert has_usable_vault(_head(), SPACING)
    assert not has_usable_vault(_head(open_side=True), SPACING)
    assert not has_usable_vault(np.zeros((128, 128, 128), bool), SPACING)


def test_export_turns_the_axes_to_ras(tmp_path):
    head = _head()
    head[60:68, 95:100, 40:44] = True  # a mark on the left (x grows to the left)
    names = export_head_masks(
        _pack(tmp_path / "packed.npz", {"a": head, "b": _head(open_side=True)}), tmp_path / "out"
    )
    assert names == ["a"]
    image = nib.load(tmp_path / "out" / "a.nii.gz")
    assert nib.aff2axcodes(image.affine) == ("P", "L", "I")
    assert image.get_data_dtype() == np.uint8
    np.testing.assert_allclose(image.header.get_zooms(), SPACING)
    canonical = nib.as_closest_canonical(image)
    data = np.asarray(canonical.dataobj)
    assert data[:, :, data.shape[2] // 2 :].sum() > data[:, :, : data.shape[2] // 2].sum()  # the vault is up


def test_crop_keeps_world_positions(tmp_path):
    head = _head()
    export_head_masks(_pack(tmp_path / "packed.npz", {"a": head}), tmp_path)
    image = nib.load(tmp_path / "a.nii.gz")
    world = nib.affines.apply_affine(image.affine, np.argwhere(np.asarray(image.dataobj) > 0)).mean(0)
    y, x, z = ((np.argwhere(head) - 63.5) * SPACING).mean(0)
    np.testing.assert_allclose(world, (-x, -y, -z), atol=1e-3)


def test_split_is_by_name_and_repeatable():
    names = [f"pt_{i}" for i in range(30)]
    split = split_names(names, validation=4, test=6)
    assert {part: len(chosen) for part, chosen in split.items()} == {
        "test": 6,
        "validation": 4,
        "training": 20,
    }
    assert sorted(name for part in split.values() for name in part) == sorted(names)
    assert split == split_names(reversed(names), validation=4, test=6)


def test_command_writes_masks_and_keeps_an_older_split(tmp_path, capsys):
    packed = _pack(tmp_path / "packed.npz", {"a": _head()})
    split = tmp_path / "split.json"
    split.write_text("{}")
    main([str(packed), "--output-dir", str(tmp_path / "out"), "--split", str(split)])
    assert "1 skulls" in capsys.readouterr().out
    assert split.read_text() == "{}"


def test_other_files_are_refused(tmp_path):
    with pytest.raises(InputError, match="packed mask file"):
        export_head_masks(tmp_path / "no.npz", tmp_path)
