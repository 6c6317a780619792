import json

import nibabel as nib
import numpy as np
import pytest

from monai_sparse_refine.data.fine_heads import export_fine_heads, main
from monai_sparse_refine.errors import InputError

AFFINE = np.diag([-4.0, -4.0, 3.0, 1.0])  # LPS voxels of 4x4x3 mm
SHAPE = (48, 60, 50)


def _ct(*, open_side: bool = False) -> np.ndarray:
    """HU of an egg-shaped vault that stands on a neck, the last axis running up."""
    centre, radii = (96, 120, 80), (72, 92, 66)
    x, y, z = ((np.indices(SHAPE)[i] * (4, 4, 3)[i] - centre[i]) / radii[i] for i in range(3))
    reach = np.sqrt(x**2 + y**2 + z**2)
    bone = (reach < 1) & (reach > 0.88)
    if open_side:
        bone &= x > 0
    return np.where(bone, 1200, np.where(reach < 1, 40, -1000)).astype(np.int16)


def _save(folder, name, volume):
    folder.mkdir(exist_ok=True)
    nib.save(nib.Nifti1Image(volume, AFFINE), folder / f"{name}_ct.nii.gz")
    return folder / f"{name}_ct.nii.gz"


def test_a_coarse_ct_gives_fine_masks_of_the_same_head(tmp_path):
    file = _save(tmp_path / "cts", "a", _ct())
    names = export_fine_heads([file], tmp_path / "out", voxel_mm=2.0)
    assert names == ["a_fine0", "a_fine1"]
    truth = nib.load(file)
    bone = np.argwhere(np.asarray(truth.dataobj) > 300) @ AFFINE[:3, :3].T
    sizes = []
    for name in names:
        image = nib.load(tmp_path / "out" / f"{name}.nii.gz")
        assert nib.aff2axcodes(image.affine) == ("R", "A", "S")
        np.testing.assert_allclose(image.header.get_zooms(), 2.0, rtol=0.03)
        mask = np.asarray(image.dataobj)
        assert set(np.unique(mask)) == {0, 1}
        places = np.argwhere(mask) @ image.affine[:3, :3].T + image.affine[:3, 3]
        np.testing.assert_allclose(places.min(axis=0), bone.min(axis=0), atol=5)
        np.testing.assert_allclose(places.max(axis=0), bone.max(axis=0), atol=5)
        sizes.append(mask.sum())
    assert sizes[0] != sizes[1]  # another threshold, another thickness
    again = export_fine_heads([file], tmp_path / "again", voxel_mm=2.0)
    first, second = (nib.load(tmp_path / d / f"{again[0]}.nii.gz").get_fdata() for d in ("out", "again"))
    assert np.array_equal(first, second)


def test_a_head_without_a_vault_is_left_out_and_a_mask_is_refused(tmp_path):
    assert export_fine_heads([_save(tmp_path, "b", _ct(open_side=True))], tmp_path / "out") == []
    mask = _save(tmp_path, "c", (_ct() > 300).astype(np.int16))
    with pytest.raises(InputError, match="CT in HU"):
        export_fine_heads([mask], tmp_path / "out")


def test_the_command_keeps_to_the_split(tmp_path, capsys):
    for name in "abc":
        _save(tmp_path / "cts", name, _ct())
    split = tmp_path / "split.json"
    split.write_text(json.dumps({"training": ["a"], "validation": ["b", "x"], "test": ["c"]}))
    arguments = f"{tmp_path / 'cts'} --output-dir {tmp_path / 'out'} --split {split} --variants 1"
    main(arguments.split())
    written = sorted(str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*.nii.gz"))
    assert written == ["training/a_fine0.nii.gz", "validation/b_fine0.nii.gz"]
    assert "1 skulls of 1 CTs" in capsys.readouterr().out
    main([*arguments.split(), "--parts", "test"])
    assert (tmp_path / "out" / "test" / "c_fine0.nii.gz").is_file()
