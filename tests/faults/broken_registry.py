"""A model registry that fails in a way that the test chooses."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator
from typing import Literal

Fault = Literal["refused", "reset", "black hole", "byte a second", "500", "html", "nonsense"]
FAULTS: tuple[Fault, ...] = (
    *("refused", "reset", "black hole", "byte a second", "500", "html", "nonsense"),
)
_RESET = struct.pack("ii", 1, 0)
_HTML = b"<html><body>Please sign in to the network.</body></html>"
_NONSENSE = b'{"registered_model": [1, 2], "experiments": "none", "model_version": 7}'


class BrokenRegistry:
    """A server on a port of its own; `fault` may be changed while it runs."""

    def __init__(self, fault: Fault) -> None:
        self.fault: Fault = fault
        self.connections = 0
        self._stop = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._listener.settimeout(0.1)
        self.port: int = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def close(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def _accept(self) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(TimeoutError):
                connection, _ = self._listener.accept()
                self.connections += 1
                thread = threading.Thread(target=self._serve, args=(connection,))
                thread.start()
                self._threads.append(thread)

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            if self.fault == "reset":
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                return
            connection.settimeout(5)
            connection.recv(65536)
            if self.fault == "black hole":
                self._stop.wait()
            elif self.fault == "byte a second":
                self._send_slowly(connection)
            elif self.fault == "500":
                connection.sendall(_response(b"500 Internal Server Error", b"oops"))
            elif self.fault == "html":
                connection.sendall(_response(b"200 OK", _HTML, content_type=b"text/html"))
            else:
                connection.sendall(_response(b"200 OK", _NONSENSE))

    def _send_slowly(self, connection: socket.socket) -> None:
        for byte in _response(b"200 OK", _NONSENSE * 100):
            connection.sendall(bytes([byte]))
            if self._stop.wait(1):
                return


def _response(status: bytes, body: bytes, *, content_type: bytes = b"application/json") -> bytes:
    return (
        b"HTTP/1.1 " + status + b"\r\nContent-Type: " + content_type + b"\r\nConnection: close\r\n"
        b"Content-Length: " + str(len(body)).encode() + b"\r\n\r\n" + body
    )


@contextlib.contextmanager
def broken_registry(fault: Fault) -> Iterator[BrokenRegistry]:
    """Run a broken registry for the block. With the fault "refused" its port is closed."""
    registry = BrokenRegistry(fault)
    if fault == "refused":
        registry.close()
    try:
        yield registry
    finally:
        registry.close()
