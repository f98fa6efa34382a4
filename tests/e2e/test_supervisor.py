"""The command socket of the supervisor: only its own user can reach it."""

from __future__ import annotations

import stat
import sys
from pathlib import Path

import psutil
import pytest

from tests.server import serving

pytestmark = pytest.mark.e2e


@pytest.mark.skipif(sys.platform != "linux", reason="on other systems BentoML's own ports are used")
def test_supervisor_listens_for_commands_only_in_the_state_directory(tmp_path: Path) -> None:
    """Any user of the machine can connect to a port, and another program may occupy it."""
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
        # Files left by a killed supervisor do not prevent the next start.
        server.start()
