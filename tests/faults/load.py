"""Clients that predict without pause and note every answer, and every request without one."""

from __future__ import annotations

import contextlib
import itertools
import json
import threading
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field

from student_success.domain.students import EXAMPLE
from tests.clients import Clients
from tests.faults.wire import Answer, CutError, Wire, request

PAUSE_SECONDS = 0.01
BATCH = {"students": [EXAMPLE] * 5}
LARGE_BATCH = {"students": [EXAMPLE] * 300}
"""More rows than are committed in the event loop."""


@dataclass
class Noted:
    """What one client, or all of them, saw.

    Attributes
    ----------
    acknowledged
        Ids of the predictions in answers with status 200.
    keyed
        Body of each answer with status 200 by its ``Idempotency-Key``.
    statuses
        How often each status came.
    cut
        Requests that were sent and got no answer: when, and why.
    refused
        Connections that could not be made: nothing was sent.
    longest
        Seconds of the longest wait for an answer.
    """

    acknowledged: list[str] = field(default_factory=list)
    keyed: dict[str, bytes] = field(default_factory=dict)
    statuses: Counter[int] = field(default_factory=Counter)
    cut: list[tuple[float, str]] = field(default_factory=list)
    refused: int = 0
    longest: float = 0.0

    @property
    def requests(self) -> int:
        return self.statuses.total() + len(self.cut)

    def add(self, other: Noted) -> None:
        self.acknowledged += other.acknowledged
        self.keyed |= other.keyed
        self.statuses += other.statuses
        self.cut += other.cut
        self.refused += other.refused
        self.longest = max(self.longest, other.longest)


class Load(Clients):
    """Threads that predict until the block ends, on connections they keep.

    Parameters
    ----------
    port
        Of the server.
    clients
        How many threads, each with a connection of its own.
    mixed
        Whether to send keyed requests and batches among the single ones; each kind takes another
        way to the database.
    pause
        Seconds between an answer and the next request.
    """

    def __init__(
        self, port: int, *, clients: int = 6, mixed: bool = True, pause: float = 0.0
    ) -> None:
        self._port = port
        self._mixed = mixed
        self._pause = pause
        self._stop = threading.Event()
        self._notes = [Noted() for _ in range(clients)]
        self._threads = [threading.Thread(target=self._run, args=(note,)) for note in self._notes]

    @property
    def noted(self) -> Noted:
        """What all clients saw so far; whole only after the block."""
        together = Noted()
        for note in self._notes:
            together.add(note)
        return together

    def answered(self) -> int:
        return sum(note.statuses[200] for note in self._notes)

    def wait_for(self, answers: int, *, seconds: float = 60.0) -> None:
        """Wait until so many more requests were answered with 200."""
        wanted = self.answered() + answers
        end = time.monotonic() + seconds
        while self.answered() < wanted:
            assert time.monotonic() < end, "the load came to a halt"
            time.sleep(0.005)

    def _run(self, note: Noted) -> None:
        session = {"X-Session-Id": uuid.uuid4().hex}
        single = request("POST", "/predict", EXAMPLE, session)
        batch = request("POST", "/predict_batch", BATCH, session)
        large = request("POST", "/predict_batch", LARGE_BATCH, session)
        wire: Wire | None = None
        for number in itertools.count():
            if self._stop.is_set():
                break
            if self._pause:
                self._stop.wait(self._pause)
            if wire is not None and wire.ended():
                wire.close()
                wire = None
            if wire is None:
                try:
                    wire = Wire(self._port)
                except OSError:
                    note.refused += 1
                    self._stop.wait(PAUSE_SECONDS)
                    continue
            key = None
            content = single
            if self._mixed and number % 3 == 1:
                key = uuid.uuid4().hex
                content = request("POST", "/predict", EXAMPLE, {**session, "Idempotency-Key": key})
            elif self._mixed and number % 10 == 2:
                content = batch
            elif self._mixed and number % 50 == 3:
                content = large
            sent = time.monotonic()
            try:
                answer = wire.ask(content)
            except CutError as error:
                note.cut.append((time.time(), str(error)))
                wire.close()
                wire = None
                continue
            note.longest = max(note.longest, time.monotonic() - sent)
            note.statuses[answer.status] += 1
            if answer.status == 200:
                note.acknowledged += predicted(answer)
                if key is not None:
                    note.keyed[key] = answer.body
            if answer.headers.get("connection", "").lower() == "close":
                wire.close()
                wire = None
        if wire is not None:
            with contextlib.suppress(OSError):
                wire.close()


def predicted(answer: Answer) -> list[str]:
    """Return the ids of the predictions in an answer."""
    said = json.loads(answer.body)
    return [one["prediction_id"] for one in said.get("predictions", [said])]
