"""Group commit: requests that arrive together share one transaction, and each waits for it.

The rows of one iteration of the event loop are committed at its end. On SQLite that happens on the
event loop if it is fast: without waiting for the disk, a commit takes less time than a switch to a
thread. A thread commits if it may be slow: while another connection holds the database's lock, for
a while after a slow commit, for large batches, for durability across power loss, and for a database
server such as PostgreSQL.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from student_success.core import metrics
from student_success.core.errors import (
    DatabaseUnavailableError,
    StudentSuccessError,
    TooManyRequestsError,
)
from student_success.core.metrics_buffer import metrics_buffer
from student_success.domain.idempotency import IdempotencyKey
from student_success.storage.engine import BUSY_SECONDS, is_locked
from student_success.storage.inference_log.idempotency_keys import claim
from student_success.storage.inference_log.prediction_rows import PredictionInsert, PredictionRow
from student_success.storage.sqlite_file import check_same_file

logger = logging.getLogger(__name__)

MAX_GROUP_ROWS = 20_000
MAX_QUEUED = 20_000
MAX_ROWS_ON_LOOP = 128
"""A larger group would block the event loop for more than a few milliseconds."""
SLOW_SECONDS = 0.005
"""After a slower commit on the event loop, the thread commits for a while."""
BACKOFF_FACTOR = 20.0
"""Length of that while, in durations of the slow commit: commits block a twentieth of the loop."""
BROKEN_SECONDS = 1.0
"""How long the thread commits after a failure other than a lock."""
LOCK_SECONDS = 0.25
"""How long one attempt waits for a database server's lock. Between attempts, requests that waited
too long get their error, and requests that arrived meanwhile join the group."""
POLL_SECONDS = 0.001
"""Pause between attempts. SQLite's own waiting grows to a tenth of a second for a lock that others
hold for a millisecond."""


@dataclass(slots=True)
class PendingRequest:
    """The rows of one request and the future that is done once they are committed."""

    rows: Sequence[PredictionRow]
    key: IdempotencyKey | None
    future: asyncio.Future[bytes | None]
    loop: asyncio.AbstractEventLoop
    queued_at: float = 0.0
    """When the thread got it, by the monotonic clock."""
    result: bytes | StudentSuccessError | None = None


Group = list[PendingRequest]


class GroupCommitter:
    """Commit rows of the inference log.

    Parameters
    ----------
    engine
        Database for the thread; it should wait `LOCK_SECONDS` for a lock, on SQLite not at all.
    loop_engine
        The same database for commits on the event loop, not waiting for a lock; None to commit on
        the thread alone.
    """

    def __init__(self, engine: Engine, *, loop_engine: Engine | None) -> None:
        self._engine = engine
        self._loop_engine = loop_engine
        self._loop_connection: Any = None
        self._thread_until = 0.0
        self._insert = PredictionInsert(engine)
        self._gathering: Group = []
        self._queue: SimpleQueue[Group | None] = SimpleQueue()
        self._queued = 0
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="history-committer")

    def start(self) -> None:
        """Start the thread; call once, in the process that serves."""
        self._thread.start()

    def close(self) -> None:
        """Commit everything that is queued and stop; later requests are refused."""
        self._closed = True
        if self._gathering:
            self._queue_group(self._take_group())
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()
        self._drop_loop_connection()

    def append(
        self, rows: Sequence[PredictionRow], *, key: IdempotencyKey | None = None
    ) -> asyncio.Future[bytes | None]:
        """Queue rows for the next commit; see `History.append`."""
        if self._closed:
            raise DatabaseUnavailableError("The service is stopping.")
        if self._queued >= MAX_QUEUED:
            raise TooManyRequestsError("Too many requests wait for the database.", retry_after=1)
        loop = asyncio.get_running_loop()
        request = PendingRequest(rows, key, loop.create_future(), loop)
        if not self._gathering:
            loop.call_soon(self._commit_gathered)
        self._gathering.append(request)
        return request.future

    # On the event loop

    def _take_group(self) -> Group:
        group, self._gathering = self._gathering, []
        return group

    def _commit_gathered(self) -> None:
        """Commit what one iteration of the event loop gathered."""
        group = self._take_group()
        if not group:
            return
        on_loop = (
            self._loop_engine is not None
            # Behind a queue it would have to wait for the thread's lock.
            and not self._queued
            and time.monotonic() >= self._thread_until
            and all(request.key is None for request in group)
            and sum(len(request.rows) for request in group) <= MAX_ROWS_ON_LOOP
        )
        if on_loop and self._commit_on_loop(group):
            _resolve(group)
        else:
            self._queue_group(group)

    def _queue_group(self, group: Group) -> None:
        self._queued += len(group)
        now = time.monotonic()
        for request in group:
            request.queued_at = now
        self._queue.put(group)

    def _commit_on_loop(self, group: Group) -> bool:
        """Commit on the event loop; return whether it was possible at once."""
        started = time.perf_counter()
        try:
            if self._loop_connection is None:
                assert self._loop_engine is not None
                self._loop_connection = self._loop_engine.raw_connection()
            self._insert.commit(self._loop_connection, _rows(group))
            check_same_file(self._loop_connection.info)
        except Exception as error:
            # Locked, full or broken: the thread can wait; it logs the error and tells the requests.
            if not is_locked(error):
                self._drop_loop_connection()
                self._thread_until = time.monotonic() + BROKEN_SECONDS
            return False
        duration = time.perf_counter() - started
        metrics_buffer.observe(metrics.history_commit_duration_seconds, duration)
        if duration > SLOW_SECONDS:
            self._thread_until = time.monotonic() + BACKOFF_FACTOR * duration
        return True

    def _drop_loop_connection(self) -> None:
        if self._loop_connection is not None:
            self._loop_connection.invalidate()
            self._loop_connection = None

    def _resolve_queued(self, group: Group) -> None:
        self._queued -= len(group)
        _resolve(group)

    # On the thread

    def _run(self) -> None:
        closing = False
        while not closing:
            group = self._queue.get()
            if group is None:
                return
            while group:
                closing = closing or self._add_queued(group)
                group = self._try_to_commit(group)
                if group:
                    time.sleep(POLL_SECONDS)

    def _add_queued(self, group: Group) -> bool:
        """Add queued requests to the group; return whether the committer is closing."""
        rows = sum(len(request.rows) for request in group)
        while rows < MAX_GROUP_ROWS:
            try:
                following = self._queue.get_nowait()
            except Empty:
                return False
            if following is None:
                return True
            group.extend(following)
            rows += sum(len(request.rows) for request in following)
        return False

    def _try_to_commit(self, group: Group) -> Group:
        """Commit the group; return the requests that may still wait for a lock."""
        started = time.perf_counter()
        retried: Group = []
        try:
            self._commit(group)
        except Exception as error:
            # Any exception: if the thread ended, every later request would wait for ever.
            if is_locked(error):
                deadline = time.monotonic() - BUSY_SECONDS
                retried = [request for request in group if request.queued_at > deadline]
                group = [request for request in group if request.queued_at <= deadline]
                for request in retried:
                    # The result of another request's key was rolled back as well.
                    request.result = None
            if group:
                self._log_failure(error)
            for request in group:
                request.result = DatabaseUnavailableError("The prediction could not be saved.")
        if group:
            metrics.history_commit_duration_seconds.observe(time.perf_counter() - started)
            self._resolve_on_loops(group)
        return retried

    def _commit(self, group: Group) -> None:
        keyed = [(request.key, request) for request in group if request.key is not None]
        if keyed:
            # Sorted, so that two processes that claim the same keys do not deadlock. The sort is
            # stable: of several requests with one key, the first stays the first.
            keyed.sort(key=lambda pair: pair[0].key_hash)
            with self._engine.begin() as connection:
                repeated = set()
                for key, request in keyed:
                    request.result = claim(connection, key)
                    if request.result is not None:
                        repeated.add(id(request))
                rows = _rows(request for request in group if id(request) not in repeated)
                self._insert.insert(connection.connection.cursor(), rows)
                information = connection.info
            check_same_file(information)
            return
        raw = self._engine.raw_connection()
        try:
            self._insert.commit(raw, _rows(group))
            check_same_file(raw.info)
        except Exception as error:
            if not is_locked(error):
                raw.invalidate(error)
            raise
        finally:
            raw.close()

    def _log_failure(self, error: Exception) -> None:
        expected = isinstance(error, SQLAlchemyError | self._insert.driver_error)
        metrics.history_write_errors_total.inc()
        logger.error(
            "history_commit_failed",
            extra={"reason": str(error).partition("\n")[0]},
            exc_info=None if expected else error,
        )

    def _resolve_on_loops(self, group: Group) -> None:
        by_loop: dict[asyncio.AbstractEventLoop, Group] = {}
        for request in group:
            by_loop.setdefault(request.loop, []).append(request)
        for loop, requests in by_loop.items():
            try:
                loop.call_soon_threadsafe(self._resolve_queued, requests)
            except RuntimeError:
                # The loop is closed: no request waits any more, and the rows are committed.
                logger.warning("history_waiters_gone", extra={"count": len(requests)})


def _rows(group: Iterable[PendingRequest]) -> list[PredictionRow]:
    return [row for request in group for row in request.rows]


def _resolve(group: Group) -> None:
    for request in group:
        if request.future.done():
            continue  # The client disconnected; its row is committed all the same.
        if isinstance(request.result, StudentSuccessError):
            request.future.set_exception(request.result)
        else:
            request.future.set_result(request.result)
