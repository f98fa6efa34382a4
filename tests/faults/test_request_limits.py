"""Bodies, headers and slow clients are bounded in bytes, in time and in memory."""

from __future__ import annotations

import contextlib
import gzip
import itertools
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest

from benchmarks.load import (
    ConnectionLostError,
    HttpConnection,
    HttpResponse,
    Load,
    http_request,
    single_predictions,
)
from student_success.api.middleware import MAX_HEADERS
from student_success.domain.students import EXAMPLE
from student_success.server.uvicorn_connection import Connection
from tests.faults.promise_counts import counts, repetitions
from tests.server import Server, free_port, serving
from tests.ui_server import interface

pytestmark = pytest.mark.faults

PROMISE = "bodies, headers and slow clients are bounded"
MIB = 1 << 20
PATIENCE = 4.0
"""Seconds of REQUEST_SECONDS here."""
LATEST = PATIENCE * 3
"""Until a client that stalls is given up, on a busy machine."""
POST = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("bounded")
    with serving(folder, REQUEST_SECONDS=str(PATIENCE)) as running:
        # Once by hand, so that what the first of a kind makes is there.
        for _ in range(50):
            ask(running)
        yield running


def ask(server: Server) -> HttpResponse:
    with HttpConnection(server.port) as connection:
        return connection.exchange(http_request("POST", "/predict", EXAMPLE))


