"""Graceful shutdown of a worker: every request that reached this server gets its response.

By default uvicorn closes idle connections as soon as it gets SIGTERM, so a request that is on its
way on one of them is lost; so is one on a connection that is not accepted yet. Here SIGTERM starts
a shutdown in four steps:

1. `/readyz` answers 503, so that a load balancer stops sending. Requests are answered as before,
   but each response closes its connection (`Connection: close`), so clients are not surprised.
2. After `DRAIN_SECONDS` the kernel drops the first packet of each new connection. Connections that
   are being established are still accepted.
3. A moment later uvicorn gets its SIGTERM. It waits for the requests in progress.
4. The port is closed, so that new clients are refused at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from student_success.core.errors import ModelUnavailableError
from student_success.server.uvicorn_connection import Connection

logger = logging.getLogger(__name__)

ACCEPT_SECONDS = 0.25
"""Time to accept connections that were being established when new ones were blocked."""
CLOSE_SECONDS = 0.5
"""Uvicorn checks ten times a second whether it must stop accepting."""

_IP_MINTTL = 21
_IPV6_MINHOPCOUNT = 73
_HIGHEST_TTL = 255


class GracefulShutdown:
    """The shutdown of one worker.

    Parameters
    ----------
    drain_seconds
        From SIGTERM until new connections are blocked.

    Attributes
    ----------
    started
        Whether SIGTERM was received.
    """

    def __init__(self, drain_seconds: float) -> None:
        self._drain_seconds = drain_seconds
        self.started = False
        self._task: asyncio.Task[None] | None = None

    def install(self, listener: socket.socket | None) -> None:
        """Replace the web server's handler of SIGTERM; call from its event loop.

        Does nothing outside a server's own process.

        Parameters
        ----------
        listener
            The listening socket; None if it is unknown.
        """
        if threading.current_thread() is not threading.main_thread():
            return
        stop = signal.getsignal(signal.SIGTERM)
        if not callable(stop):
            return
        loop = asyncio.get_running_loop()

        def start() -> None:
            self._task = loop.create_task(
                self._shut_down(listener, lambda: stop(signal.SIGTERM, None))
            )

        def handle(number: int, frame: FrameType | None) -> None:
            if self.started:
                # A second SIGTERM means: do not wait.
                stop(number, frame)
                return
            self.started = True
            loop.call_soon_threadsafe(start)

        signal.signal(signal.SIGTERM, handle)

    def check(self) -> None:
        """Check that the worker is not shutting down.

        Raises
        ------
        ModelUnavailableError
            If it is.
        """
        if self.started:
            raise ModelUnavailableError("The service is stopping.", retry_after=1)

    async def _shut_down(self, listener: socket.socket | None, stop: Callable[[], Any]) -> None:
        logger.info("draining", extra={"seconds": self._drain_seconds})
        await asyncio.sleep(self._drain_seconds)
        if listener is not None and _block_new_connections(listener):
            await asyncio.sleep(ACCEPT_SECONDS)
        stop()
        if listener is not None:
            await asyncio.sleep(CLOSE_SECONDS)
            # All workers share the socket, so another one may have shut it down already.
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()


def _block_new_connections(listener: socket.socket) -> bool:
    """Make the kernel drop the first packet of each new connection; return False if it cannot.

    The listening socket then accepts only packets that no router has passed on and that were sent
    with the highest time to live; other systems than a few routers send less. No privilege is
    needed, unlike for a packet filter. The client's kernel sends the packet again after a second;
    the port is closed then. Closing it now would reset the connections in the accept queue.
    """
    if not sys.platform.startswith("linux"):
        return False
    # Connections take over the option, those of other workers' listeners as well.
    Connection.on_accept = _accept_any_ttl
    try:
        set_minimum_ttl(listener, _HIGHEST_TTL)
    except OSError as error:
        logger.warning("new_connections_not_blocked", extra={"reason": str(error)})
        return False
    return True


def set_minimum_ttl(endpoint: socket.socket, ttl: int) -> None:
    """Make the kernel drop packets that arrive with a lower time to live; Linux only.

    Raises
    ------
    OSError
        If the system does not allow it.
    """
    if endpoint.family == socket.AF_INET6:
        endpoint.setsockopt(socket.IPPROTO_IPV6, _IPV6_MINHOPCOUNT, ttl)
    else:
        endpoint.setsockopt(socket.IPPROTO_IP, _IP_MINTTL, ttl)


def _accept_any_ttl(transport: asyncio.Transport) -> None:
    """Undo `set_minimum_ttl` of the listener for a connection, which takes it over."""
    connection = transport.get_extra_info("socket")
    # A closed connection needs nothing. The object of the event loop has no socket options.
    with (
        contextlib.suppress(OSError),
        socket.socket(fileno=os.dup(connection.fileno())) as endpoint,
    ):
        set_minimum_ttl(endpoint, 0)
