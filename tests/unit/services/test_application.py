"""The application of a worker, as far as it needs no server."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from student_success.core.configuration.settings import Settings
from student_success.services import application as application_module
from student_success.services.application import Application
from student_success.storage.engine import connect
from student_success.storage.migrate import SCHEMA_REVISION, schema_revision


def test_restored_database_is_brought_up_to_date_after_its_folder_was_unreadable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(application_module, "DATABASE_RETRY_SECONDS", 0.01)
    folder = tmp_path / "volume"
    url = f"sqlite:///{folder}/history.db"
    application = Application(Settings(state_dir=tmp_path, database_url=url), worker=2)
    assert application._prepare_database()
    (folder / "history.db").rename(tmp_path / "history.db")

    async def lose_and_restore() -> None:
        task = asyncio.create_task(application._keep_database_ready(True))
        await asyncio.sleep(0.05)
        folder.rename(tmp_path / "lost")
        folder.touch()  # Looking for a file in it is an error now.
        await asyncio.sleep(0.1)
        folder.unlink()
        folder.mkdir()
        (folder / "history.db").touch()
        async with asyncio.timeout(20):
            while not (folder / "history.db").stat().st_size:
                assert not task.done()
                await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(lose_and_restore())
    asyncio.run(application.close())
    engine = connect(url)
    assert schema_revision(engine) == SCHEMA_REVISION
    engine.dispose()
