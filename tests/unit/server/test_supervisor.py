"""The supervisor: starts that it refuses, and its folder of metrics."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from student_success.core.configuration.settings import Settings
from student_success.core.errors import ConfigurationError
from student_success.server import supervisor
from student_success.server.supervisor import checked_start, metrics_folder
from tests.server import free_port


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
        assert other == tmp_path / "metrics" / folder.name
    assert folder.is_symlink()


def test_metrics_folder_is_on_disk_without_shared_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "_SHARED_MEMORY", tmp_path / "missing")
    metrics = tmp_path / "state" / "metrics"
    metrics.mkdir(parents=True)
    (metrics / "of another program").touch()
    killed = metrics_folder(tmp_path / "state")
    (killed.__enter__() / "counter_1.db").touch()
    with metrics_folder(tmp_path / "state") as folder:
        assert folder.parent == metrics
        assert list(folder.iterdir()) == []
    assert [path.name for path in metrics.iterdir()] == ["of another program"]


@pytest.mark.usefixtures("own_process_state")
@pytest.mark.parametrize("database_elsewhere", [False, True])
def test_start_is_refused_if_history_or_registry_is_on_a_network_file_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, database_elsewhere: bool
) -> None:
    state_dir, local = tmp_path / "share", tmp_path / "disk"
    mounts = [
        SimpleNamespace(mountpoint="/", fstype="ext4", opts="rw"),
        SimpleNamespace(mountpoint=str(state_dir), fstype="nfs4", opts="rw"),
    ]
    monkeypatch.setattr(psutil, "disk_partitions", lambda all: mounts)
    database = f"sqlite:///{local}/history.db" if database_elsewhere else None
    settings = Settings(state_dir=state_dir, database_url=database, mlflow_tracking_uri=None)
    refused = "mlflow.db" if database_elsewhere else "student_success.db"
    with (
        pytest.raises(ConfigurationError, match=rf"{refused} is on a network file system \(nfs4\)"),
        checked_start(settings, "127.0.0.1", free_port()),
    ):
        pass
