"""Erase rows of the history in batches, so that predictions are committed in between.

A batch holds the database's lock for a few milliseconds, and the next batch waits as long again.
The number of rows per batch is adjusted to the measured time. Each batch begins where the last one
ended, so that erased rows are not read again.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, Engine, and_, delete, select

from student_success.storage.engine import lock_table, writing
from student_success.storage.tables import idempotency_keys, inference_logs, outcomes

HOLD_SECONDS = 0.01
FIRST_BATCH_ROWS = 100
MIN_BATCH_ROWS, MAX_BATCH_ROWS = 20, 1000

_log = inference_logs.c


def erase_session(engine: Engine, session_id: str) -> int:
    """Erase a session's predictions, outcomes and kept responses; return how many predictions.

    Raises
    ------
    DatabaseUnavailableError
        If the database cannot be written; the batches before that are erased.
    """
    erased = _erase(engine, _log.session_id == session_id, order=_log.id)
    with writing(engine) as connection:
        connection.execute(
            delete(idempotency_keys).where(idempotency_keys.c.session_id == session_id)
        )
    return erased


def erase_before(
    engine: Engine, limit_us: int, *, keep_going: Callable[[], bool] = lambda: True
) -> int:
    """Erase predictions made before a moment, and their outcomes; return how many.

    They are found by prediction id, which begins with the time in milliseconds: an index by time
    would slow down every prediction.

    Parameters
    ----------
    limit_us
        Microseconds since 1970.
    keep_going
        Called after each batch; if it returns False, the erasure ends.
    """
    old = and_(_log.prediction_id < f"{max(0, limit_us) // 1000:012x}", _log.created_us < limit_us)
    return _erase(engine, old, order=_log.prediction_id, keep_going=keep_going)


def erase_keys_before(engine: Engine, limit_us: int) -> None:
    """Erase idempotency keys, with their kept responses, that are older than `limit_us`."""
    keys = idempotency_keys.c
    old = select(keys.key_hash).where(keys.created_us < limit_us).order_by(keys.created_us)
    batch = _Batch()
    while True:
        with batch.transaction(engine) as connection:
            hashes = connection.execute(old.limit(batch.rows)).scalars().all()
            if hashes:
                connection.execute(
                    delete(idempotency_keys).where(
                        keys.key_hash.in_(hashes),
                        # Another process may have claimed it again meanwhile.
                        keys.created_us < limit_us,
                    )
                )
        if len(hashes) < batch.rows:
            return
        batch.pause()


class _Batch:
    """Size of the next batch, adjusted to the time of the last one."""

    def __init__(self) -> None:
        self.rows = FIRST_BATCH_ROWS
        self._seconds = 0.0

    @contextlib.contextmanager
    def transaction(self, engine: Engine) -> Iterator[Connection]:
        started = time.monotonic()
        with writing(engine) as connection:
            yield connection
        self._seconds = time.monotonic() - started

    def pause(self) -> None:
        """Let other writers in, and adjust the size of the next batch."""
        time.sleep(self._seconds)
        rows = int(self.rows * HOLD_SECONDS / max(self._seconds, 0.001))
        self.rows = min(max(rows, MIN_BATCH_ROWS), 2 * self.rows, MAX_BATCH_ROWS)


def _erase(
    engine: Engine,
    condition: ColumnElement[bool],
    *,
    order: Column[Any],
    keep_going: Callable[[], bool] = lambda: True,
) -> int:
    query = select(_log.id, _log.prediction_id).where(condition).order_by(order)
    remaining = query
    batch = _Batch()
    erased = 0
    while True:
        with batch.transaction(engine) as connection:
            # An outcome that is being recorded is erased with its prediction, or refused.
            lock_table(connection, outcomes)
            rows = connection.execute(remaining.limit(batch.rows)).all()
            if rows:
                ids = [row.id for row in rows]
                prediction_ids = [row.prediction_id for row in rows]
                connection.execute(delete(inference_logs).where(_log.id.in_(ids)))
                connection.execute(
                    delete(outcomes).where(outcomes.c.prediction_id.in_(prediction_ids))
                )
        erased += len(rows)
        if len(rows) < batch.rows or not keep_going():
            return erased
        remaining = query.where(order > getattr(rows[-1], order.name))
        batch.pause()
