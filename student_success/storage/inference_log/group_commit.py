"""Group commit: many requests share a transaction, each waits for its own.

Requests that arrive together are committed together, at the end of the event loop's turn. Where
that is quick it happens right there: on SQLite, without waiting for the disk, a commit takes less
time than handing it to a thread. Where it may not be quick it is handed to one: while somebody else
holds the database's lock, for a while after the disk was slow, for large batches, for durability
across power loss, and for a server such as PostgreSQL.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any

from sqlalchemy import Connection, Engine, insert, select
from sqlalchemy.exc import SQLAlchemyError

from student_success.core import metrics
from student_success.core.clock import cautious_now_us, now_us
from student_success.core.errors import (
    ConflictError,
    DatabaseUnavailableError,
    StudentSuccessError,
    TooManyRequestsError,
)
from student_success.core.metrics_buffer import metrics_buffer
from student_success.domain.idempotency import KEY_LIFETIME_US, IdempotencyKey
from student_success.storage.engine import BUSY_SECONDS, insert_or, is_locked
from student_success.storage.tables import idempotency_keys, inference_logs

logger = logging.getLogger(__name__)

Row = tuple[Any, ...]
"""Values of one prediction, in the order of `COLUMNS`."""

COLUMNS: tuple[str, ...] = (
    "prediction_id",
    "session_id",
    "created_us",
    "inputs_json",
    "reference",
    "predicted_g3",
    "decision",
    "pass_probability",
    "interval_low",
    "interval_high",
    "horizon",
    "at_risk",
    "model_version",
)

MAX_GROUP_ROWS = 20_000
MAX_WAITING = 20_000
MAX_ROWS_IN_LOOP = 128
"""A larger group would hold up other requests for more than a few milliseconds."""
SLOW_SECONDS = 0.005
"""A commit in the event loop that took longer sends the next ones to the thread for a while."""
CAUTION = 20.0
"""How many times as long as it took: in all they hold up the event loop for a twentieth."""
BROKEN_SECONDS = 1.0
"""How long after a failure, other than a lock, nothing is committed in the event loop."""
LOCK_SECONDS = 0.25
"""How long one try to commit should wait for a server's lock: between tries those who waited long
enough are told, and those who came meanwhile are added."""
POLL_SECONDS = 0.001
"""Between tries. SQLite itself waits longer and longer, up to a tenth of a second at a time, for a
lock that others hold for a millisecond."""
_ROWS_A_STATEMENT = 64


@dataclass(slots=True)
class Waiting:
    """One request's rows, and where to say that they are committed."""

    rows: Sequence[Row]
    key: IdempotencyKey | None
    future: asyncio.Future[bytes | None]
    loop: asyncio.AbstractEventLoop
    since: float = 0.0
    """When it was handed to the thread."""
    outcome: bytes | StudentSuccessError | None = field(default=None)


