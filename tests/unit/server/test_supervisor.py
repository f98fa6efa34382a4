"""The supervisor: the service it starts, and its directory in shared memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from student_success.server import supervisor
from student_success.server.supervisor import directory_in_memory


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "shm"
    directory.mkdir()
    monkeypatch.setattr(supervisor, "_SHARED_MEMORY", directory)
    return directory


def test_directory_in_memory_links_to_shared_memory_and_is_removed(
    tmp_path: Path, shared: Path
) -> None:
    path = tmp_path / "metrics"
    path.mkdir()
    (path / "old").touch()
    with directory_in_memory(path):
        assert list(path.iterdir()) == []
        (path / "new").touch()
        [directory] = shared.iterdir()
        assert (directory / "new").exists()
        assert directory.stat().st_mode & 0o077 == 0
    assert list(shared.iterdir()) == []
    assert not path.exists()


def test_directory_in_memory_replaces_what_a_killed_process_left(
    tmp_path: Path, shared: Path
) -> None:
    path = tmp_path / "metrics"
    killed = directory_in_memory(path)
    killed.__enter__()
    (path / "left").touch()
    with directory_in_memory(path):
        assert len(list(shared.iterdir())) == 1
        assert list(path.iterdir()) == []


def test_directory_in_memory_ignores_a_link_of_another_user(tmp_path: Path, shared: Path) -> None:
    path = tmp_path / "metrics"
    with directory_in_memory(path):
        [directory] = shared.iterdir()
    directory.symlink_to(tmp_path)
    with directory_in_memory(path):
        assert not path.exists()
    assert directory.is_symlink()


def test_directory_stays_on_disk_without_shared_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "_SHARED_MEMORY", tmp_path / "missing")
    path = tmp_path / "metrics"
    path.mkdir()
    with directory_in_memory(path):
        assert path.is_dir()
        assert not path.is_symlink()
    assert path.is_dir()
