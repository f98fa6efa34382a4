"""Two real servers: one with defaults; one with an API token, all of it behind BentoML."""

from __future__ import annotations

import contextlib
import itertools
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from student_success.core.metrics_buffer import FLUSH_SECONDS
from tests import databases
from tests.server import ADMIN_TOKEN, Server

API_TOKEN = "api-token-of-the-tests"
_addresses = itertools.count(2)
_sessions = itertools.count(1)


@pytest.fixture(scope="session")
def _servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Server]]:
    folder = tmp_path_factory.mktemp("http")
    servers = (
        Server(folder / "open"),
        Server(folder / "guarded", module="tests.http.wrapped_service", API_TOKEN=API_TOKEN),
    )
    with contextlib.ExitStack() as held:
        for server in servers:
            if databases.SERVER is not None:
                server.settings["DATABASE_URL"] = held.enter_context(databases.database())
            held.callback(server.stop)
            server.start(wait=False)
        for server in servers:
            server.wait_ready()
        yield servers


@pytest.fixture(scope="session")
def server(_servers: tuple[Server, Server]) -> Server:
    """Return the server that responses predictions without a token."""
    return _servers[0]


@pytest.fixture(scope="session")
def guarded(_servers: tuple[Server, Server]) -> Server:
    """Return the server with a token, whose predictions go through BentoML's wrapper."""
    return _servers[1]


def _client(server: Server, token: str | None = None) -> httpx.Client:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    return httpx.Client(base_url=server.url, timeout=60, headers=headers)


@pytest.fixture(scope="session")
def http(server: Server) -> Iterator[httpx.Client]:
    """Anybody, at the open server."""
    with _client(server) as client:
        yield client


@pytest.fixture(scope="session")
def admin(server: Server) -> Iterator[httpx.Client]:
    """The administrator of the open server."""
    with _client(server, ADMIN_TOKEN) as client:
        yield client


@pytest.fixture(scope="session")
def api_client(guarded: Server) -> Iterator[httpx.Client]:
    """A api_client of the API token, at the guarded server."""
    with _client(guarded, API_TOKEN) as client:
        yield client


@pytest.fixture(scope="session")
def guarded_admin(guarded: Server) -> Iterator[httpx.Client]:
    """The administrator of the guarded server."""
    with _client(guarded, ADMIN_TOKEN) as client:
        yield client


@pytest.fixture
def session_id() -> str:
    """Return the name of a session that no other test uses."""
    return f"session-{next(_sessions)}"


@pytest.fixture
def new_client() -> Iterator[Callable[[Server], httpx.Client]]:
    """Return a maker of clients that come from an address nobody has come from yet."""
    made: list[httpx.Client] = []

    def make(server: Server) -> httpx.Client:
        transport = httpx.HTTPTransport(local_address=f"127.0.0.{next(_addresses)}")
        made.append(httpx.Client(base_url=server.url, transport=transport, timeout=60))
        return made[-1]

    yield make
    for client in made:
        client.close()


def assert_error(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """Check that a response is the error envelope with this status and code; return it."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    body: dict[str, Any] = response.json()
    assert set(body) == {"error", "message", "request_id", "details"}
    assert body["error"] == code
    assert isinstance(body["message"], str)
    assert body["message"]
    assert body["request_id"] == response.headers["x-request-id"]
    assert isinstance(body["details"], list)
    assert ("retry-after" in response.headers) == (status in (429, 503))
    assert ("www-authenticate" in response.headers) == (status == 401)
    assert ("allow" in response.headers) == (status == 405)
    assert "Traceback" not in response.text
    return body


def counts(client: httpx.Client, *names: str) -> list[float]:
    """Return for each name the sum of the series that begin with it, once all is counted.

    Counts of the hot path reach Prometheus a fraction of a second later.
    """
    time.sleep(1.5 * FLUSH_SECONDS)
    lines = client.get("/metrics").text.splitlines()
    return [
        sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))
        for name in names
    ]


def send_raw(server: Server, request: bytes, *, whole: bool = True) -> bytes:
    """Send raw bytes and return everything that comes back until the server closes.

    Where the request is not `whole`, say that no more will come.
    """
    with socket.create_connection(("127.0.0.1", server.port), 20) as connection:
        connection.sendall(request)
        if not whole:
            connection.shutdown(socket.SHUT_WR)
        received = b""
        while piece := connection.recv(65536):
            received += piece
        return received
