from __future__ import annotations

import nibabel as nib
import nrrd
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import LoadImage

from monai_sparse_refine.errors import InputError
from monai_sparse_refine.transforms.save import SaveMaskD, SaveMaskd, save_mask

SHAPE = (5, 4, 3)
RNG = np.random.default_rng(1)
MASK = (RNG.random(SHAPE) > 0.5).astype(np.uint8)
OBLIQUE = np.array([[-0.5, 0.1, 0, 20], [0.1, 0.6, -0.3, -7], [0, 0.2, 2.4, 33], [0, 0, 0, 1.0]])


def source_file(path, *, trailing=(), image_class=nib.Nifti1Image, codes=(1, 2), load=True):
    image = image_class(RNG.integers(-900, 900, (*SHAPE, *trailing)).astype(np.int16), OBLIQUE)
    image.set_qform(np.diag([0.6, 0.6, 2.5, 1]), code=codes[0])
    image.set_sform(OBLIQUE, code=codes[1])
    image.header.set_xyzt_units("mm", "sec")
    image.header["descrip"] = b"somebody's name"
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"and birthday"))
    nib.save(image, path)
    return LoadImage(ensure_channel_first=True)(path) if load else None


def mask_like(image):
    return MetaTensor(torch.as_tensor(MASK[None]), meta=image.meta)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("trailing", [(), (1,), (1, 1)])
@pytest.mark.parametrize("codes", [(1, 2), (3, 0), (0, 0)])
@pytest.mark.parametrize("image_class", [nib.Nifti1Image, nib.Nifti2Image])
def test_a_nifti_comes_back_on_its_own_grid(tmp_path, name, trailing, codes, image_class):
    if trailing == (1, 1):  # LoadImage takes one such axis for the channel, but no two
        image = source_file(tmp_path / name, trailing=(), codes=codes, image_class=image_class)
        source_file(tmp_path / name, trailing=trailing, codes=codes, image_class=image_class, load=False)
    else:
        image = source_file(tmp_path / name, trailing=trailing, codes=codes, image_class=image_class)
    save_mask(mask_like(image), tmp_path / "out.nii.gz")
    before, after = nib.load(tmp_path / name), nib.load(tmp_path / "out.nii.gz")
    assert type(after) is type(before) and after.shape == before.shape
    assert after.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(after.affine, before.affine)
    np.testing.assert_array_equal(np.asarray(after.dataobj).reshape(SHAPE), MASK)
    for field in ("qform_code", "sform_code", "pixdim", "xyzt_units", "srow_x", "quatern_b", "qoffset_z"):
        np.testing.assert_array_equal(after.header[field], before.header[field])


def test_nothing_that_may_name_a_patient_is_copied(tmp_path):
    image = source_file(tmp_path / "a.nii")
    saved = nib.load(save_mask(mask_like(image), tmp_path / "b.nii"))
    assert not saved.header.extensions and b"name" not in bytes(saved.header["descrip"])
    assert b"birthday" not in (tmp_path / "b.nii").read_bytes()


def test_another_grid_is_saved_with_its_own_affine(tmp_path):
    image = source_file(tmp_path / "a.nii")
    moved = OBLIQUE + np.array([[0, 0, 0, 5.0]] + [[0] * 4] * 3)
    saved = nib.load(save_mask(MASK, tmp_path / "b.nii", affine=moved, reference=image))
    np.testing.assert_allclose(saved.affine, moved, atol=1e-5)
    crop = MetaTensor(torch.as_tensor(MASK[None, :3]), meta=image.meta)
    saved = nib.load(save_mask(crop, tmp_path / "c.nii"))
    assert saved.shape == (3, 4, 3)
    np.testing.assert_allclose(saved.affine, image.affine, atol=1e-6)


def test_a_nrrd_is_saved_as_nifti_at_the_same_place(tmp_path):
    header = {
        "space": "left-posterior-superior",
        "space directions": np.diag([0.5, 0.75, 2.0]),
        "space origin": [1.0, 2.0, 3.0],
    }
    nrrd.write(str(tmp_path / "a.nrrd"), MASK, header)
    data = {"skull": LoadImage(ensure_channel_first=True)(tmp_path / "a.nrrd")}
    SaveMaskd("skull", tmp_path)(data)
    saved = nib.load(tmp_path / "a_skull.nii.gz")
    expected = np.diag([-0.5, -0.75, 2.0, 1.0])
    expected[:3, 3] = [-1, -2, 3]
    np.testing.assert_allclose(saved.affine, expected)
    np.testing.assert_array_equal(np.asarray(saved.dataobj), MASK)
    assert saved.header["sform_code"] == 1 and saved.header["qform_code"] == 1
    assert saved.header.get_xyzt_units()[0] == "mm"


