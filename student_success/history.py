"""The inference log: group commit, paging, erasure.

Many requests share one commit; each waits for its own. One thread owns the writes: it takes
whatever is waiting, commits it in one transaction, and wakes the requests. A second, idle thread
moves SQLite's write-ahead log into the database file, so that no request pays for it.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import threading
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any

from sqlalchemy import Connection, Engine, delete, insert, select
from sqlalchemy.exc import SQLAlchemyError

from student_success import metrics
from student_success.database import (
    checkpoint,
    idempotency_keys,
    inference_logs,
    iso,
    now_us,
    outcomes,
    reading,
    writing,
)
from student_success.errors import (
    ConflictError,
    HistoryUnavailableError,
    StudentSuccessError,
    TooManyRequestsError,
)

logger = logging.getLogger(__name__)

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
"""Order of the values in a row handed to `History.append`."""

KEY_LIFETIME_US = 24 * 3600 * 1_000_000
MAX_GROUP_ROWS = 20_000
MAX_WAITING = 20_000
CHECKPOINT_SECONDS = 1.0
RETENTION_SECONDS = 600.0
_ERASE_CHUNK = 5_000
_ROWS_A_STATEMENT = 64

Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """A caller's promise that requests with this key are one request.

    Attributes
    ----------
    key_hash, body_hash
        SHA-256 of the key (with its route) and of what was asked.
    session_id
        The session of the answer, by which it is erased.
    answer
        The body to give again.
    """

    key_hash: str
    body_hash: str
    session_id: str
    answer: bytes

    @classmethod
    def of(
        cls,
        key: str,
        *,
        route: str,
        body: bytes,
        asked_session: str,
        session_id: str,
        answer: bytes,
    ) -> IdempotencyKey:
        """Hash what identifies the request; the key itself is not kept."""
        return cls(
            key_hash=hashlib.sha256(f"{route}\0{key}".encode()).hexdigest(),
            body_hash=hashlib.sha256(asked_session.encode() + b"\0" + body).hexdigest(),
            session_id=session_id,
            answer=answer,
        )


@dataclass(slots=True)
class _Waiting:
    rows: Sequence[Row]
    key: IdempotencyKey | None
    future: asyncio.Future[bytes | None]
    loop: asyncio.AbstractEventLoop
    outcome: bytes | StudentSuccessError | None = field(default=None)


class History:
    """The log of predictions.

    Parameters
    ----------
    engine
        Database to write to and read from.
    retention_days
        Age at which predictions are erased; None keeps them.
    """

    def __init__(self, engine: Engine, *, retention_days: int | None = None) -> None:
        self._engine = engine
        self._retention_days = retention_days
        self._queue: SimpleQueue[_Waiting | None] = SimpleQueue()
        self._stopping = threading.Event()
        self._statements = _Statements(engine)
        self._committer = threading.Thread(target=self._commit_loop, name="history-committer")
        self._keeper = threading.Thread(target=self._keep_loop, name="history-keeper", daemon=True)

    def start(self) -> None:
        """Start the committer; call once, in the process that serves."""
        self._committer.start()
        self._keeper.start()

    def close(self) -> None:
        """Commit what waits and stop; nothing acknowledged is lost, nothing waiting is dropped."""
        self._stopping.set()
        if self._committer.is_alive():
            self._queue.put(None)
            self._committer.join()
        if self._keeper.is_alive():
            self._keeper.join()
        try:
            checkpoint(self._engine)
        except SQLAlchemyError:
            logger.warning("checkpoint_failed", exc_info=True)
        self._engine.dispose()

    def append(
        self, rows: Sequence[Row], *, key: IdempotencyKey | None = None
    ) -> asyncio.Future[bytes | None]:
        """Queue rows for the next commit.

        Parameters
        ----------
        rows
            Values in the order of `COLUMNS`.
        key
            Makes the append happen once, however often it is repeated within a day.

        Returns
        -------
        asyncio.Future
            Done once the rows are committed. Its result is None, or the body answered the first
            time when the key was seen before.

        Raises
        ------
        TooManyRequestsError
            If too many requests wait for the database already.
        HistoryUnavailableError
            Through the future, if the commit fails.
        ConflictError
            Through the future, if the key came with another body before.
        """
        if self._queue.qsize() >= MAX_WAITING:
            raise TooManyRequestsError("Too many requests wait for the database.", retry_after=1)
        loop = asyncio.get_running_loop()
        waiting = _Waiting(rows, key, loop.create_future(), loop)
        self._queue.put(waiting)
        return waiting.future

    def _commit_loop(self) -> None:
        while True:
            first = self._queue.get()
            if first is None:
                return
            group, last = self._gather(first)
            started = time.perf_counter()
            try:
                self._commit(group)
            except (SQLAlchemyError, HistoryUnavailableError) as error:
                metrics.history_write_errors_total.inc()
                reason = str(error.__cause__ or error).splitlines()[0]
                logger.error("history_commit_failed", extra={"reason": reason})
                for waiting in group:
                    waiting.outcome = HistoryUnavailableError("The prediction could not be saved.")
            metrics.history_commit_duration_seconds.observe(time.perf_counter() - started)
            by_loop: dict[asyncio.AbstractEventLoop, list[_Waiting]] = {}
            for waiting in group:
                by_loop.setdefault(waiting.loop, []).append(waiting)
            for loop, members in by_loop.items():
                try:
                    loop.call_soon_threadsafe(_wake, members)
                except RuntimeError:
                    # The loop is closed: nobody waits any more, and the rows are safe.
                    logger.warning("history_waiters_gone", extra={"count": len(members)})
            if last:
                return

    def _gather(self, first: _Waiting) -> tuple[list[_Waiting], bool]:
        group, rows = [first], len(first.rows)
        while rows < MAX_GROUP_ROWS:
            try:
                following = self._queue.get_nowait()
            except Empty:
                break
            if following is None:
                return group, True
            group.append(following)
            rows += len(following.rows)
        return group, False

    def _commit(self, group: Sequence[_Waiting]) -> None:
        if any(waiting.key is not None for waiting in group):
            with self._engine.begin() as connection:
                rows: list[Row] = []
                for waiting in group:
                    if waiting.key is None or self._claim(connection, waiting):
                        rows.extend(waiting.rows)
                cursor = connection.connection.cursor()
                self._statements.insert(cursor, rows)
            return
        # Without SQLAlchemy's own work around a transaction, which would take the interpreter from
        # the requests for longer than the database takes to commit.
        raw = self._engine.raw_connection()
        try:
            cursor = raw.cursor()
            self._statements.begin(cursor)
            try:
                self._statements.insert(cursor, [row for w in group for row in w.rows])
            except BaseException:
                raw.rollback()
                raise
            raw.commit()
        except self._statements.driver_error as error:
            raise HistoryUnavailableError("The prediction could not be saved.") from error
        finally:
            raw.close()

    def _claim(self, connection: Connection, waiting: _Waiting) -> bool:
        """Take the key inside the transaction; False if an earlier request has it."""
        key = waiting.key
        assert key is not None
        now = now_us()
        connection.execute(
            delete(idempotency_keys).where(
                idempotency_keys.c.key_hash == key.key_hash,
                idempotency_keys.c.created_us < now - KEY_LIFETIME_US,
            )
        )
        taken = connection.execute(
            _insert_or_ignore(connection, idempotency_keys).values(
                key_hash=key.key_hash,
                body_hash=key.body_hash,
                session_id=key.session_id,
                answer=zlib.compress(key.answer),
                created_us=now,
            )
        )
        if taken.rowcount == 1:
            return True
        earlier = connection.execute(
            select(idempotency_keys.c.body_hash, idempotency_keys.c.answer).where(
                idempotency_keys.c.key_hash == key.key_hash
            )
        ).one()
        if earlier.body_hash == key.body_hash:
            waiting.outcome = zlib.decompress(earlier.answer)
        else:
            waiting.outcome = ConflictError(
                "This Idempotency-Key was used with another request within the last day."
            )
        return False

    def _keep_loop(self) -> None:
        next_retention = 0.0
        while not self._stopping.wait(CHECKPOINT_SECONDS):
            try:
                checkpoint(self._engine)
                if time.monotonic() >= next_retention:
                    next_retention = time.monotonic() + RETENTION_SECONDS
                    self._forget()
            except (SQLAlchemyError, HistoryUnavailableError):
                # Tried again in a second; a full disk or a lock shows in the commits themselves.
                logger.warning("history_upkeep_failed", exc_info=True)

    def _forget(self) -> None:
        with writing(self._engine) as connection:
            connection.execute(
                delete(idempotency_keys).where(
                    idempotency_keys.c.created_us < now_us() - KEY_LIFETIME_US
                )
            )
        if self._retention_days is not None:
            self.erase_before(now_us() - self._retention_days * 86_400 * 1_000_000)

    def page(
        self, *, limit: int, session_id: str | None = None, before_id: int | None = None
    ) -> list[dict[str, Any]]:
        """Return the newest predictions, newest first, as JSON-ready rows.

        Parameters
        ----------
        limit
            At most this many, 1 to 1000.
        session_id
            Only of this session.
        before_id
            Only rows with a smaller id: the next page starts below the last id of this one.
        """
        query = (
            select(inference_logs, outcomes.c.actual_g3)
            .outerjoin(outcomes, outcomes.c.prediction_id == inference_logs.c.prediction_id)
            .order_by(inference_logs.c.id.desc())
            .limit(limit)
        )
        if session_id is not None:
            query = query.where(inference_logs.c.session_id == session_id)
        if before_id is not None:
            query = query.where(inference_logs.c.id < before_id)
        with reading(self._engine) as connection:
            return [_public(dict(row._mapping)) for row in connection.execute(query)]

    def erase_session(self, session_id: str) -> int:
        """Erase a session's predictions, outcomes and kept answers for good; return how many."""
        return self._erase(lambda: inference_logs.c.session_id == session_id, session_id)

    def erase_before(self, limit_us: int) -> int:
        """Erase predictions made before `limit_us` and their outcomes; return how many."""
        return self._erase(lambda: inference_logs.c.created_us < limit_us, None)

    def _erase(self, condition: Callable[[], Any], session_id: str | None) -> int:
        erased = 0
        while True:
            # In chunks, so that predictions get their turn in between.
            with writing(self._engine) as connection:
                chosen = connection.execute(
                    select(inference_logs.c.id, inference_logs.c.prediction_id)
                    .where(condition())
                    .limit(_ERASE_CHUNK)
                ).all()
                if chosen:
                    known = [row.prediction_id for row in chosen]
                    connection.execute(delete(outcomes).where(outcomes.c.prediction_id.in_(known)))
                    connection.execute(
                        delete(inference_logs).where(
                            inference_logs.c.id.in_([row.id for row in chosen])
                        )
                    )
                if session_id is not None and len(chosen) < _ERASE_CHUNK:
                    connection.execute(
                        delete(idempotency_keys).where(idempotency_keys.c.session_id == session_id)
                    )
            erased += len(chosen)
            if len(chosen) < _ERASE_CHUNK:
                break
        if erased:
            checkpoint(self._engine, truncate=True)
        return erased

    def check(self) -> None:
        """Show that a prediction could be committed now.

        Raises
        ------
        HistoryUnavailableError
            If the database cannot be written.
        """
        with writing(self._engine) as connection:
            # Takes the write lock, and on SQLite touches the log: a full disk shows here.
            connection.execute(
                delete(idempotency_keys).where(idempotency_keys.c.key_hash == "\0never")
            )