def is_interface(process: psutil.Process) -> bool:
    """Tell whether a process of a server is its web interface."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return "gradio_ui" in process.cmdline()
    return False


def held(server: Server, *, interface: bool | None = None) -> int:
    """Return the memory that a server fills, shared pages shared out.

    It is the memory of all its processes, of the web interface alone, or of all others.

    Files that are mapped, such as libraries, are left out: their share grows when some other
    program that has them ends.
    """
    memory_bytes = 0
    for process in server.processes():
        if interface is not None and is_interface(process) is not interface:
            continue
        with contextlib.suppress(OSError):
            rollup = Path(f"/proc/{process.pid}/smaps_rollup").read_text("ascii")
            memory_bytes += 1024 * int(rollup.partition("Pss_Anon:")[2].split()[0])
    return memory_bytes


def kept(server: Server, before: int) -> int:
    """Return how much more memory than before is left after some seconds; at best nothing."""
    end = time.monotonic() + 15
    while (more := held(server) - before) > 16 * MIB and time.monotonic() < end:
        time.sleep(0.25)
    return more


def status_and_code(answer: HttpResponse) -> tuple[int, str]:
    """Return status and code of an answer that is the one envelope."""
    body = answer.json()
    assert set(body) == {"error", "message", "request_id", "details"}
    assert answer.headers["x-request-id"] == body["request_id"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    return answer.status, body["error"]


class Peak:
    """The most memory that a server had while the block ran."""

    def __init__(self, server: Server) -> None:
        self._server, self._over = server, threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.bytes = 0

    def __enter__(self) -> Peak:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.2):
            self.bytes = max(self.bytes, held(self._server))


def endless_header() -> Iterator[bytes]:
    yield POST + b"X-Long: "
    yield from itertools.repeat(b"x" * 10_000)


def endless_headers() -> Iterator[bytes]:
    yield POST
    yield from (b"X-%d: 1\r\n" % number for number in itertools.count())


def endless_path() -> Iterator[bytes]:
    yield b"GET /"
    yield from itertools.repeat(b"x" * 10_000)


def endless_trailers() -> Iterator[bytes]:
    yield CHUNKED + b"2\r\n{}\r\n0\r\n"
    yield from (b"X-%d: 1\r\n" % number for number in itertools.count())


def endless_trailer() -> Iterator[bytes]:
    yield CHUNKED + b"2\r\n{}\r\n0\r\nX-Long: "
    yield from itertools.repeat(b"x" * 10_000)


def endless_chunk_size() -> Iterator[bytes]:
    yield CHUNKED + b"2;x="
    yield from itertools.repeat(b"x" * 10_000)


@pytest.mark.parametrize(
    "pieces",
    [
        *(endless_header, endless_headers, endless_path),
        *(endless_trailers, endless_trailer, endless_chunk_size),
    ],
)
def test_endless_headers_are_refused_without_using_memory(
    server: Server, pieces: Callable[[], Iterator[bytes]]
) -> None:
    before = held(server)
    end = time.monotonic() + LATEST
    with (
        contextlib.suppress(OSError),
        socket.create_connection(("127.0.0.1", server.port), 20) as connection,
    ):
        for piece in pieces():
            connection.sendall(piece)
            assert time.monotonic() < end, "nobody said stop"
    after = held(server)
    counts.add(promise=PROMISE, faults=1, requests=1)
    assert after - before < 16 * MIB
    assert ask(server).status == 200


@pytest.mark.parametrize("pieces", [endless_header, endless_headers, endless_path])
def test_endless_headers_get_431(server: Server, pieces: Callable[[], Iterator[bytes]]) -> None:
    with HttpConnection(server.port) as connection:
        sent = 0
        for piece in pieces():
            connection.send(piece)
            sent += len(piece)
            if sent > 150_000:
                break
        assert status_and_code(connection.read_response()) == (431, "headers_too_large")


def test_too_many_headers_get_431(server: Server) -> None:
    few = {f"X-{number}": "1" for number in range(MAX_HEADERS - 4)}
    many = {f"X-{number}": "1" for number in range(4000)}
    with HttpConnection(server.port) as connection:
        assert connection.exchange(http_request("POST", "/predict", EXAMPLE, few)).status == 200
        assert status_and_code(
            connection.exchange(http_request("POST", "/predict", EXAMPLE, many))
        ) == (
            431,
            "headers_too_large",
        )


@pytest.mark.parametrize("path", ["/predict", "/predict_batch", "/outcomes", "/train"])
def test_compressed_body_gets_415_and_is_not_unpacked(server: Server, path: str) -> None:
    bomb = gzip.compress(b" " * (256 * MIB), 1)
    packed = b"".join(gzip.compress(bomb) for _ in range(2))
    before = held(server)
    answers = []
    for encoding in ("gzip", "GZIP", "deflate", "br", "gzip, gzip", "identity, gzip"):
        headers = {"Content-Encoding": encoding, **server.admin}
        with HttpConnection(server.port) as connection:
            answers.append(
                status_and_code(connection.exchange(http_request("POST", path, packed, headers)))
            )
    after = held(server)
    counts.add(promise=PROMISE, faults=len(answers), requests=len(answers))
    assert set(answers) == {(415, "unsupported_media_type")}
    assert after - before < 16 * MIB


def test_transfer_encoding_other_than_chunked_is_refused(server: Server) -> None:
    for coding in (b"gzip", b"gzip, chunked", b"identity"):
        with HttpConnection(server.port) as connection:
            connection.send(
                POST + b"Transfer-Encoding: " + coding + b"\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
            )
            answer = connection.read_response()
        # gzip inside chunks is a body that is not JSON; the others are not allowed in HTTP/1.1.
        expected = (422, "validation_error") if b"chunked" in coding else (400, "malformed_request")
        assert status_and_code(answer) == expected


def test_connection_is_closed_when_client_sends_on_after_413(
    server: Server,
) -> None:
    with HttpConnection(server.port) as connection:
        connection.send(POST + b"Content-Length: 99999999\r\n\r\n")
        assert status_and_code(connection.read_response()) == (413, "body_too_large")
        end = time.monotonic() + LATEST
        with contextlib.suppress(ConnectionLostError):
            while time.monotonic() < end:
                connection.send(b" ")
                time.sleep(0.1)
    assert time.monotonic() < end


Slow = Callable[[socket.socket], bool]


def says_nothing(connection: socket.socket) -> bool:
    return True


def half_a_head(connection: socket.socket) -> bool:
    connection.sendall(b"X")
    return True


def half_a_body(connection: socket.socket) -> bool:
    connection.sendall(b" ")
    return True


BEGINNINGS: list[tuple[bytes, Slow]] = [
    (b"", says_nothing),
    (POST + b"X-Slow: ", half_a_head),
    (POST + b"Content-Length: 100000\r\n\r\n{", half_a_body),
    (CHUNKED + b"186a0\r\n{", half_a_body),
]


def test_fast_client_is_not_delayed_by_thousand_slow_clients(server: Server) -> None:
    number = repetitions(1000, full=3000)
    before = held(server)
    quiet, _ = latencies(server, seconds=2)
    slow: dict[socket.socket, Slow] = {}
    failed = 0
    with Peak(server) as peak:
        started = time.monotonic()
        for beginning, goes_on in itertools.islice(itertools.cycle(BEGINNINGS), number):
            connection = socket.create_connection(("127.0.0.1", server.port), 20)
            connection.sendall(beginning)
            slow[connection] = goes_on
        with ThreadPoolExecutor(1) as healthy:
            healthy_client = healthy.submit(latencies, server, seconds=PATIENCE + 2)
            while slow and time.monotonic() - started < LATEST + number / 100:
                for connection, goes_on in list(slow.items()):
                    if ended(connection, goes_on):
                        connection.close()
                        del slow[connection]
                time.sleep(0.5)
            busy, failed = healthy_client.result()
    left = len(slow)
    for connection in slow:
        connection.close()
    counts.add(
        promise=PROMISE,
        faults=number,
        requests=len(busy) + failed,
        acknowledged=len(busy),
        lost=failed,
    )
    assert failed == 0
    assert left == 0, "a slow client is still held"
    # The worst of a hundred, in seconds; alone it takes two or three milliseconds.
    assert busy[int(len(busy) * 0.99)] < max(0.25, 20 * quiet[int(len(quiet) * 0.99)])
    assert peak.bytes - before < number * 64 * 1024
    # What the allocator keeps for the next; more waves of them add nothing.
    assert kept(server, before) < 8 * MIB + number * 16 * 1024


def test_interface_gives_slow_clients_up_and_answers_meanwhile(tmp_path: Path) -> None:
    no_api = f"http://127.0.0.1:{free_port()}"
    with interface(tmp_path, no_api, REQUEST_SECONDS="2") as ui, contextlib.ExitStack() as sockets:
        slow = {}
        for beginning, goes_on in itertools.islice(itertools.cycle(BEGINNINGS), 200):
            connection = sockets.enter_context(socket.create_connection(("127.0.0.1", ui.port), 20))
            connection.sendall(beginning)
            slow[connection] = goes_on
        end = time.monotonic() + LATEST
        while slow and time.monotonic() < end:
            slow = {c: goes_on for c, goes_on in slow.items() if not ended(c, goes_on)}
            assert httpx.get(f"{ui.url}/livez", timeout=5).status_code == 200
            time.sleep(0.2)
    assert not slow, "a slow client is still held"


def ended(connection: socket.socket, goes_on: Slow) -> bool:
    """Send a little more, and tell whether the server has closed."""
    connection.setblocking(False)
    try:
        while connection.recv(65536):
            pass
        return True
    except BlockingIOError:
        with contextlib.suppress(BlockingIOError):
            try:
                goes_on(connection)
            except OSError:
                return True
        return False
    except OSError:
        return True


def latencies(server: Server, *, seconds: float) -> tuple[list[float], int]:
    """Predict for some seconds; return the response times, shortest first, and the failures."""
    with Load(
        server.port, clients=1, requests=single_predictions, pause=0.005, keep_exchanges=True
    ) as load:
        time.sleep(seconds)
    result = load.result
    failed = result.requests - result.statuses[200] + result.refused_connections
    return sorted(exchange.seconds for exchange in result.exchanges), failed


def test_stalled_large_bodies_use_bounded_memory(server: Server) -> None:
    clients = 24
    before = held(server)
    head = (
        b"POST /predict_batch HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: 16777216\r\n\r\n"
    )
    statuses: list[int] = []

    def stall(_: int) -> None:
        with HttpConnection(server.port) as connection:
            with contextlib.suppress(ConnectionLostError):
                connection.send(head)
                for _ in range(15):
                    connection.send(b" " * MIB)
            with contextlib.suppress(ConnectionLostError):
                statuses.append(connection.read_response().status)

    with Peak(server) as peak, ThreadPoolExecutor(clients + 1) as pool:
        healthy = pool.submit(latencies, server, seconds=PATIENCE)
        list(pool.map(stall, range(clients)))
        took, failed = healthy.result()
    counts.add(
        promise=PROMISE,
        faults=clients,
        requests=len(took) + failed,
        acknowledged=len(took),
        lost=failed,
    )
    assert failed == 0
    # Those beyond the eighth are sent away at once, the others when they took too long.
    assert set(statuses) <= {408, 429}
    assert 429 in statuses
    assert 408 in statuses
    # Eight bodies, and a little of each of the others on its way.
    assert peak.bytes - before < (8 * 16 + clients + 64) * MIB
    assert kept(server, before) < 32 * MIB
    with HttpConnection(server.port) as connection:
        answer = connection.exchange(
            http_request("POST", "/predict_batch", {"students": [EXAMPLE] * 5000})
        )
    assert answer.status == 200


def test_unread_responses_are_dropped(server: Server) -> None:
    session = {"X-Session-Id": "many-rows"}
    with HttpConnection(server.port) as connection:
        rows = {"students": [EXAMPLE] * 1000}
        assert (
            connection.exchange(http_request("POST", "/predict_batch", rows, session)).status == 200
        )
        content = http_request("GET", "/history?limit=1000", headers=session)
        size = len(connection.exchange(content).body)
    assert size > 500_000
    # The first time Python fills its own stores, which it keeps for the next.
    refuse_to_take(server, content)
    before = held(server)
    with Peak(server) as peak:
        clients, left = refuse_to_take(server, content)
    counts.add(promise=PROMISE, faults=2 * clients, requests=2 * clients)
    assert left == 0
    assert peak.bytes - before < clients * 2 * size + 48 * MIB
    assert kept(server, before) < 32 * MIB
    assert ask(server).status == 200


def refuse_to_take(server: Server, content: bytes) -> tuple[int, int]:
    """Ask fifty times on each connection and read nothing; return how many, and how many stay."""
    workers = server.workers()

    def established() -> int:
        return sum(
            one.status == psutil.CONN_ESTABLISHED
            for worker in workers
            for one in worker.net_connections("tcp")
        )

    greedy = []
    for _ in range(20):
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", server.port))
        # One after another on one connection: only the first is worked on.
        connection.sendall(content * 50)
        greedy.append(connection)
    end = time.monotonic() + LATEST + 10
    while established() < len(greedy):
        assert time.monotonic() < end, "not all were accepted"
        time.sleep(0.05)
    while established() and time.monotonic() < end:
        time.sleep(0.25)
    left = established()
    for connection in greedy:
        connection.close()
    return len(greedy), left


def test_idle_connections_are_closed_when_limit_is_reached(tmp_path: Path) -> None:
    # With more patience than the test has, only room can help.
    with serving(tmp_path, REQUEST_SECONDS="600") as server:
        [worker] = server.workers()
        most = Connection.max_connections
        silent = []
        try:
            for _ in range(most + 100):
                silent.append(socket.create_connection(("127.0.0.1", server.port), 20))
            assert worker.num_fds() < most + 100
            for _ in range(20):
                assert ask(server).status == 200
        finally:
            for connection in silent:
                connection.close()
        counts.add(promise=PROMISE, faults=len(silent), requests=20, acknowledged=20)
        assert json.loads(ask(server).body)["predicted_G3"] > 0
