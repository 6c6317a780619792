from __future__ import annotations

import pytest

from monai_sparse_refine.files import atomic_path


def test_file_appears_complete_with_its_folder(tmp_path):
    target = tmp_path / "new" / "folder" / "a.nii.gz"
    with atomic_path(target) as temporary:
        assert temporary.parent == target.parent
        assert temporary.name.startswith(".") and temporary.name.endswith(".nii.gz")
        temporary.write_text("done")
        assert not target.exists()
    assert [p.name for p in target.parent.iterdir()] == ["a.nii.gz"]
    assert target.read_text() == "done"


def test_a_failure_leaves_the_older_file_and_nothing_else(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")

    def write_half():
        with atomic_path(target) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
    assert target.read_text() == "old"


def test_the_home_folder_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    with atomic_path("~/a.txt") as temporary:
        temporary.write_text("done")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