class _Statements:
    """Inserts as the driver takes them, compiled once."""

    def __init__(self, engine: Engine) -> None:
        self._sqlite = engine.dialect.name == "sqlite"
        self.driver_error: type[Exception] = engine.dialect.loaded_dbapi.Error
        compiled = insert(inference_logs).values(dict.fromkeys(COLUMNS)).compile(engine)
        self._one = str(compiled)
        head, _, self._group = self._one.partition(" VALUES ")
        self._head = f"{head} VALUES "
        self._many: dict[int, str] = {}

    def begin(self, cursor: Any) -> None:
        """Start a write transaction; other drivers do so by themselves."""
        if self._sqlite:
            cursor.execute("BEGIN IMMEDIATE")

    def insert(self, cursor: Any, rows: Sequence[Row]) -> None:
        """Insert rows, many to a statement where the driver would go row by row."""
        if not self._sqlite:
            cursor.executemany(self._one, [dict(zip(COLUMNS, row, strict=True)) for row in rows])
            return
        whole = len(rows) - len(rows) % _ROWS_A_STATEMENT
        for start in range(0, whole, _ROWS_A_STATEMENT):
            self._insert_together(cursor, rows[start : start + _ROWS_A_STATEMENT])
        if whole < len(rows):
            self._insert_together(cursor, rows[whole:])

    def _insert_together(self, cursor: Any, rows: Sequence[Row]) -> None:
        number = len(rows)
        statement = self._many.get(number)
        if statement is None:
            statement = self._head + ", ".join([self._group] * number)
            self._many[number] = statement
        cursor.execute(statement, [value for row in rows for value in row])