class Committer:
    """Commit rows of the inference log.

    Parameters
    ----------
    engine
        Database for the thread; it should wait `LOCK_SECONDS` for a lock, on SQLite not at all.
    quick_engine
        The same database, not waiting for its lock, for commits in the event loop; None where
        those are not wanted.
    """

    def __init__(self, engine: Engine, *, quick_engine: Engine | None) -> None:
        self._engine = engine
        self._quick = quick_engine
        self._quick_connection: Any = None
        self._cautious_until = 0.0
        self._statements = _Statements(engine)
        self._gathering: list[Waiting] = []
        self._queue: SimpleQueue[list[Waiting] | None] = SimpleQueue()
        self._queued = 0
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="history-committer")

    def start(self) -> None:
        """Start the thread; call once, in the process that serves."""
        self._thread.start()

    def close(self) -> None:
        """Commit what waits and stop; what comes after is refused."""
        self._closed = True
        if self._gathering:
            self._hand_over(self._take())
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()
        self._drop_quick_connection()

    def append(
        self, rows: Sequence[Row], *, key: IdempotencyKey | None = None
    ) -> asyncio.Future[bytes | None]:
        """Queue rows for the next commit; see `History.append`."""
        if self._closed:
            raise DatabaseUnavailableError("The service is stopping.")
        if self._queued >= MAX_WAITING:
            raise TooManyRequestsError("Too many requests wait for the database.", retry_after=1)
        loop = asyncio.get_running_loop()
        waiting = Waiting(rows, key, loop.create_future(), loop)
        if not self._gathering:
            loop.call_soon(self._end_of_turn)
        self._gathering.append(waiting)
        return waiting.future

    def _take(self) -> list[Waiting]:
        group, self._gathering = self._gathering, []
        return group

    def _end_of_turn(self) -> None:
        """Commit what this turn of the event loop brought."""
        group = self._take()
        if not group:
            return
        quick = (
            self._quick is not None
            # Behind others in the thread it would have to wait for their lock.
            and not self._queued
            and time.monotonic() >= self._cautious_until
            and all(waiting.key is None for waiting in group)
            and sum(len(waiting.rows) for waiting in group) <= MAX_ROWS_IN_LOOP
        )
        if quick and self._commit_quickly(group):
            _wake(group)
        else:
            self._hand_over(group)

    def _hand_over(self, group: list[Waiting]) -> None:
        self._queued += len(group)
        now = time.monotonic()
        for waiting in group:
            waiting.since = now
        self._queue.put(group)

    def _commit_quickly(self, group: Sequence[Waiting]) -> bool:
        """Commit in the event loop; False if it could not be done at once."""
        started = time.perf_counter()
        try:
            if self._quick_connection is None:
                assert self._quick is not None
                self._quick_connection = self._quick.raw_connection()
            self._statements.commit(
                self._quick_connection, [row for waiting in group for row in waiting.rows]
            )
        except Exception as error:
            # Locked, full or broken: the thread can wait, logs it and tells the requests.
            if not is_locked(error):
                self._drop_quick_connection()
                self._cautious_until = time.monotonic() + BROKEN_SECONDS
            return False
        took = time.perf_counter() - started
        metrics_buffer.observe(metrics.history_commit_duration_seconds, took)
        if took > SLOW_SECONDS:
            self._cautious_until = time.monotonic() + CAUTION * took
        return True

    def _drop_quick_connection(self) -> None:
        if self._quick_connection is not None:
            self._quick_connection.invalidate()
            self._quick_connection = None

    def _work(self) -> None:
        last = False
        while not last:
            group = self._queue.get()
            if group is None:
                return
            while group:
                last = last or self._gather(group)
                group = self._try_to_commit(group)
                if group:
                    time.sleep(POLL_SECONDS)

    def _try_to_commit(self, group: list[Waiting]) -> list[Waiting]:
        """Commit, and tell whom it concerns; return those who may still wait for a lock."""
        started = time.perf_counter()
        patient: list[Waiting] = []
        try:
            self._commit(group)
        except Exception as error:
            # Whatever it is: a thread that ended would leave every later request waiting.
            if is_locked(error):
                before = time.monotonic() - BUSY_SECONDS
                patient = [waiting for waiting in group if waiting.since > before]
                group = [waiting for waiting in group if waiting.since <= before]
                for waiting in patient:
                    # What it was told of another's key was not committed either.
                    waiting.outcome = None
            if group:
                self._note_failure(error)
            for waiting in group:
                waiting.outcome = DatabaseUnavailableError("The prediction could not be saved.")
        if group:
            metrics.history_commit_duration_seconds.observe(time.perf_counter() - started)
            self._tell(group)
        return patient

    def _note_failure(self, error: Exception) -> None:
        known = isinstance(error, SQLAlchemyError | self._statements.driver_error)
        metrics.history_write_errors_total.inc()
        logger.error(
            "history_commit_failed",
            extra={"reason": str(error).partition("\n")[0]},
            exc_info=None if known else error,
        )

    def _gather(self, group: list[Waiting]) -> bool:
        """Add what else waits to the group; True if nothing will come after it."""
        rows = sum(len(waiting.rows) for waiting in group)
        while rows < MAX_GROUP_ROWS:
            try:
                following = self._queue.get_nowait()
            except Empty:
                return False
            if following is None:
                return True
            group.extend(following)
            rows += sum(len(waiting.rows) for waiting in following)
        return False

    def _tell(self, group: Sequence[Waiting]) -> None:
        by_loop: dict[asyncio.AbstractEventLoop, list[Waiting]] = {}
        for waiting in group:
            by_loop.setdefault(waiting.loop, []).append(waiting)
        for loop, members in by_loop.items():
            try:
                loop.call_soon_threadsafe(self._told, members)
            except RuntimeError:
                # The loop is closed: nobody waits any more, and the rows are safe.
                logger.warning("history_waiters_gone", extra={"count": len(members)})

    def _told(self, members: Sequence[Waiting]) -> None:
        self._queued -= len(members)
        _wake(members)

    def _commit(self, group: Sequence[Waiting]) -> None:
        keyed = [(waiting.key, waiting) for waiting in group if waiting.key is not None]
        if keyed:
            # In one order everywhere: two processes that take the same keys must not wait for each
            # other. Of several with one key the first stays the first.
            keyed.sort(key=lambda pair: pair[0].key_hash)
            with self._engine.begin() as connection:
                repeated = {id(one) for key, one in keyed if not _claim(connection, one, key)}
                rows = [row for one in group if id(one) not in repeated for row in one.rows]
                self._statements.insert(connection.connection.cursor(), rows)
            return
        raw = self._engine.raw_connection()
        try:
            self._statements.commit(raw, [row for waiting in group for row in waiting.rows])
        except Exception as error:
            if not is_locked(error):
                raw.invalidate(error)
            raise
        finally:
            raw.close()


