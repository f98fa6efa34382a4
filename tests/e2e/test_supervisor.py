"""Who can speak to the supervisor of the workers: nobody but its user."""

from __future__ import annotations

import stat
import sys
from pathlib import Path

import psutil
import pytest

from tests.server import serving

pytestmark = pytest.mark.e2e


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere BentoML's own ports are kept")
def test_supervisor_listens_for_commands_in_the_state_directory_alone(tmp_path: Path) -> None:
    """A port would be everybody's on this machine, and taken by another now and then."""
    state = tmp_path / ("a-long-name-for-a-state-directory-" * 4)
    with serving(state) as server:
        assert server.process is not None
        supervisor = psutil.Process(server.process.pid)
        listening = {
            connection.laddr.port
            for connection in supervisor.net_connections("inet")
            if connection.status == psutil.CONN_LISTEN
        }
        folder = state / "supervisor"
        assert listening == {server.port}
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert sorted(path.name for path in folder.iterdir()) == ["commands", "events"]
        server.kill()
        # What a killed one left behind is in nobody's way.
        server.start()