def test_shear_goes_into_the_form_that_can_hold_it(tmp_path):
    sheared = np.array([[1, 0.4, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    saved = nib.load(save_mask(MASK, tmp_path / "a.nii", affine=sheared))
    np.testing.assert_allclose(saved.affine, sheared)
    assert saved.header["sform_code"] == 1 and saved.header["qform_code"] == 0


def test_dictionary_version_names_files_after_the_reference(tmp_path):
    assert SaveMaskD is SaveMaskd
    image = source_file(tmp_path / "case.7.nii.gz")
    out = tmp_path / "out"
    data = {"skull": image, "completed": mask_like(image), "implant": MASK[None]}
    result = SaveMaskd(["completed", "implant"], out, reference_key="skull")(data)
    assert sorted(p.name for p in out.iterdir()) == ["case.7_completed.nii.gz", "case.7_implant.nii.gz"]
    assert result["completed"].meta["saved_to"] == str(out / "case.7_completed.nii.gz")
    np.testing.assert_array_equal(
        nib.load(out / "case.7_implant.nii.gz").affine, nib.load(tmp_path / "case.7.nii.gz").affine
    )
    SaveMaskd("completed", out, postfix="whole", reference_key="skull", suffix=".nii")(data)
    assert (out / "case.7_whole.nii").is_file()
    with pytest.raises(InputError, match="postfix"):
        SaveMaskd(["a", "b"], out, postfix=["x", "x"])


def test_bad_input_leaves_no_file(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="other than 0 and 1"):
        save_mask(MASK * 2, tmp_path / "a.nii", affine=np.eye(4))
    with pytest.raises(InputError, match=r"affine of a\.nii is not known"):
        save_mask(MASK, tmp_path / "a.nii")
    with pytest.raises(InputError, match=r"\.nii or \.nii\.gz"):
        save_mask(MASK, tmp_path / "a.png", affine=np.eye(4))

    def half(image, path):
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(nib, "save", half)
    with pytest.raises(OSError, match="disk full"):
        save_mask(MASK, tmp_path / "a.nii", affine=np.eye(4))
    assert list(tmp_path.iterdir()) == []


def test_label_maps_keep_their_ids(tmp_path):
    image = source_file(tmp_path / "a.nii")
    for highest, dtype in ((200, np.uint8), (300, np.uint16)):
        labels = MetaTensor(torch.as_tensor(MASK[None].astype(np.int32) * highest), meta=image.meta)
        saved = nib.load(save_mask(labels, tmp_path / "b.nii.gz", labels=True))
        assert saved.get_data_dtype() == dtype
        np.testing.assert_array_equal(np.asarray(saved.dataobj), MASK.astype(int) * highest)
        np.testing.assert_array_equal(saved.affine, nib.load(tmp_path / "a.nii").affine)
    for bad in (0.5, -1, 70000):
        with pytest.raises(InputError, match="no ids from 0 to 65535"):
            save_mask(MASK.astype(float) * bad, tmp_path / "c.nii", affine=np.eye(4), labels=True)


def test_dictionary_version_saves_label_maps_where_asked(tmp_path):
    labels = MetaTensor(torch.tensor([[[[0, 1], [2, 300]]]]), affine=torch.eye(4))
    SaveMaskd("m", tmp_path, labels=True)({"m": labels})
    saved = np.asarray(nib.load(tmp_path / "mask_m.nii.gz").dataobj)
    np.testing.assert_array_equal(saved, labels[0].numpy())
    with pytest.raises(InputError, match="0 and 1"):
        SaveMaskd("m", tmp_path)({"m": labels})


def test_a_case_of_the_same_name_from_another_folder_is_refused(tmp_path):
    images = []
    for folder in "ab":
        (tmp_path / folder).mkdir()
        images.append(source_file(tmp_path / folder / "mask.nii.gz"))
    save = SaveMaskd("pred", tmp_path / "out")
    save({"pred": mask_like(images[0])})
    save({"pred": mask_like(images[0])})  # the same case again
    before = (tmp_path / "out" / "mask_pred.nii.gz").read_bytes()
    with pytest.raises(InputError, match=r"would replace mask_pred.nii.gz of .*rename one"):
        save({"pred": mask_like(images[1])})
    assert (tmp_path / "out" / "mask_pred.nii.gz").read_bytes() == before


def test_masks_are_saved_in_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    SaveMaskd("pred", "~/out")({"pred": MetaTensor(torch.as_tensor(MASK[None]), affine=OBLIQUE)})
    assert save_mask(MASK, "~/b.nii", affine=OBLIQUE) == tmp_path / "b.nii"
    assert (tmp_path / "out" / "mask_pred.nii.gz").is_file()
