"""The supervisor: the service it starts, and its folder of metrics."""

from __future__ import annotations

from pathlib import Path

import pytest

from student_success.server import supervisor
from student_success.server.supervisor import metrics_folder


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "shm"
    directory.mkdir()
    monkeypatch.setattr(supervisor, "_SHARED_MEMORY", directory)
    return directory


def test_metrics_folder_is_private_and_removed(tmp_path: Path, shared: Path) -> None:
    with metrics_folder(tmp_path / "state") as folder:
        assert list(shared.iterdir()) == [folder]
        assert folder.stat().st_mode & 0o077 == 0
        (folder / "counter_1.db").touch()
    assert list(shared.iterdir()) == []


def test_metrics_folder_differs_by_state_directory(tmp_path: Path, shared: Path) -> None:
    with metrics_folder(tmp_path / "one") as first, metrics_folder(tmp_path / "two") as second:
        assert first != second
        assert {first, second} == set(shared.iterdir())


def test_metrics_folder_is_empty_after_a_killed_server(tmp_path: Path, shared: Path) -> None:
    killed = metrics_folder(tmp_path)
    (killed.__enter__() / "counter_1.db").touch()
    with metrics_folder(tmp_path) as folder:
        assert list(shared.iterdir()) == [folder]
        assert list(folder.iterdir()) == []


def test_metrics_folder_is_on_disk_if_shared_memory_has_a_link(
    tmp_path: Path, shared: Path
) -> None:
    """Another user may have made the link."""
    with metrics_folder(tmp_path) as folder:
        pass
    folder.symlink_to(tmp_path)
    with metrics_folder(tmp_path) as other:
        assert other == tmp_path / "metrics"
    assert folder.is_symlink()


def test_metrics_folder_is_on_disk_without_shared_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "_SHARED_MEMORY", tmp_path / "missing")
    with metrics_folder(tmp_path / "state") as folder:
        assert folder == tmp_path / "state" / "metrics"
        assert folder.is_dir()
    assert not folder.exists()
