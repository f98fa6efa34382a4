"""Other users of the machine cannot read the files of the state directory."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from student_success.core import state_files
from student_success.core.state_files import narrow, private_folder, protect, scratch_folder


@pytest.fixture(autouse=True)
def _usual_umask() -> Iterator[None]:
    umask = os.umask(0o022)
    yield
    os.umask(umask)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_private_folder_creates_every_missing_parent_for_the_owner_only(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir(mode=0o755)
    folder = shared / "state" / "locks"
    assert private_folder(folder) == folder
    assert private_folder(folder) == folder
    assert (mode(shared), mode(folder.parent), mode(folder)) == (0o755, 0o700, 0o700)


def test_private_folder_raises_where_a_file_is(tmp_path: Path) -> None:
    (tmp_path / "state").touch()
    with pytest.raises(FileExistsError):
        private_folder(tmp_path / "state")


def test_protect_narrows_existing_files_and_reports_their_number(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    state, outside = tmp_path / "state", tmp_path / "outside"
    (state / "bentoml").mkdir(parents=True)
    outside.touch()
    (state / "student_success.db").touch()
    (state / "bentoml" / "model.onnx").touch(mode=0o640)
    (state / "link").symlink_to(outside)

    protect(state)

    (state / "new").mkdir()
    (state / "new" / "file").touch()
    found = {str(path.relative_to(state)): mode(path) for path in state.rglob("*")}
    del found["link"]
    assert mode(state) == 0o700
    assert found == {
        "bentoml": 0o700,
        "bentoml/model.onnx": 0o600,
        "student_success.db": 0o600,
        "new": 0o700,
        "new/file": 0o600,
    }
    assert mode(outside) == 0o644
    [record] = caplog.records
    assert f"access 4 files and folders of STATE_DIR {state}" in record.getMessage()

    caplog.clear()
    protect(state)
    assert caplog.records == []


def test_protect_does_nothing_when_there_is_no_state_directory(tmp_path: Path) -> None:
    protect(tmp_path / "state")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("use", ["sticky", "home", "source", "system"])
def test_narrow_only_warns_when_the_folder_has_other_uses(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    use: str,
) -> None:
    folder = tmp_path / "folder"
    (folder / "inner").mkdir(parents=True)
    folder.chmod(0o1755 if use == "sticky" else 0o755)
    if use == "home":
        monkeypatch.setenv("HOME", str(folder / "inner"))
    elif use == "system":
        monkeypatch.setattr(state_files, "_SYSTEM", (str(folder / "inner"),))
    elif use == "source":
        monkeypatch.setattr(state_files, "ROOT", folder / "inner")
    narrow(folder)
    assert mode(folder) & 0o777 == mode(folder / "inner") == 0o755
    [record] = caplog.records
    assert "Set STATE_DIR to a folder of its own" in record.getMessage()


def test_scratch_folder_removes_abandoned_ones_and_ignores_one_that_vanishes(
    tmp_path: Path,
) -> None:
    with scratch_folder(tmp_path) as first:
        (tmp_path / "tmp" / "student-success-abandoned").mkdir()
        # Somebody may link `tmp` to a folder that other programs use too, or serve a home folder.
        (tmp_path / "tmp" / "of another program").mkdir()
        # What its owner has removed since the folder was listed cannot be opened either.
        (tmp_path / "tmp" / "student-success-vanished").symlink_to(tmp_path / "nothing")
        with scratch_folder(tmp_path) as second:
            remaining = {path.name for path in (tmp_path / "tmp").iterdir()}
            kept = {"student-success-vanished", "of another program"}
            assert remaining == {first.name, second.name, *kept}