class _Statements:
    """The insert as the driver takes it, compiled once.

    SQLAlchemy's own work around a transaction would take the interpreter from the requests for
    longer than the database takes to commit.
    """

    def __init__(self, engine: Engine) -> None:
        self._sqlite = engine.dialect.name == "sqlite"
        self.driver_error: type[Exception] = engine.dialect.loaded_dbapi.Error
        self._copy = f"COPY {inference_logs.name} ({', '.join(COLUMNS)}) FROM STDIN"
        compiled = insert(inference_logs).values(dict.fromkeys(COLUMNS)).compile(engine)
        head, _, self._group = str(compiled).partition(" VALUES ")
        self._head = f"{head} VALUES "
        self._many: dict[int, str] = {}

    def commit(self, raw: Any, rows: Sequence[Row]) -> None:
        """Insert rows in a transaction of their own, and commit it."""
        cursor = raw.cursor()
        if self._sqlite:
            # The other driver begins by itself.
            cursor.execute("BEGIN IMMEDIATE")
        try:
            self.insert(cursor, rows)
            raw.commit()
        except BaseException:
            raw.rollback()
            raise
        finally:
            cursor.close()

    def insert(self, cursor: Any, rows: Sequence[Row]) -> None:
        """Insert rows, not one by one as the drivers would.

        On PostgreSQL `COPY` takes the interpreter for a third of the time that inserts do.
        """
        if not self._sqlite:
            with cursor.copy(self._copy) as copy:
                for row in rows:
                    copy.write_row(row)
            return
        for start in range(0, len(rows), _ROWS_A_STATEMENT):
            part = rows[start : start + _ROWS_A_STATEMENT]
            cursor.execute(self._statement(len(part)), [value for row in part for value in row])

    def _statement(self, number: int) -> str:
        statement = self._many.get(number)
        if statement is None:
            statement = self._head + ", ".join([self._group] * number)
            self._many[number] = statement
        return statement


def _claim(connection: Connection, waiting: Waiting, key: IdempotencyKey) -> bool:
    """Take the key inside the transaction; False if an earlier request has it."""
    now = now_us()
    values = {
        "body_hash": key.body_hash,
        "session_id": key.session_id,
        "answer": zlib.compress(key.answer),
        "created_us": now,
    }
    take = (
        insert_or(connection, idempotency_keys)
        .values(key_hash=key.key_hash, **values)
        .on_conflict_do_update(
            index_elements=[idempotency_keys.c.key_hash],
            set_=values,
            where=idempotency_keys.c.created_us < cautious_now_us() - KEY_LIFETIME_US,
        )
        # How many rows an insert made is not known with every driver.
        .returning(idempotency_keys.c.key_hash)
    )
    while connection.execute(take).first() is None:
        earlier = connection.execute(
            select(idempotency_keys.c.body_hash, idempotency_keys.c.answer).where(
                idempotency_keys.c.key_hash == key.key_hash
            )
        ).one_or_none()
        if earlier is None:
            continue  # Its session was erased in this very moment.
        if earlier.body_hash == key.body_hash:
            waiting.outcome = zlib.decompress(earlier.answer)
        else:
            waiting.outcome = ConflictError(
                "This Idempotency-Key was used with another request within the last day."
            )
        return False
    return True


def _wake(members: Sequence[Waiting]) -> None:
    for waiting in members:
        if waiting.future.done():
            continue  # The client went away; its row is committed all the same.
        if isinstance(waiting.outcome, StudentSuccessError):
            waiting.future.set_exception(waiting.outcome)
        else:
            waiting.future.set_result(waiting.outcome)
