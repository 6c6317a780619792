from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from monai_sparse_refine.cli.cases import Case, find_cases, read_case
from monai_sparse_refine.errors import InputError

SHAPE = (6, 5, 4)
RNG = np.random.default_rng(0)
CT = RNG.integers(-1000, 1000, SHAPE).astype(np.int16)
LABELS = RNG.integers(0, 3, SHAPE).astype(np.uint8)
# An oblique series: rows run down the head, columns to the back.
ROW, COLUMN = np.array([0, 0.6, -0.8]), np.array([1.0, 0, 0])
NORMAL = np.cross(ROW, COLUMN)
SPACING = (0.7, 0.8, 2.5)


def affine() -> np.ndarray:
    """Of the series' voxels [column, row, slice], to RAS."""
    lps = np.eye(4)
    lps[:3, :3] = np.stack([ROW, COLUMN, NORMAL], 1) @ np.diag(SPACING)
    lps[:3, 3] = [10, 20, 30]
    return np.diag([-1.0, -1, 1, 1]) @ lps


def write_series(folder: Path) -> list:
    pydicom = pytest.importorskip("pydicom", reason="DICOM needs pydicom")
    from pydicom import uid

    folder.mkdir(parents=True)
    study, series, frame = (uid.generate_uid() for _ in range(3))
    slices = []
    for z in range(SHAPE[2]):
        meta = pydicom.dataset.FileMetaDataset()
        meta.MediaStorageSOPClassUID = uid.CTImageStorage
        meta.MediaStorageSOPInstanceUID = uid.generate_uid()
        meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
        item = pydicom.dataset.FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
        item.SOPClassUID, item.SOPInstanceUID = uid.CTImageStorage, meta.MediaStorageSOPInstanceUID
        item.StudyInstanceUID, item.SeriesInstanceUID, item.FrameOfReferenceUID = study, series, frame
        item.Modality, item.PatientName, item.PatientID, item.StudyID = "CT", "no^one", "1", "1"
        for name in ("PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "AccessionNumber"):
            setattr(item, name, "")
        item.ReferringPhysicianName, item.SeriesNumber, item.InstanceNumber = "", 1, SHAPE[2] - z
        item.Columns, item.Rows = SHAPE[:2]
        item.PixelSpacing, item.SliceThickness = [SPACING[1], SPACING[0]], SPACING[2]
        item.ImageOrientationPatient = [*ROW, *COLUMN]
        item.ImagePositionPatient = list(np.array([10, 20, 30]) + NORMAL * SPACING[2] * z)
        item.BitsAllocated = item.BitsStored = 16
        item.HighBit, item.PixelRepresentation, item.SamplesPerPixel = 15, 1, 1
        item.PhotometricInterpretation, item.RescaleSlope, item.RescaleIntercept = "MONOCHROME2", 1, -24
        item.PixelData = (CT[:, :, z].T + 24).astype(np.int16).tobytes()
        path = folder / f"{RNG.integers(10**8):08d}"  # no suffix, in no order
        item.save_as(path, enforce_file_format=True)
        slices.append(pydicom.dcmread(path))
    return slices


def by_place(volume, matrix) -> dict:
    """Values by their place in the world: the same volume in any orientation."""
    index = np.argwhere(np.ones(volume.shape))
    world = np.round(index @ matrix[:3, :3].T + matrix[:3, 3], 2) + 0.0
    return {tuple(w): float(volume[tuple(i)]) for w, i in zip(world, index, strict=True)}


def test_a_dicom_series_is_read_with_its_geometry_and_in_hounsfield_units(tmp_path):
    write_series(tmp_path / "patient" / "scan")
    (tmp_path / "patient" / "notes.txt").write_text("not DICOM")
    (tmp_path / "patient" / "scan" / "notes.txt").write_text("not DICOM either")
    for place in (tmp_path / "patient", tmp_path / "patient" / "scan"):
        (case,) = find_cases(place)
        assert case.name == "scan" and case.kind == "series" and len(case.files) == SHAPE[2]
        volume = read_case(case)
        assert by_place(volume[0].numpy(), volume.affine.numpy()) == by_place(CT, affine())


def test_two_series_in_one_folder_are_two_cases(tmp_path):
    write_series(tmp_path / "a")
    for item, path in zip(write_series(tmp_path / "b"), sorted((tmp_path / "b").iterdir()), strict=True):
        assert item is not None
        path.rename(tmp_path / "a" / f"second_{path.name}")
    names = [case.name for case in find_cases(tmp_path / "a")]
    assert names == ["a_1", "a_2"]


def write_segmentation(slices, path: Path, labels: np.ndarray) -> None:
    highdicom = pytest.importorskip("highdicom", reason="a DICOM SEG is written with highdicom")
    from highdicom.seg import Segmentation, SegmentDescription
    from pydicom import uid

    code = highdicom.sr.CodedConcept("123037004", "SCT", "Anatomical Structure")
    segments = [
        SegmentDescription(number, name, code, code, "MANUAL")
        for number, name in enumerate(("a", "b")[: max(1, labels.max())], start=1)
    ]
    Segmentation(
        slices,
        labels.transpose(2, 1, 0),
        "BINARY",
        segments,
        uid.generate_uid(),
        2,
        uid.generate_uid(),
        1,
        manufacturer="m",
        manufacturer_model_name="m",
        software_versions="1",
        device_serial_number="1",
    ).save_as(path)


@pytest.mark.parametrize("labels", [LABELS, (LABELS > 0).astype(np.uint8)])
def test_a_dicom_segmentation_becomes_a_label_map(tmp_path, labels):
    slices = write_series(tmp_path / "scan")
    write_segmentation(slices, tmp_path / "mask.dcm", labels)
    (case,) = find_cases(tmp_path / "mask.dcm")
    assert case == Case("mask", (tmp_path / "mask.dcm",), "seg")
    volume = read_case(case)
    assert by_place(volume[0].numpy(), volume.affine.numpy()) == by_place(labels, affine())


def test_dicom_without_pydicom_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "image").write_bytes(b"\0" * 128 + b"DICM")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match="python -m pip install pydicom"):
        find_cases(tmp_path)


