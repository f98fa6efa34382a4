"""Files that are kept in memory while a server runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from student_success.core import memory
from student_success.core.memory import kept_in_memory


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "shm"
    folder.mkdir()
    monkeypatch.setattr(memory, "_SHARED", folder)
    return folder


def test_files_are_elsewhere_and_go_at_the_end(tmp_path: Path, shared: Path) -> None:
    path = tmp_path / "metrics"
    path.mkdir()
    (path / "old").touch()
    with kept_in_memory(path):
        assert list(path.iterdir()) == []
        (path / "new").touch()
        [folder] = shared.iterdir()
        assert (folder / "new").exists()
        assert folder.stat().st_mode & 0o077 == 0
    assert list(shared.iterdir()) == []
    assert not path.exists()


def test_what_a_killed_process_left_is_found_and_removed(tmp_path: Path, shared: Path) -> None:
    path = tmp_path / "metrics"
    killed = kept_in_memory(path)
    killed.__enter__()
    (path / "left").touch()
    with kept_in_memory(path):
        assert len(list(shared.iterdir())) == 1
        assert list(path.iterdir()) == []


def test_folder_of_somebody_else_is_not_used(tmp_path: Path, shared: Path) -> None:
    path = tmp_path / "metrics"
    with kept_in_memory(path):
        [folder] = shared.iterdir()
    folder.symlink_to(tmp_path)
    with kept_in_memory(path):
        assert not path.exists()
    assert folder.is_symlink()


def test_without_such_a_place_nothing_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "_SHARED", tmp_path / "missing")
    path = tmp_path / "metrics"
    path.mkdir()
    with kept_in_memory(path):
        assert path.is_dir()
        assert not path.is_symlink()
    assert path.is_dir()
