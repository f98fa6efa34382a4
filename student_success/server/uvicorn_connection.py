"""HTTP connections with limits on time, size and number.

Uvicorn waits for a request as long as the client likes, buffers headers of any size, and answers
malformed requests in plain text; it has no setting for any of this. Here each connection is checked
once a second: one whose client does not finish its request, or does not read its response, is
closed after a timeout. Headers are limited, and errors are answered in the contract's envelope.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import uvicorn.config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from student_success.api.responses import SECURITY_HEADERS, error_body
from student_success.core.errors import (
    HeadersTooLargeError,
    MalformedRequestError,
    RequestTimeoutError,
    StudentSuccessError,
)
from student_success.core.identifiers import random_hex

CHECK_SECONDS = 1.0
MIN_BYTES_PER_SECOND = 16 * 1024
"""A client that is at least this fast gets the timeout again."""
MAX_HEADER_BYTES = 64 * 1024
"""Limit on a request line with its headers, or on trailers; twice that in the worst case."""
MAX_UNSENT_BYTES = 128 << 20
"""Limit on the responses that clients have not read, over all connections of a worker."""
LINGER_SECONDS = 1.0
"""After an error the client may still send this long, so that it can read the error."""
RESERVED_DESCRIPTORS = 256
"""File descriptors left to files and databases."""


class ResponseTransport:
    """A transport that sends the head and the body of a response with one system call.

    Uvicorn writes them one after the other. Each system call takes longer than the validation of a
    request, and the client wakes up twice. A write is therefore held back until the next one, or
    until the event loop has run what is due.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._held = b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Send data together with what was held back, or hold it back."""
        if self._held:
            held, self._held = self._held, b""
            self._transport.writelines((held, data))
        elif data:
            self._held = data
            self._loop.call_soon(self._send_held)

    def close(self) -> None:
        """Close the connection once everything is sent."""
        self._send_held()
        self._transport.close()

    def write_eof(self) -> None:
        """Send everything, and close the connection for writing."""
        self._send_held()
        self._transport.write_eof()

    def _send_held(self) -> None:
        held, self._held = self._held, b""
        if held and not self._transport.is_closing():
            self._transport.write(held)


class Connection(HttpToolsProtocol):
    """One connection.

    Attributes
    ----------
    timeout_seconds
        Time for a request to arrive, and for a response to be read.
    max_connections
        Limit of a worker; above it a connection that waits for its client is closed.
    on_accept
        Called with each new connection, see `graceful_shutdown`.
    """

    timeout_seconds = 20.0
    max_connections = 4096
    on_accept: Callable[[asyncio.Transport], None] | None = None
    _checking = False

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        # The middleware writes the access log; uvicorn would format a line that nobody reads.
        self.access_log = False
        self._received = 0
        self._header_bytes = 0
        self._got_body = False
        self._refused = False
        self._waiting_for: object = None
        self._waiting_since = 0.0
        self._progress = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the connection, and the periodic check if this is the first one."""
        super().connection_made(ResponseTransport(transport, self.loop))  # type: ignore[arg-type]
        if Connection.on_accept is not None:
            Connection.on_accept(transport)
        cls = type(self)
        if not cls._checking:
            cls._checking = True
            self.loop.call_later(CHECK_SECONDS, self._check_all)
        if len(self.connections) > cls.max_connections:
            self._close_waiting_connection()

    def connection_lost(self, exc: Exception | None) -> None:
        """End the connection; drop what refers to it, so that it is freed at once.

        The garbage collector, which would find such circles, runs rarely in the service.
        """
        super().connection_lost(exc)
        self.pipeline.clear()
        self._waiting_for = None

    def data_received(self, data: bytes) -> None:
        """Parse data in pieces, so that headers can be limited."""
        if len(data) <= MAX_HEADER_BYTES:
            self._parse(data)
            return
        for start in range(0, len(data), MAX_HEADER_BYTES):
            self._parse(data[start : start + MAX_HEADER_BYTES])

    def _parse(self, data: bytes) -> None:
        if self._refused or self.parser is None:
            return
        self._received += len(data)
        self._got_body = False
        super().data_received(data)
        cycle = self.cycle
        if (
            cycle is None
            or cycle.scope is not self.scope
            or (cycle.more_body and not self._got_body)
        ):
            # The parser buffers incomplete headers or trailers.
            self._header_bytes += len(data)
            if self._header_bytes > MAX_HEADER_BYTES:
                self._refuse(HeadersTooLargeError("The headers are too large."))
        else:
            self._header_bytes = 0

    def on_headers_complete(self) -> None:
        """Start the request. Drop trailers: a proxy may have checked or replaced headers alone."""
        super().on_headers_complete()
        self.headers = []

    def on_body(self, body: bytes) -> None:
        """Handle a piece of a body."""
        self._got_body = True
        super().on_body(body)

    def send_400_response(self, msg: str) -> None:
        """Answer a malformed request."""
        self._refuse(MalformedRequestError("This is not a valid HTTP request."))

    def _should_upgrade_to_ws(self) -> bool:
        # There are no WebSocket routes: handle such a request as a plain one.
        return False

    def _refuse(self, error: StudentSuccessError) -> None:
        """Answer with an error, and close the connection.

        If the response to an earlier request is in progress, it is finished first.
        """
        if self._refused or self.transport.is_closing():
            return
        self._refused = True
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            if not cycle.more_body and cycle.scope is not self.scope:
                cycle.keep_alive = False
                self.pipeline.clear()
                return
            if cycle.response_started:
                self.transport.close()
                return
            cycle.disconnected = True
            cycle.message_event.set()
        self._write_error(error)
        if self.transport.can_write_eof():
            self.transport.write_eof()
            self.loop.call_later(LINGER_SECONDS, self.transport.close)
        else:
            self.transport.close()

    def _write_error(self, error: StudentSuccessError) -> None:
        request_id = random_hex()
        body = error_body(error, request_id)
        headers = (
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"x-request-id", request_id.encode()),
            *SECURITY_HEADERS,
            (b"connection", b"close"),
        )
        lines = b"".join(name + b": " + value + b"\r\n" for name, value in headers)
        self.transport.write(STATUS_LINE[error.status] + lines + b"\r\n" + body)

    def _check_all(self) -> None:
        """Close connections that timed out; call again in a second while there are any."""
        now = self.loop.time()
        connections = [item for item in self.connections if isinstance(item, Connection)]
        unsent = sum(connection._check(now) for connection in connections)
        if unsent > MAX_UNSENT_BYTES:
            for connection in sorted(connections, key=Connection._unsent, reverse=True):
                unsent -= connection._unsent()
                connection.transport.abort()
                if unsent <= MAX_UNSENT_BYTES:
                    break
        if self.connections:
            self.loop.call_later(CHECK_SECONDS, self._check_all)
        else:
            type(self)._checking = False

    def _unsent(self) -> int:
        return self.transport.get_write_buffer_size()

    def _check(self, now: float) -> int:
        """Close this connection if it timed out; return how many bytes the client has not read."""
        unsent = self._unsent()
        waiting_for = self.flow if unsent else self._expected_request()
        progress = -unsent if unsent else self._received
        if waiting_for is None or waiting_for is not self._waiting_for:
            self._waiting_for, self._waiting_since, self._progress = waiting_for, now, progress
        elif now - self._waiting_since > self.timeout_seconds:
            if progress - self._progress < MIN_BYTES_PER_SECOND * self.timeout_seconds:
                self._time_out(unread_response=bool(unsent))
            self._waiting_since, self._progress = now, progress
        return unsent

    def _expected_request(self) -> object:
        """Return an object that stands for the request the client must send or finish, if any."""
        if self.transport.is_closing() or self.flow.read_paused:
            return None
        if self.scope is None:
            return self
        cycle = self.cycle
        if cycle is None or cycle.scope is not self.scope:
            return self.scope
        return cycle if cycle.more_body else None

    def _time_out(self, *, unread_response: bool) -> None:
        if unread_response:
            self.transport.abort()
        elif self.scope is None or (self.cycle is not None and self.cycle.response_complete):
            # No request has begun, or the last one is answered.
            self.transport.close()
        else:
            self._refuse(RequestTimeoutError("The request took too long to arrive."))

    def _close_waiting_connection(self) -> None:
        for connection in self.connections:
            if (
                connection is not self
                and isinstance(connection, Connection)
                and connection._expected_request() is not None
            ):
                connection.transport.abort()
                return


def limited(timeout_seconds: float) -> type[Connection]:
    """Return the protocol of a server with this timeout; raise the limit on open files for it."""
    import resource  # not on native Windows

    wanted = Connection.max_connections + RESERVED_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        # The soft limit is often 1024, and a process may raise it up to the hard limit.
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    limits = {
        "timeout_seconds": timeout_seconds,
        "max_connections": max(64, min(Connection.max_connections, soft - RESERVED_DESCRIPTORS)),
    }
    return type("LimitedConnection", (Connection,), limits)


def install(timeout_seconds: float) -> None:
    """Make BentoML's uvicorn use these connections in this process; call before it starts."""
    # BentoML leaves the choice of the protocol to uvicorn, which takes "auto".
    uvicorn.config.HTTP_PROTOCOLS["auto"] = limited(timeout_seconds)  # type: ignore[assignment]
