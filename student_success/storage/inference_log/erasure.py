"""Erasure from the history: piece by piece, so that predictions get their turn in between.

A piece holds the lock of the database for some milliseconds; the next one waits as long again. How
many rows that is depends on how far apart they lie, and is found out on the way. Each piece begins
where the last one ended: what was erased is not looked at a second time.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, Engine, and_, delete, select

from student_success.storage.engine import one_writer, writing
from student_success.storage.tables import idempotency_keys, inference_logs, outcomes

HOLD_SECONDS = 0.01
FIRST_PIECE_ROWS = 100
PIECE_ROWS = 20, 1000
"""At least and at most."""

_log = inference_logs.c


def erase_session(engine: Engine, session_id: str) -> int:
    """Erase a session's predictions, outcomes and kept answers; return how many predictions.

    Raises
    ------
    DatabaseUnavailableError
        If the database cannot be written; what was erased before stays erased.
    """
    erased = _erase(engine, _log.session_id == session_id, order=_log.id)
    with writing(engine) as connection:
        connection.execute(
            delete(idempotency_keys).where(idempotency_keys.c.session_id == session_id)
        )
    return erased


def erase_before(
    engine: Engine, limit_us: int, *, between: Callable[[], bool] = lambda: True
) -> int:
    """Erase predictions made before a moment, and their outcomes; return how many.

    They are found through their ids, which begin with the time in milliseconds: an index by time
    would cost every prediction, and say the same.

    Parameters
    ----------
    limit_us
        Microseconds since 1970.
    between
        Called after each piece; False ends it there.
    """
    old = and_(_log.prediction_id < f"{max(0, limit_us) // 1000:012x}", _log.created_us < limit_us)
    return _erase(engine, old, order=_log.prediction_id, between=between)


def forget_keys(engine: Engine, limit_us: int) -> None:
    """Forget the answers kept for repeated requests that were given before a moment."""
    keys = idempotency_keys.c
    old = select(keys.key_hash).where(keys.created_us < limit_us).order_by(keys.created_us)
    piece = _Piece()
    while True:
        with piece.taken(engine) as connection:
            found = connection.execute(old.limit(piece.rows)).scalars().all()
            if found:
                connection.execute(
                    delete(idempotency_keys).where(
                        keys.key_hash.in_(found),
                        # Another process may have taken it anew meanwhile.
                        keys.created_us < limit_us,
                    )
                )
        if len(found) < piece.rows:
            return
        piece.rest()


class _Piece:
    """How many rows to take at once, and when."""

    def __init__(self) -> None:
        self.rows = FIRST_PIECE_ROWS
        self._took = 0.0

    @contextlib.contextmanager
    def taken(self, engine: Engine) -> Iterator[Connection]:
        started = time.monotonic()
        with writing(engine) as connection:
            yield connection
        self._took = time.monotonic() - started

    def rest(self) -> None:
        """Let others have their turn, and choose the next piece by how long this one took."""
        time.sleep(self._took)
        fitting = int(self.rows * HOLD_SECONDS / max(self._took, 0.001))
        self.rows = min(max(fitting, PIECE_ROWS[0]), 2 * self.rows, PIECE_ROWS[1])


def _erase(
    engine: Engine,
    condition: ColumnElement[bool],
    *,
    order: Column[Any],
    between: Callable[[], bool] = lambda: True,
) -> int:
    query = select(_log.id, _log.prediction_id).where(condition).order_by(order)
    left = query
    piece = _Piece()
    erased = 0
    while True:
        with piece.taken(engine) as connection:
            # An outcome on its way goes with its prediction, or comes too late.
            one_writer(connection, outcomes)
            chosen = connection.execute(left.limit(piece.rows)).all()
            if chosen:
                ids = [row.id for row in chosen]
                known = [row.prediction_id for row in chosen]
                connection.execute(delete(inference_logs).where(_log.id.in_(ids)))
                connection.execute(delete(outcomes).where(outcomes.c.prediction_id.in_(known)))
        erased += len(chosen)
        if len(chosen) < piece.rows or not between():
            return erased
        left = query.where(order > getattr(chosen[-1], order.name))
        piece.rest()
