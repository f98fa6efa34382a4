"""An orderly end: no request that reached this server goes without its answer.

Left to itself a worker that is told to stop closes its idle connections at once, and a request that
was on its way on one of them is lost; so is one on a connection that nobody has accepted yet. Here
SIGTERM begins an end in four steps:

1. `/readyz` says no, so that a load balancer looks elsewhere. Requests are answered as before, and
   each answer closes its connection (`Connection: close`): clients that keep theirs learn of the
   end by an answer, not by a loss.
2. After `DRAIN_SECONDS` new connections are turned away by the kernel: the first packet of each is
   dropped, while those that are being made are still accepted, and answered.
3. A moment later the web server is told what it would have been told at once. It waits for the
   requests it has.
4. The port is closed, so that whoever tries now is refused at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import logging
import signal
import socket
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from student_success.core.errors import ModelUnavailableError

logger = logging.getLogger(__name__)

LAST_SECONDS = 0.25
"""For connections that were being made when the door was shut."""
CLOSING_SECONDS = 0.5
"""The web server looks ten times a second whether it is to stop accepting."""

_SO_ATTACH_FILTER = 26
_SYN, _SYN_OR_ACK = 0x02, 0x12


class Drain:
    """The end of one worker.

    Parameters
    ----------
    seconds
        From SIGTERM until new connections are turned away.

    Attributes
    ----------
    begun
        Whether the end has begun.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.begun = False
        self._ending: asyncio.Task[None] | None = None

    def attend(self, door: socket.socket | None) -> None:
        """Take SIGTERM from the web server that listens to it now; call from its event loop.

        Does nothing where nobody listens: outside a server's own process.

        Parameters
        ----------
        door
            The listening socket; None where it cannot be known.
        """
        if threading.current_thread() is not threading.main_thread():
            return
        stop = signal.getsignal(signal.SIGTERM)
        if not callable(stop):
            return
        loop = asyncio.get_running_loop()

        def told(number: int, frame: FrameType | None) -> None:
            if self.begun:
                # Whoever says it twice does not want to wait.
                stop(number, frame)
                return
            self.begun = True
            loop.call_soon_threadsafe(begin)

        def begin() -> None:
            self._ending = loop.create_task(self._end(door, lambda: stop(signal.SIGTERM, None)))

        signal.signal(signal.SIGTERM, told)

    def check(self) -> None:
        """Show that there is no end in sight.

        Raises
        ------
        ModelUnavailableError
            If it has begun.
        """
        if self.begun:
            raise ModelUnavailableError("The service is stopping.", retry_after=1)

    async def _end(self, door: socket.socket | None, stop: Callable[[], Any]) -> None:
        logger.info("draining", extra={"seconds": self._seconds})
        await asyncio.sleep(self._seconds)
        if door is not None and _turn_away(door):
            await asyncio.sleep(LAST_SECONDS)
        stop()
        if door is not None:
            await asyncio.sleep(CLOSING_SECONDS)
            # Whoever else holds the socket has no use for it now; another worker was here before.
            with contextlib.suppress(OSError):
                door.shutdown(socket.SHUT_RDWR)
            door.close()


class _Instruction(ctypes.Structure):
    _fields_ = (
        ("code", ctypes.c_ushort),
        ("if_true", ctypes.c_ubyte),
        ("if_false", ctypes.c_ubyte),
        ("operand", ctypes.c_uint32),
    )


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.POINTER(_Instruction)))


def _turn_away(door: socket.socket) -> bool:
    """Let the kernel drop the first packet of every new connection; False where it cannot.

    The client's own kernel tries again a second later, and is refused then. Clients that are told
    no by a closed port at once would need it closed, and whoever stands in its queue would be lost.
    """
    if not sys.platform.startswith("linux"):
        return False
    program = (_Instruction * 5)(
        _Instruction(0x30, 0, 0, 13),  # load the byte of TCP's header that holds the flags
        _Instruction(0x54, 0, 0, _SYN_OR_ACK),
        _Instruction(0x15, 0, 1, _SYN),  # a SYN that answers nothing
        _Instruction(0x06, 0, 0, 0),  # is dropped,
        _Instruction(0x06, 0, 0, 0xFFFFFFFF),  # anything else passes
    )
    whole = _Program(len(program), program)
    try:
        door.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, bytes(whole))
    except OSError as error:
        logger.warning("door_not_shut", extra={"reason": str(error)})
        return False
    return True
