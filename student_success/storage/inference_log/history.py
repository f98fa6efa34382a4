"""The inference log: append, page, erase, keep tidy.

Predictions are written by the group commit of `committer`. A second thread moves SQLite's
write-ahead log into the database file, so that no request pays for it, and forgets what is too old.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Engine, select

from student_success.core.clock import cautious_now_us, iso
from student_success.core.errors import DatabaseUnavailableError
from student_success.domain.decision import INTERVAL_LEVEL
from student_success.domain.idempotency import KEY_LIFETIME_US, IdempotencyKey
from student_success.storage.engine import insert_or, reading, writing
from student_success.storage.inference_log import erasure
from student_success.storage.inference_log.checkpoint import checkpoint, shorten
from student_success.storage.inference_log.group_commit import Committer, Row
from student_success.storage.tables import idempotency_keys, inference_logs, outcomes

logger = logging.getLogger(__name__)

CHECKPOINT_SECONDS = 0.05
"""While there is something to move. Moving waits for the disk, and for part of that time whoever
commits waits too; the less there is to move at once, the shorter."""
UPKEEP_SECONDS = 1.0
RETENTION_SECONDS = 20.0
CHECK_SECONDS = 1.0
"""Whoever asks for our health more often than this costs nothing more."""
_PROBE = "probe"


class History:
    """The log of predictions.

    Parameters
    ----------
    engine
        Database to write to and read from.
    commit_engine, quick_engine
        The same database for commits in the thread and in the event loop, see `Committer`; None for
        the first is `engine`, None for the second is to do without.
    retention_days
        Age at which predictions are erased; None keeps them.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        commit_engine: Engine | None = None,
        quick_engine: Engine | None = None,
        retention_days: int | None = None,
    ) -> None:
        self._engine = engine
        self._engines = [one for one in (engine, commit_engine, quick_engine) if one is not None]
        self._retention_days = retention_days
        self._committer = Committer(commit_engine or engine, quick_engine=quick_engine)
        self._stopping = threading.Event()
        self._checking = threading.Lock()
        self._checked = -CHECK_SECONDS
        self._fault: str | None = None
        self._to_overwrite = threading.Event()
        self._to_move = threading.Event()
        self._shortened = 0.0
        self._keeper = threading.Thread(target=self._keep_loop, name="history-keeper", daemon=True)

    def start(self) -> None:
        """Start the background threads; call once, in the process that serves."""
        self._committer.start()
        self._keeper.start()

    def close(self) -> None:
        """Commit what waits and stop; nothing acknowledged is lost, nothing waiting is dropped."""
        self._stopping.set()
        self._to_move.set()
        self._committer.close()
        if self._keeper.is_alive():
            self._keeper.join()
        try:
            checkpoint(self._engine, "TRUNCATE" if self._to_overwrite.is_set() else "PASSIVE")
        except DatabaseUnavailableError:
            logger.warning("checkpoint_failed", exc_info=True)
        for engine in self._engines:
            engine.dispose()

    def append(
        self, rows: Sequence[Row], *, key: IdempotencyKey | None = None
    ) -> asyncio.Future[bytes | None]:
        """Queue rows for the next commit.

        Parameters
        ----------
        rows
            Values in the order of `committer.COLUMNS`.
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
        DatabaseUnavailableError
            Through the future, if the commit fails.
        ConflictError
            Through the future, if the key came with another body before.
        """
        if not self._to_move.is_set():
            self._to_move.set()
        return self._committer.append(rows, key=key)

    def _keep_loop(self) -> None:
        pause = CHECKPOINT_SECONDS
        next_upkeep = next_retention = 0.0
        while True:
            self._to_move.wait(UPKEEP_SECONDS)
            if self._stopping.wait(pause):
                return
            pause = CHECKPOINT_SECONDS
            self._to_move.clear()
            try:
                self._shorten_log()
                if self._to_overwrite.is_set() and time.monotonic() >= next_upkeep:
                    next_upkeep = time.monotonic() + UPKEEP_SECONDS
                    self._overwrite()
                if time.monotonic() >= next_retention:
                    next_retention = time.monotonic() + RETENTION_SECONDS
                    self._forget()
            except Exception as error:
                # Tried again in a second; a full disk or a lock shows in the commits themselves.
                # A keeper that ended would let the log grow for ever.
                pause = UPKEEP_SECONDS
                logger.warning("history_upkeep_failed", extra={"reason": str(error)})

    def _shorten_log(self) -> None:
        shorten(self._engine)
        self._shortened = time.monotonic()

    def _forget(self) -> None:
        erasure.forget_keys(self._engine, cautious_now_us() - KEY_LIFETIME_US)
        if self._retention_days is not None:
            self.erase_before(cautious_now_us() - self._retention_days * 86_400 * 1_000_000)

    def _tend(self) -> bool:
        """Between pieces of a long erasure, keep the log short; False when it is time to stop."""
        if time.monotonic() - self._shortened >= CHECKPOINT_SECONDS:
            self._shorten_log()
        return not self._stopping.is_set()

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
        erased = erasure.erase_session(self._engine, session_id)
        self._overwrite()
        return erased

    def erase_before(self, limit_us: int) -> int:
        """Erase predictions made before `limit_us` and their outcomes; return how many."""
        erased = erasure.erase_before(self._engine, limit_us, between=self._tend)
        if erased:
            self._overwrite()
        return erased

    def _overwrite(self) -> None:
        """Take erased rows out of SQLite's log; the keeper tries again if somebody is reading."""
        self._to_overwrite.set()
        # Most of it without anybody waiting.
        checkpoint(self._engine)
        if checkpoint(self._engine, "TRUNCATE") == 0:
            self._to_overwrite.clear()

    def check(self) -> None:
        """Show that a prediction could be committed now, or a second ago.

        Raises
        ------
        DatabaseUnavailableError
            If the database cannot be written.
        """
        with self._checking:
            if time.monotonic() - self._checked >= CHECK_SECONDS:
                self._fault = None
                try:
                    self._write_probe()
                except DatabaseUnavailableError as error:
                    self._fault = error.message
                # A fault is good for as long, too: those who wait here must not find it one by one.
                self._checked = time.monotonic()
            if self._fault is not None:
                raise DatabaseUnavailableError(self._fault)

    def _write_probe(self) -> None:
        with writing(self._engine) as connection:
            # A row is really written: taking the lock alone does not show a full disk. No key's
            # hash is this word, and an answer of 1970 is forgotten by the keeper. Other processes
            # write it too, maybe at this moment.
            connection.execute(
                insert_or(connection, idempotency_keys)
                .values(key_hash=_PROBE, body_hash="", session_id="", answer=b"", created_us=0)
                .on_conflict_do_update(
                    index_elements=[idempotency_keys.c.key_hash], set_={"created_us": 0}
                )
            )


def _public(row: Mapping[str, Any]) -> dict[str, Any]:
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
