"""The inference log: append predictions, page through them, erase them, check that it is writable.

`group_commit` writes the predictions. A background thread moves SQLite's write-ahead log into the
database file, so that no request has to, and erases what is older than the retention period.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Engine, select

from student_success.core.clock import cautious_now_us, now_us
from student_success.core.configuration.settings import Settings
from student_success.core.errors import DatabaseUnavailableError
from student_success.domain.idempotency import KEY_LIFETIME_US, IdempotencyKey
from student_success.storage.engine import connect, reading, upsert, writing
from student_success.storage.inference_log import erasure
from student_success.storage.inference_log.checkpoint import checkpoint, limit_log_size
from student_success.storage.inference_log.group_commit import LOCK_SECONDS, GroupCommitter
from student_success.storage.inference_log.prediction_rows import PredictionRow, public
from student_success.storage.tables import health_probe, inference_logs, outcomes

logger = logging.getLogger(__name__)

CHECKPOINT_SECONDS = 0.05
"""Pause between checkpoints while rows are written. A checkpoint waits for the disk, and for part
of that time commits wait too; frequent small ones keep that short."""
UPKEEP_SECONDS = 1.0
RETENTION_SECONDS = 20.0
OVERWRITE_TRIES = 20
"""An erasure that a caller waits for tries this often to empty the log before it answers."""
CHECK_SECONDS = 1.0
"""How long the result of a health check is reused."""
_DAY_US = 86_400 * 1_000_000


class History:
    """The log of predictions.

    Parameters
    ----------
    engine
        Database to write to and read from.
    commit_engine, loop_engine
        The same database for commits on the thread and on the event loop, see `GroupCommitter`;
        None for the first uses `engine`, None for the second commits on the thread alone.
    retention_days
        Age at which predictions are erased; None keeps them.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        commit_engine: Engine | None = None,
        loop_engine: Engine | None = None,
        retention_days: int | None = None,
    ) -> None:
        self._engine = engine
        self._engines = [used for used in (engine, commit_engine, loop_engine) if used is not None]
        self._retention_days = retention_days
        self._committer = GroupCommitter(commit_engine or engine, loop_engine=loop_engine)
        self._stopping = threading.Event()
        self._written = threading.Event()
        self._erased = threading.Event()
        self._checkpointed_at = 0.0
        self._check_lock = threading.Lock()
        self._checked_at = -CHECK_SECONDS
        self._check_error: str | None = None
        self._upkeep = threading.Thread(target=self._run_upkeep, name="history-upkeep", daemon=True)

    @classmethod
    def open(cls, settings: Settings) -> History:
        """Make the log of the database in the settings."""
        url, synchronous = settings.database, settings.history_synchronous
        sqlite = url.startswith("sqlite")
        return cls(
            connect(url, synchronous=synchronous),
            commit_engine=connect(
                url,
                synchronous=synchronous,
                busy_seconds=0 if sqlite else LOCK_SECONDS,
                pool_size=1,
            ),
            # A commit that waits for the disk is too slow for the event loop.
            loop_engine=connect(url, busy_seconds=0, pool_size=1)
            if sqlite and synchronous == "NORMAL"
            else None,
            retention_days=settings.history_retention_days,
        )

    def start(self) -> None:
        """Start the background threads; call once, in the process that serves."""
        self._committer.start()
        self._upkeep.start()

    def close(self) -> None:
        """Commit everything that is queued and stop; no acknowledged or queued row is lost."""
        self._stopping.set()
        self._written.set()
        self._committer.close()
        if self._upkeep.is_alive():
            self._upkeep.join()
        try:
            checkpoint(self._engine, "TRUNCATE" if self._erased.is_set() else "PASSIVE")
        except DatabaseUnavailableError:
            logger.warning("checkpoint_failed", exc_info=True)
        for engine in self._engines:
            engine.dispose()

    def append(
        self, rows: Sequence[PredictionRow], *, key: IdempotencyKey | None = None
    ) -> asyncio.Future[bytes | None]:
        """Queue rows for the next commit.

        Parameters
        ----------
        key
            Makes the append happen once, however often it is repeated within a day.

        Returns
        -------
        asyncio.Future
            Done once the rows are committed. Its result is None, or the response of the first
            request if the key is known.

        Raises
        ------
        TooManyRequestsError
            If too many requests wait for the database.
        DatabaseUnavailableError
            Through the future, if the commit fails.
        ConflictError
            Through the future, if the key came with another body before.
        """
        if not self._written.is_set():
            self._written.set()
        return self._committer.append(rows, key=key)

    def page(
        self,
        *,
        limit: int,
        session_id: str | None = None,
        before_id: int | None = None,
        with_replaced: bool = False,
    ) -> list[dict[str, Any]]:
        """Return the newest predictions, newest first, as JSON-ready rows.

        Parameters
        ----------
        limit
            Number of rows, 1 to 1000.
        session_id
            Only rows of this session.
        before_id
            Only rows with a smaller id: the next page starts below the last id of this one.
        with_replaced
            Whether the grades that corrections replaced are shown.
        """
        shown = (outcomes.c.replaced_json,) if with_replaced else ()
        query = (
            select(inference_logs, outcomes.c.actual_grade, *shown)
            .outerjoin(outcomes, outcomes.c.prediction_id == inference_logs.c.prediction_id)
            .order_by(inference_logs.c.id.desc())
            .limit(limit)
        )
        if session_id is not None:
            query = query.where(inference_logs.c.session_id == session_id)
        if before_id is not None:
            query = query.where(inference_logs.c.id < before_id)
        with reading(self._engine) as connection:
            return [public(dict(row._mapping)) for row in connection.execute(query)]

    def erase_session(self, session_id: str) -> int:
        """Erase a session's predictions, outcomes and kept responses; return how many rows."""
        erased = erasure.erase_session(self._engine, session_id)
        self._overwrite_log(tries=OVERWRITE_TRIES)
        return erased

    def erase_before(self, limit_us: int) -> int:
        """Erase predictions made before `limit_us` and their outcomes; return how many rows."""
        erased = erasure.erase_before(self._engine, limit_us, keep_going=self._between_erasures)
        if erased:
            self._overwrite_log()
        return erased

    def check(self) -> None:
        """Show that a prediction could be committed, at most `CHECK_SECONDS` ago.

        Raises
        ------
        DatabaseUnavailableError
            If the database cannot be written.
        """
        with self._check_lock:
            if time.monotonic() - self._checked_at >= CHECK_SECONDS:
                self._check_error = None
                try:
                    # Taking the lock alone would not detect a full disk.
                    with writing(self._engine) as connection:
                        connection.execute(
                            upsert(connection, health_probe, {"id": 1}, checked_us=now_us())
                        )
                except DatabaseUnavailableError as error:
                    self._check_error = error.message
                # Failures are reused as well: those who wait here must not try one after another.
                self._checked_at = time.monotonic()
            if self._check_error is not None:
                raise DatabaseUnavailableError(self._check_error)

    # On the upkeep thread

    def _run_upkeep(self) -> None:
        pause = CHECKPOINT_SECONDS
        next_overwrite = next_retention = 0.0
        while True:
            self._written.wait(UPKEEP_SECONDS)
            if self._stopping.wait(pause):
                return
            pause = CHECKPOINT_SECONDS
            self._written.clear()
            try:
                self._checkpoint()
                if self._erased.is_set() and time.monotonic() >= next_overwrite:
                    next_overwrite = time.monotonic() + UPKEEP_SECONDS
                    self._overwrite_log()
                if time.monotonic() >= next_retention:
                    next_retention = time.monotonic() + RETENTION_SECONDS
                    self._erase_old()
            except Exception as error:
                # Tried again after a second; commits report a full disk or a lock themselves. If
                # this thread ended, the write-ahead log would grow for ever.
                pause = UPKEEP_SECONDS
                logger.warning("history_upkeep_failed", extra={"reason": str(error)})

    def _checkpoint(self) -> None:
        limit_log_size(self._engine)
        self._checkpointed_at = time.monotonic()

    def _erase_old(self) -> None:
        erasure.erase_keys_before(self._engine, cautious_now_us() - KEY_LIFETIME_US)
        if self._retention_days is not None:
            self.erase_before(cautious_now_us() - self._retention_days * _DAY_US)

    def _between_erasures(self) -> bool:
        """Keep the log short during a long erasure; return whether to go on."""
        if time.monotonic() - self._checkpointed_at >= CHECKPOINT_SECONDS:
            self._checkpoint()
        return not self._stopping.is_set()

    def _overwrite_log(self, *, tries: int = 1) -> None:
        """Remove erased rows from SQLite's log; the thread retries while a reader prevents it."""
        self._erased.set()
        for _ in range(tries):
            # Moves most of the log without blocking commits.
            checkpoint(self._engine)
            if checkpoint(self._engine, "TRUNCATE") == 0:
                self._erased.clear()
                return
            time.sleep(CHECKPOINT_SECONDS)
