"""Connections that cannot be held for ever, nor filled without end.

The web server itself waits for a request as long as its client likes, keeps whatever headers it is
sent, and answers what is no HTTP in plain text. Here each connection is looked at once a second.
One whose client owes us something, the rest of a request or the taking of an answer, is given up
when that takes too long; headers are bounded; what is no HTTP is answered in the one envelope.

The protocol of uvicorn (0.54) is changed here, for it has no setting for any of this; a test holds
this file to the installed version.
"""

from __future__ import annotations

import asyncio
import logging
import resource
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

logger = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
SLOWEST_BYTES = 16 * 1024
"""Per second: a client that is no slower is given as long again, and again."""
HEAD_BYTES = 64 * 1024
"""Of a request line with its headers, or of what follows a body; twice that at worst."""
UNSENT_BYTES = 128 << 20
"""Answers that wait to be taken, of all connections of a worker."""
LINGER_SECONDS = 1.0
"""After a refusal, so that the client can read it: what it still sends is thrown away."""
OTHER_DESCRIPTORS = 256
"""Left to files and databases."""


class Connection(HttpToolsProtocol):
    """One connection.

    Attributes
    ----------
    patience
        Seconds that a request may take to arrive, and an answer to be taken.
    most
        Connections of a worker; where there are more, one that keeps us waiting is closed.
    """

    patience = 20.0
    most = 4096
    _looking = False

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        # Ours stands in its place; with nobody to hear it, it would still be written.
        self.access_log = False
        self._received = 0
        self._loose = 0
        self._body_came = False
        self._refused = False
        self._owed: object = None
        self._owed_since = 0.0
        self._progress = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin, and see to it that somebody looks at all connections."""
        super().connection_made(transport)
        kind = type(self)
        if not kind._looking:
            kind._looking = True
            self.loop.call_later(LOOK_SECONDS, self._look_at_all)
        if len(self.connections) > kind.most:
            self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        """End; requests that wait in line are forgotten, for each of them holds on to this."""
        super().connection_lost(exc)
        self.pipeline.clear()

    def data_received(self, data: bytes) -> None:
        """Read what came, in pieces whose headers are bounded."""
        if len(data) <= HEAD_BYTES:
            self._take(data)
            return
        for start in range(0, len(data), HEAD_BYTES):
            self._take(data[start : start + HEAD_BYTES])

    def _take(self, data: bytes) -> None:
        if self._refused or self.parser is None:
            return
        self._received += len(data)
        self._body_came = False
        super().data_received(data)
        cycle = self.cycle
        if (
            cycle is None
            or cycle.scope is not self.scope
            or (cycle.more_body and not self._body_came)
        ):
            # Headers without an end, or what follows a body, gather here piece by piece.
            self._loose += len(data)
            if self._loose > HEAD_BYTES:
                self._refuse(HeadersTooLargeError("The headers are too large."))
        else:
            self._loose = 0

    def on_body(self, body: bytes) -> None:
        """Hand a piece of a body on."""
        self._body_came = True
        super().on_body(body)

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP."""
        self._refuse(MalformedRequestError("This is not HTTP."))

    def _should_upgrade_to_ws(self) -> bool:
        # There is no WebSocket here; a request that asks for one is answered as any other.
        return False

    def _refuse(self, error: StudentSuccessError) -> None:
        """Answer an error and end the connection; an answer that is under way ends it itself."""
        if self._refused or self.transport.is_closing():
            return
        self._refused = True
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            if not cycle.more_body and cycle.scope is not self.scope:
                # The request before this one is being answered: its client must get that answer.
                cycle.keep_alive = False
                self.pipeline.clear()
                return
            if cycle.response_started:
                self.transport.close()
                return
            cycle.disconnected = True
            cycle.message_event.set()
        self._say(error)
        if self.transport.can_write_eof():
            self.transport.write_eof()
            self.loop.call_later(LINGER_SECONDS, self.transport.close)
        else:
            self.transport.close()

    def _say(self, error: StudentSuccessError) -> None:
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

    def _look_at_all(self) -> None:
        """Give up who kept us waiting too long; again in a second, while there is anybody."""
        now = self.loop.time()
        waiting = [one for one in self.connections if isinstance(one, Connection)]
        unsent = 0
        for one in waiting:
            unsent += one._look(now)
        if unsent > UNSENT_BYTES:
            for one in sorted(waiting, key=Connection._unsent, reverse=True):
                unsent -= one._unsent()
                one.transport.abort()
                if unsent <= UNSENT_BYTES:
                    break
        if self.connections:
            self.loop.call_later(LOOK_SECONDS, self._look_at_all)
        else:
            type(self)._looking = False

    def _unsent(self) -> int:
        return self.transport.get_write_buffer_size()

    def _look(self, now: float) -> int:
        """Give this one up if it is time; return how much of an answer waits to be taken."""
        unsent = self._unsent()
        owed = self.flow if unsent else self._waits_for()
        progress = -unsent if unsent else self._received
        if owed is None or owed is not self._owed:
            self._owed, self._owed_since, self._progress = owed, now, progress
        elif now - self._owed_since > self.patience:
            if progress - self._progress < SLOWEST_BYTES * self.patience:
                self._give_up(taking=bool(unsent))
            self._owed_since, self._progress = now, progress
        return unsent

    def _waits_for(self) -> object:
        """Return what the client owes us, another object for each request; None for nothing."""
        if self.transport.is_closing() or self.flow.read_paused:
            return None
        if self.scope is None:
            return self
        cycle = self.cycle
        if cycle is None or cycle.scope is not self.scope:
            return self.scope
        return cycle if cycle.more_body else None

    def _give_up(self, *, taking: bool) -> None:
        if taking:
            self.transport.abort()
        elif self.scope is None or (self.cycle is not None and self.cycle.response_complete):
            # Nothing was asked, or what was asked is answered.
            self.transport.close()
        else:
            self._refuse(RequestTimeoutError("The request took too long to arrive."))

    def _make_room(self) -> None:
        """Close one that keeps us waiting, so that who asks is answered."""
        for one in self.connections:
            if one is not self and isinstance(one, Connection) and one._waits_for() is not None:
                one.transport.abort()
                return


def install(patience: float) -> None:
    """Have the web server of this process use these connections; call before it starts.

    Parameters
    ----------
    patience
        See `Connection`.
    """
    wanted = Connection.most + OTHER_DESCRIPTORS
    allowed, ceiling = resource.getrlimit(resource.RLIMIT_NOFILE)
    if allowed < wanted:
        # Often 1024, for programs of old; this process may ask for more by itself.
        allowed = wanted if ceiling == resource.RLIM_INFINITY else min(wanted, ceiling)
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, ceiling))
    most = max(64, min(Connection.most, allowed - OTHER_DESCRIPTORS))
    kind = type("BoundedConnection", (Connection,), {"patience": patience, "most": most})
    # BentoML chooses no protocol; this is the one uvicorn then takes.
    uvicorn.config.HTTP_PROTOCOLS["auto"] = kind  # type: ignore[assignment]
