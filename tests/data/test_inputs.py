from __future__ import annotations

import gzip

import nibabel as nib
import nrrd
import numpy as np
import pytest
import torch

from monai_sparse_refine.data.inputs import (
    check_geometry,
    check_on_grid_of,
    check_output_dir,
    check_volume,
    find_volumes,
    preflight,
)
from monai_sparse_refine.errors import InputError

MASK = np.zeros((6, 5, 4), dtype=np.uint8)
MASK[1:4, 1:4, 1:3] = 1


def save(path, values=MASK, affine=None):
    nib.save(nib.Nifti1Image(values, np.diag([0.5, 0.6, 2.0, 1.0]) if affine is None else affine), path)
    return path


def save_nrrd(path, values=MASK, **fields):
    header = {
        "space": "left-posterior-superior",
        "space directions": np.diag([0.5, 0.6, 2.0]),
        "space origin": [1.0, 2.0, 3.0],
        **fields,
    }
    nrrd.write(str(path), values, {k: v for k, v in header.items() if v is not None})
    return path


def test_files_folders_and_lists_are_found_in_order(tmp_path):
    names = ["b.nii", "a.nii.gz", "C.NRRD", "d.seg.nrrd"]
    for name in [*names, "notes.txt", "._a.nii.gz", ".1234.a.nii.gz"]:
        (tmp_path / name).touch()
    (tmp_path / "folder.nii").mkdir()
    assert [p.name for p in find_volumes(tmp_path)] == sorted(names)
    assert find_volumes(str(tmp_path / "b.nii")) == [tmp_path / "b.nii"]
    both = find_volumes([tmp_path / "b.nii", tmp_path])
    assert [p.name for p in both] == ["b.nii", *sorted({*names} - {"b.nii"})]


@pytest.mark.parametrize(("spacing", "metres"), [(0.0005, True), (500.0, False), (0.5, None)])
def test_a_spacing_that_cannot_be_millimetres_is_refused(tmp_path, spacing, metres):
    file = save(tmp_path / "a.nii", affine=np.diag([spacing, spacing, 2 * spacing, 1.0]))
    if metres is None:
        assert check_volume(file).spacing[0] == pytest.approx(spacing)
        return
    for check in (check_volume, check_geometry):
        with pytest.raises(InputError, match="cannot be mm"):
            check(file)


def test_two_spacings_in_one_header_are_refused(tmp_path):
    image = nib.Nifti1Image(MASK, None)
    image.header.set_zooms((1.0, 1.0, 1.0))
    image.header.set_qform(np.diag([1.0, 1.0, 1.0, 1.0]), code=1)
    image.header.set_sform(np.diag([3.0, 3.0, 3.0, 1.0]), code=1)
    nib.save(image, tmp_path / "a.nii")
    for check in (check_volume, check_geometry):
        with pytest.raises(InputError, match=r"affine has voxels of \[3.0.*pixdim of \[1.0"):
            check(tmp_path / "a.nii")


def test_what_cannot_be_found_is_said(tmp_path):
    with pytest.raises(InputError, match=r"x\.nii: no such file or folder"):
        find_volumes(tmp_path / "x.nii")
    with pytest.raises(InputError, match=r"no .nii, .nii.gz or .nrrd file in this folder$"):
        find_volumes(tmp_path)
    with pytest.raises(InputError, match="no input given"):
        find_volumes([])
    (tmp_path / "a.png").touch()
    with pytest.raises(InputError, match=r"a\.png: not a file of a known format"):
        find_volumes(tmp_path / "a.png")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a.nii").touch()
    with pytest.raises(InputError, match=r"there are some in .*deep"):
        find_volumes(tmp_path)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.nrrd"])
def test_a_good_mask_is_summarised(tmp_path, name):
    path = (save_nrrd if name.endswith("nrrd") else save)(tmp_path / name)
    summary = check_volume(path)
    assert summary.kind == "mask" and summary.shape == (6, 5, 4) and summary.foreground == 18
    assert summary.spacing == pytest.approx((0.5, 0.6, 2.0))


