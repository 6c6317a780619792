from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from monai_sparse_refine.data.multi_resolution import export_multi_resolution, main
from monai_sparse_refine.errors import InputError


def saved(folder: Path, name: str, values: np.ndarray, affine: np.ndarray) -> Path:
    folder.mkdir(exist_ok=True)
    nib.save(nib.Nifti1Image(values, affine), folder / name)
    return folder / name


@pytest.fixture
def shell() -> np.ndarray:
    """A ball's shell, 32 x 24 x 20 voxels, off the middle."""
    x, y, z = np.meshgrid(np.arange(32) - 12, np.arange(24) - 12, np.arange(20) - 10, indexing="ij")
    radius = np.sqrt(x**2 + y**2 + z**2)
    return ((radius < 9) & (radius > 4)).astype(np.uint8)


def middle_mm(file: Path) -> np.ndarray:
    image = nib.load(file)
    return nib.affines.apply_affine(image.affine, np.argwhere(np.asarray(image.dataobj)).mean(0))


def test_a_folder_for_each_size_holds_the_cases_under_their_names(shell, tmp_path):
    affine = np.diag([2.0, 2.0, 3.0, 1.0])
    for name in ("a.nii.gz", "b.nii"):
        saved(tmp_path / "in", name, shell, affine)
    written = list(export_multi_resolution(tmp_path / "in", tmp_path / "out", in_plane=[16, 32, 64]))
    found = sorted(file.relative_to(tmp_path / "out").as_posix() for file in (tmp_path / "out").rglob("*.gz"))
    assert found == [f"{size}/{case}.nii.gz" for size in (16, 32, 64) for case in "ab"]
    assert [item.path.parent.name for item in written] == ["16", "32", "64"] * 2
    assert [item.shape for item in written[:3]] == [(16, 12, 15), (32, 24, 20), (64, 48, 20)]
    assert written[0].spacing == pytest.approx((4, 4, 4)) and written[2].spacing == pytest.approx((1, 1, 3))
    assert [item.interpolated for item in written[:3]] == [False, False, True]
    image = nib.load(tmp_path / "out" / "32" / "a.nii.gz")
    assert image.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(np.asarray(image.dataobj), shell)
    np.testing.assert_allclose(image.affine, affine)
    assert written[1].occupied == int(shell.sum())


def test_a_turned_ct_is_thresholded_and_stays_in_its_place(shell, tmp_path):
    # Sagittal slices first: in-plane are the axial slices all the same.
    turned = np.transpose(np.where(shell > 0, 900, -500).astype(np.int16), (2, 0, 1))
    affine = np.array([[0, -2.0, 0, 70], [0, 0, -2.0, 5], [3.0, 0, 0, -40], [0, 0, 0, 1]])
    file = saved(tmp_path, "ct.nii.gz", turned, affine)
    (item,) = export_multi_resolution(file, tmp_path / "out", in_plane=[16])
    assert item.shape == (16, 12, 15)
    assert nib.aff2axcodes(nib.load(item.path).affine) == ("R", "A", "S")
    true = nib.affines.apply_affine(affine, np.argwhere(turned > 0).mean(0))
    np.testing.assert_allclose(middle_mm(item.path), true, atol=1.0)


def test_nothing_is_written_where_one_input_cannot_be_used(shell, tmp_path):
    saved(tmp_path / "in", "a.nii.gz", shell, np.eye(4))
    saved(tmp_path / "in", "empty.nii.gz", np.zeros_like(shell), np.eye(4))
    with pytest.raises(InputError, match="empty"):
        list(export_multi_resolution(tmp_path / "in", tmp_path / "out"))
    assert not list((tmp_path / "out").rglob("*.gz"))
    with pytest.raises(InputError, match="in_plane"):
        list(export_multi_resolution(tmp_path / "in" / "a.nii.gz", tmp_path / "out", in_plane=[0]))
    with pytest.raises(InputError, match="is the input folder"):
        list(export_multi_resolution(tmp_path / "in", tmp_path / "in"))


def test_the_command_says_what_it_wrote(shell, tmp_path, capsys):
    file = saved(tmp_path, "a.nii.gz", shell, np.diag([2.0, 2.0, 3.0, 1.0]))
    main([str(file), "--output-dir", str(tmp_path / "out"), "--in-plane", "16", "64"])
    first, second = capsys.readouterr().out.splitlines()
    assert "16 x 12 x 15 voxels of 4.00 x 4.00 x 4.00 mm" in first and "interpolated" not in first
    assert second.endswith("interpolated: finer than the input")
    with pytest.raises(SystemExit, match=r"error: .*no such file"):
        main([str(tmp_path / "none.nii.gz"), "--output-dir", str(tmp_path / "out")])