def _wake(members: Sequence[_Waiting]) -> None:
    for waiting in members:
        if waiting.future.done():
            continue  # The client went away; its row is committed all the same.
        if isinstance(waiting.outcome, StudentSuccessError):
            waiting.future.set_exception(waiting.outcome)
        else:
            waiting.future.set_result(waiting.outcome)


def _insert_or_ignore(connection: Connection, table: Any) -> Any:
    if connection.dialect.name == "postgresql":
        from sqlalchemy.dialects.postgresql import insert as insert_postgresql

        return insert_postgresql(table).on_conflict_do_nothing()
    from sqlalchemy.dialects.sqlite import insert as insert_sqlite

    return insert_sqlite(table).on_conflict_do_nothing()


def _public(row: Mapping[str, Any]) -> dict[str, Any]:
    from student_success.grading import INTERVAL_LEVEL

    return {
        "id": row["id"],
        "prediction_id": row["prediction_id"],
        "session_id": row["session_id"],
        "timestamp": iso(row["created_us"]),
        "inputs_json": json.loads(row["inputs_json"]),
        "reference": row["reference"],
        "predicted_G3": row["predicted_g3"],
        "decision": row["decision"],
        "pass_probability": row["pass_probability"],
        "interval": {
            "low": row["interval_low"],
            "high": row["interval_high"],
            "level": INTERVAL_LEVEL,
        },
        "horizon": row["horizon"],
        "at_risk": bool(row["at_risk"]),
        "model_version": row["model_version"],
        "actual_G3": row["actual_g3"],
    }
