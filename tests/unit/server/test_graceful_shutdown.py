"""Turning new connections away while those of the accept queue are still accepted."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading

import pytest

from student_success.server.graceful_shutdown import set_minimum_ttl

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="an option of Linux")

HIGHEST_TTL = 255


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_listener_with_a_minimum_ttl_accepts_only_what_is_queued(host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as listener:
        address = listener.getsockname()[:2]
        with socket.create_connection(address) as queued:
            queued.send(b"sent before")
            set_minimum_ttl(listener, HIGHEST_TTL)
            with pytest.raises(TimeoutError):
                socket.create_connection(address, timeout=0.3)
            accepted, _ = listener.accept()
            with accepted:
                assert accepted.recv(100) == b"sent before"
                accepted.send(b"answer")
                assert queued.recv(100) == b"answer"
            # The client of a connection that is turned away asks again after a second.
            threading.Timer(0.2, listener.shutdown, [socket.SHUT_RDWR]).start()
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(address, timeout=5)


@pytest.mark.skipif(os.getuid() != 0, reason="gives up the rights of root")
def test_minimum_ttl_needs_no_privilege() -> None:
    code = """
import os, socket
from student_success.server.graceful_shutdown import set_minimum_ttl
os.setgroups([]); os.setgid(65534); os.setuid(65534)
set_minimum_ttl(socket.create_server(("127.0.0.1", 0)), 255)
set_minimum_ttl(socket.create_server(("::1", 0), family=socket.AF_INET6), 255)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