def test_a_good_ct_a_slice_and_trailing_axes_pass(tmp_path):
    ct = MASK.astype(np.int16) * 1500 - 1000
    assert check_volume(save(tmp_path / "ct.nii", ct)).kind == "ct"
    assert check_volume(save(tmp_path / "ct.nii", ct), hu_threshold=100).foreground == 18
    assert check_volume(save(tmp_path / "4d.nii", MASK[..., None])).shape == (6, 5, 4)
    assert check_volume(save(tmp_path / "slice.nii", MASK[:, :, 1:2])).shape == (6, 5, 1)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (MASK[:, :, 1], "has 2 dimensions"),
        (MASK[..., None, None], "has 5 dimensions"),
        (np.stack([MASK, MASK], axis=-1), r"has 4 dimensions, shape \(6, 5, 4, 2\)"),
        (MASK * 0, "is empty"),
        (MASK * 3, "values 0, 3"),
        (np.where(MASK, np.nan, 0).astype(np.float32), "18 voxels that are NaN"),
        (MASK.astype(np.int16) * 1200 - 1000, "no voxel above hu_threshold=300"),
    ],
)
def test_bad_content_is_named_with_its_file(tmp_path, values, message):
    path = save(tmp_path / "bad.nii.gz", values)
    with pytest.raises(InputError, match=f"bad.nii.gz.*{message}"):
        check_volume(path)


def test_truncated_and_fake_files_are_unreadable(tmp_path):
    noise = (np.random.default_rng(0).random((20, 20, 20)) > 0.5).astype(np.uint8)
    for name in ("cut.nii", "cut.nii.gz"):
        path = save(tmp_path / name, noise)
        path.write_bytes(path.read_bytes()[:-300])
    path = save_nrrd(tmp_path / "cut.nrrd", noise)
    path.write_bytes(path.read_bytes()[:-300])
    (tmp_path / "zip.nii.gz").write_bytes(gzip.compress(b"no header"))
    (tmp_path / "text.nii").write_text("hello")
    (tmp_path / "text.nrrd").write_text("hello")
    (tmp_path / "none.nii.gz").touch()
    for path in sorted(tmp_path.iterdir()):
        with pytest.raises(InputError, match=f"{path.name}: cannot be read") as caught:
            check_volume(path)
        assert "\n" not in str(caught.value)


def test_affines_that_lead_nowhere(tmp_path):
    image = nib.Nifti1Image(MASK, np.eye(4))
    image.header["sform_code"] = 2
    for row, values in (("srow_x", [0, 0, 0, 0]), ("srow_x", [0, 1, 0, 0]), ("srow_z", [0, 0, np.nan, 0])):
        broken = image.header.copy()
        broken[row] = values
        nib.save(nib.Nifti1Image(MASK, None, broken), tmp_path / "a.nii")
        for check in (check_volume, check_geometry):
            with pytest.raises(InputError, match=r"a\.nii: its affine"):
                check(tmp_path / "a.nii")
    (tmp_path / "b.nii").write_text("hello")
    with pytest.raises(InputError, match=r"b\.nii: cannot be read"):
        check_geometry(tmp_path / "b.nii")


def test_nrrd_without_or_with_odd_orientation(tmp_path):
    nrrd.write(str(tmp_path / "a.nrrd"), MASK, {"spacings": [1.0, 1.0, 1.0]})
    with pytest.raises(InputError, match="no 'space directions'"):
        check_volume(tmp_path / "a.nrrd")
    # MONAI takes the short name of the axes for another space, and would turn the skull about.
    for space in ("left-anterior-superior", "LPS"):
        path = save_nrrd(tmp_path / "b.nrrd", space=space)
        for check in (check_volume, check_geometry):
            with pytest.raises(InputError, match=f"its space is '{space}'"):
                check(path)
    for space in ("left-posterior-superior", "right-anterior-superior", "RAS"):
        check_geometry(save_nrrd(tmp_path / "c.nrrd", space=space))


def test_output_folder_is_made_and_left_empty(tmp_path):
    folder = check_output_dir(tmp_path / "a" / "b")
    assert folder.is_dir() and list(folder.iterdir()) == []


