"""Two servers with different state directories do not know of each other."""

from __future__ import annotations

import httpx

from student_success.domain.students import EXAMPLE
from tests.http.conftest import counts
from tests.server import Server


def test_servers_with_other_state_directories_keep_separate_histories(
    server: Server,
    guarded: Server,
    http: httpx.Client,
    admin: httpx.Client,
    guarded_admin: httpx.Client,
) -> None:
    session = {"X-Session-Id": "side-by-side"}
    http.post("/predict", json=EXAMPLE, headers=session)
    params = {"session_id": "side-by-side"}
    assert len(admin.get("/history", params=params).json()) == 1
    assert guarded_admin.get("/history", params=params).json() == []
    assert server.state_dir != guarded.state_dir
    for one in (server, guarded):
        assert (one.state_dir / "student_success.db").is_file()
        assert (one.state_dir / "bentoml").is_dir()


def test_servers_with_other_state_directories_count_separately(
    http: httpx.Client, guarded_admin: httpx.Client
) -> None:
    name = "student_success_predictions_total{"
    [before], [other_before] = counts(http, name), counts(guarded_admin, name)
    http.post("/predict", json=EXAMPLE)
    assert counts(http, name) == [before + 1]
    assert counts(guarded_admin, name) == [other_before]


def test_state_directories_are_private_to_their_owner(server: Server) -> None:
    # The folder itself was made by the test.
    for path in server.state_dir.rglob("*"):
        if path.is_dir() and path.parent == server.state_dir:
            assert path.stat().st_mode & 0o077 == 0, path