def test_damaged_dicom(tmp_path):
    pytest.importorskip("pydicom", reason="DICOM needs pydicom")
    (tmp_path / "image").write_bytes(b"\0" * 128 + b"DICM" + b"\xff" * 9)
    with pytest.raises(InputError):
        find_cases(tmp_path)


def test_nifti_files_go_before_everything_else(tmp_path):
    nib.save(nib.Nifti1Image(LABELS, affine()), tmp_path / "b.nii.gz")
    nib.save(nib.Nifti1Image(LABELS, affine()), tmp_path / "a.nii")
    (tmp_path / "image").write_bytes(b"\0" * 128 + b"DICM")
    (tmp_path / ".hidden.nii").write_bytes(b"")
    cases = find_cases(tmp_path)
    assert [(case.name, case.kind) for case in cases] == [("a", "volume"), ("b", "volume")]
    np.testing.assert_array_equal(read_case(cases[0])[0], LABELS)
    nib.save(nib.Nifti1Image(LABELS, affine()), tmp_path / "a.nii.gz")
    with pytest.raises(InputError, match="same name"):
        find_cases(tmp_path)


def test_what_is_no_case(tmp_path):
    (tmp_path / "notes.txt").write_text("a few words")
    for path, message in (
        (tmp_path / "no", "no such file"),
        (tmp_path, r"no \.nii"),
        (tmp_path / "notes.txt", "known"),
    ):
        with pytest.raises(InputError, match=message):
            find_cases(path)
    nib.save(nib.Nifti1Image(np.zeros((3, 3, 3, 2)), np.eye(4)), tmp_path / "series.nii")
    with pytest.raises(InputError, match="expected one 3D volume"):
        read_case(find_cases(tmp_path)[0])
