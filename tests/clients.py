"""Clients that go on, each in a thread of its own, while something else happens."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Self


class Clients:
    """Start the threads on entering, and end them on leaving; each looks at `_stop` as it goes."""

    _threads: Iterable[threading.Thread]
    _stop: threading.Event

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