def test_output_folder_that_cannot_be(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is a file"):
        check_output_dir(tmp_path / "file")
    with pytest.raises(InputError, match="cannot be written to"):
        check_output_dir(tmp_path / "file" / "below")

    def full(self, data):
        self.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(InputError, match=r"out: cannot be written to \(No space left on device\)"):
        check_output_dir(tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_preflight_passes_good_input(tmp_path):
    save(tmp_path / "a.nii.gz")
    save_nrrd(tmp_path / "b.nrrd")
    torch.save({"w": torch.zeros(2)}, tmp_path / "model.pt")
    files = preflight(tmp_path, tmp_path / "out", weights=tmp_path / "model.pt", device="cpu")
    assert [p.name for p in files] == ["a.nii.gz", "b.nrrd"]
    assert preflight(tmp_path, None) == files


def test_preflight_tells_all_that_is_wrong_one_line_each(tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    save(source / "good.nii.gz")
    save(source / "empty.nii.gz", MASK * 0)
    save(source / "labels.nii.gz", MASK * 4)
    (source / "broken.nii").write_text("x")
    save(source / "good.nii")
    with pytest.raises(InputError) as caught:
        preflight(source, source, weights=source / "no.pt", device="nonsense")
    lines = str(caught.value).splitlines()
    expected = [
        "broken.nii: cannot be read",
        "empty.nii.gz: is empty",
        "labels.nii.gz: has the values 0, 4",
        "has the same name as",
        "is the input folder",
        "no.pt: no such file",
        "device 'nonsense'",
    ]
    assert len(lines) == len(expected)
    for line, part in zip(lines, expected, strict=True):
        assert part in line


def test_preflight_of_nothing_still_checks_the_rest(tmp_path):
    with pytest.raises(InputError) as caught:
        preflight(tmp_path / "none", tmp_path / "out", weights=tmp_path / "no.pt")
    assert len(str(caught.value).splitlines()) == 2


def test_real_volumes_pass(shared_data):
    mask = check_volume(shared_data / "skull_masks/invesalius_cranium_skull.nii.gz")
    assert mask.kind == "mask" and mask.foreground == 402994
    ct = check_volume(shared_data / "head_ct/vtk_headsq_quarter_ct.nii.gz")
    assert ct.kind == "ct" and ct.foreground == 26771


def test_files_of_one_grid_are_told_from_those_of_one_shape(tmp_path):
    affine = np.diag([0.5, 0.6, 2.0, 1.0])
    affine[:3, 3] = 10, 20, 30
    here = save(tmp_path / "a.nii.gz", affine=affine)
    lps = save_nrrd(
        tmp_path / "a.nrrd",
        **{"space directions": np.diag([-0.5, -0.6, 2.0]), "space origin": [-10, -20, 30]},
    )
    check_on_grid_of(lps, here)
    check_on_grid_of(save(tmp_path / "4d.nii", MASK[..., None], affine), here)
    mirrored = save(tmp_path / "b.nii", affine=affine @ np.diag([-1.0, 1, 1, 1]))
    with pytest.raises(InputError, match=r"b\.nii: has the shape of .*a\.nii\.gz, .* up to 5\.0 mm apart"):
        check_on_grid_of(mirrored, here)
    with pytest.raises(InputError, match=r"c\.nii: has shape \(6, 5, 1\)"):
        check_on_grid_of(save(tmp_path / "c.nii", MASK[:, :, :1], affine), here)
    (tmp_path / "d.nii").write_text("hello")
    with pytest.raises(InputError, match=r"d\.nii: cannot be read"):
        check_on_grid_of(tmp_path / "d.nii", here)


def test_the_header_alone_tells_how_many_dimensions_there_are(tmp_path):
    check_geometry(save(tmp_path / "one.nii", MASK[..., None]))
    several = save(tmp_path / "two.nii", np.stack([MASK, MASK], axis=-1))
    for check in (check_geometry, check_volume):
        with pytest.raises(InputError, match="has 4 dimensions"):
            check(several)
