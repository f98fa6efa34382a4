"""Send requests from Python threads, and record every response."""

from __future__ import annotations

import itertools
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from benchmarks.load.connection import (
    ConnectionLostError,
    HttpConnection,
    HttpResponse,
    http_request,
)
from student_success.domain.students import EXAMPLE

MAX_SECONDS = 600.0
MAX_REQUESTS = 1_000_000
"""Most requests of one client."""
RECONNECT_SECONDS = 0.01
"""Pause before the next attempt after a refused connection."""

SMALL_BATCH = {"students": [EXAMPLE] * 5}
LARGE_BATCH = {"students": [EXAMPLE] * 300}
"""More rows than are committed on the event loop."""


@dataclass(frozen=True, slots=True)
class LoadRequest:
    """A request to POST."""

    path: str
    body: Any
    headers: Mapping[str, str] = field(default_factory=dict)


RequestFactory = Callable[[str, int], LoadRequest]
"""Makes a client's next request from the client's session id and the number of the request."""


def single_predictions(session_id: str, number: int) -> LoadRequest:
    """Predict the example pupil."""
    return LoadRequest("/predict", EXAMPLE, {"X-Session-Id": session_id})


def mixed_predictions(session_id: str, number: int) -> LoadRequest:
    """Predict one pupil or a batch, with or without an `Idempotency-Key`.

    Each of these reaches the database in a different way.
    """
    session = {"X-Session-Id": session_id}
    if number % 3 == 1:
        return LoadRequest("/predict", EXAMPLE, {**session, "Idempotency-Key": uuid.uuid4().hex})
    if number % 10 == 2:
        return LoadRequest("/predict_batch", SMALL_BATCH, session)
    if number % 50 == 3:
        return LoadRequest("/predict_batch", LARGE_BATCH, session)
    return single_predictions(session_id, number)


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request and its response, which was complete at `ended` (`time.monotonic()`)."""

    port: int
    request: LoadRequest
    status: int
    response: Any
    ended: float
    seconds: float


@dataclass
class LoadResult:
    """What one client, or all of them, saw.

    Attributes
    ----------
    acknowledged
        Ids of the predictions in responses with status 200.
    by_key
        Body of each response with status 200 by its ``Idempotency-Key``.
    statuses
        Number of responses by status.
    lost_connections
        Requests that were sent and got no response: wall clock time and reason.
    refused_connections
        Number of connections that could not be made; nothing was sent.
    missing_retry_after
        Number of responses with status 503 that have no ``Retry-After`` header.
    last_success
        When the newest response with status 200 came, by `time.monotonic()`, for each port.
    longest_seconds
        Longest wait for a response.
    exchanges
        Every exchange, if they are kept.
    """

    acknowledged: list[str] = field(default_factory=list)
    by_key: dict[str, bytes] = field(default_factory=dict)
    statuses: Counter[int] = field(default_factory=Counter)
    lost_connections: list[tuple[float, str]] = field(default_factory=list)
    refused_connections: int = 0
    missing_retry_after: int = 0
    last_success: dict[int, float] = field(default_factory=dict)
    longest_seconds: float = 0.0
    exchanges: list[Exchange] = field(default_factory=list)

    @property
    def requests(self) -> int:
        """Number of requests sent."""
        return self.statuses.total() + len(self.lost_connections)

    def add(self, other: LoadResult) -> None:
        """Add what another client saw."""
        self.acknowledged += other.acknowledged
        self.by_key |= other.by_key
        # Copied first: the client may be adding to it in its thread.
        for status, number in list(other.statuses.items()):
            self.statuses[status] += number
        self.lost_connections += other.lost_connections
        self.refused_connections += other.refused_connections
        self.missing_retry_after += other.missing_retry_after
        for port, moment in list(other.last_success.items()):
            self.last_success[port] = max(moment, self.last_success.get(port, 0.0))
        self.longest_seconds = max(self.longest_seconds, other.longest_seconds)
        self.exchanges += other.exchanges


class Load:
    """Send requests from threads until the block ends.

    Parameters
    ----------
    ports
        Port of the server, or ports of several servers, which the clients share evenly.
    clients
        Number of threads, each with a connection of its own.
    requests
        Makes the requests.
    pause
        Seconds between a response and the next request.
    pause_after_503
        Seconds to wait after a response with status 503.
    requests_per_connection
        Open a new connection after this many requests, so that every worker process gets some.
        None keeps the connection.
    keep_exchanges
        Whether to keep every request and response.
    max_seconds, max_requests
        Limits of each client. Leaving the block fails if a client reached one of them, because
        the load then ended before the test did.
    """

    def __init__(
        self,
        ports: int | Sequence[int],
        *,
        clients: int = 6,
        requests: RequestFactory = mixed_predictions,
        pause: float = 0.0,
        pause_after_503: float = 0.0,
        requests_per_connection: int | None = None,
        keep_exchanges: bool = False,
        max_seconds: float = MAX_SECONDS,
        max_requests: int = MAX_REQUESTS,
    ) -> None:
        self._ports = [ports] if isinstance(ports, int) else list(ports)
        self._requests = requests
        self._pause = pause
        self._pause_after_503 = pause_after_503
        self._requests_per_connection = requests_per_connection
        self._keep_exchanges = keep_exchanges
        self._max_seconds = max_seconds
        self._max_requests = max_requests
        self._stop = threading.Event()
        self._limit_reached = False
        self._results = [LoadResult() for _ in range(clients)]
        self._threads = [
            threading.Thread(target=self._run, args=(number,)) for number in range(clients)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, exception_type: type[BaseException] | None, *_: object) -> None:
        self.stop()
        if self._limit_reached and exception_type is None:
            raise AssertionError("the load reached its limit of time or requests before the end")

    def stop(self) -> None:
        """End the threads and wait for them."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    @property
    def result(self) -> LoadResult:
        """What all clients have seen so far; complete only after the block."""
        total = LoadResult()
        for result in self._results:
            total.add(result)
        return total

    def successes(self) -> int:
        """Return the number of responses with status 200 so far."""
        return sum(result.statuses[200] for result in self._results)

    def wait_for(self, successes: int, *, seconds: float = 60.0) -> None:
        """Wait until this many more responses with status 200 have come."""
        target = self.successes() + successes
        deadline = time.monotonic() + seconds
        while self.successes() < target:
            assert time.monotonic() < deadline, "the load came to a halt"
            time.sleep(0.005)

    def _run(self, client: int) -> None:
        port = self._ports[client % len(self._ports)]
        result = self._results[client]
        session_id = uuid.uuid4().hex
        deadline = time.monotonic() + self._max_seconds
        connection: HttpConnection | None = None
        sent_on_connection = 0
        for number in itertools.count():
            if self._stop.is_set():
                break
            if number >= self._max_requests or time.monotonic() > deadline:
                self._limit_reached = True
                break
            if self._pause:
                self._stop.wait(self._pause)
            if connection is not None and (
                sent_on_connection == self._requests_per_connection
                or connection.is_closed_by_server()
            ):
                connection.close()
                connection = None
            if connection is None:
                try:
                    connection, sent_on_connection = HttpConnection(port), 0
                except OSError:
                    result.refused_connections += 1
                    self._stop.wait(RECONNECT_SECONDS)
                    continue
            request = self._requests(session_id, number)
            sent_on_connection += 1
            response = self._exchange(connection, port, request, result)
            if response is None or response.headers.get("connection", "").lower() == "close":
                connection.close()
                connection = None
        if connection is not None:
            connection.close()

    def _exchange(
        self, connection: HttpConnection, port: int, request: LoadRequest, result: LoadResult
    ) -> HttpResponse | None:
        """Send one request and record its response; return None if the connection was lost."""
        content = http_request("POST", request.path, request.body, request.headers)
        started = time.monotonic()
        try:
            response = connection.exchange(content)
        except ConnectionLostError as error:
            result.lost_connections.append((time.time(), str(error)))
            return None
        ended = time.monotonic()
        result.longest_seconds = max(result.longest_seconds, ended - started)
        result.statuses[response.status] += 1
        if response.status == 200:
            if request.path.startswith("/predict"):
                result.acknowledged += prediction_ids(response)
            result.last_success[port] = ended
            if key := request.headers.get("Idempotency-Key"):
                result.by_key[key] = response.body
        if self._keep_exchanges:
            result.exchanges.append(
                Exchange(port, request, response.status, response.json(), ended, ended - started)
            )
        if response.status == 503:
            result.missing_retry_after += "retry-after" not in response.headers
            self._stop.wait(self._pause_after_503)
        return response


def prediction_ids(response: HttpResponse) -> list[str]:
    """Return the ids of the predictions in a response to one pupil or to a batch."""
    content = response.json()
    predictions = content.get("predictions", [content])
    return [prediction["prediction_id"] for prediction in predictions]
