"""Fill a database with the history of two years of use, in bulk."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from benchmarks.load import random_pupils
from student_success.core.paths import ROOT
from student_success.domain.students import StudentFeatures
from student_success.model.predictor import Predictor
from student_success.services.prediction import make_answer
from student_success.storage.engine import connect
from student_success.storage.inference_log.prediction_rows import COLUMNS, PredictionRow
from student_success.storage.migrate import migrate
from student_success.storage.tables import outcomes

SPAN_DAYS = 730
ROWS_A_SESSION = 200
LARGE_SESSION = "school-export"
"""One session with a thousandth of all rows."""
WITH_REFERENCE = 0.6
WITH_OUTCOME = 0.4
"""Share of the predictions that have an outcome, except in the last quarter of the time."""
_CHUNK = 50_000
_DIFFERENT_ROWS = 2000
_OUTCOME_COLUMNS = tuple(column.name for column in outcomes.columns)

Rows = list[tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class FilledHistory:
    """What was written; `seconds` is the time that it took."""

    rows: int
    outcomes: int
    sessions: int
    first_us: int
    last_us: int
    seconds: float


def fill(url: str, *, rows: int, state_dir: Path, seed: int = 0) -> FilledHistory:
    """Create the tables and fill them, without waiting for the disk.

    The rows are spread evenly over two years up to now, in order of time, and over sessions at
    random, which is the worst case for the indexes by session.

    Parameters
    ----------
    url
        URL of the database.
    rows
        Number of predictions.
    state_dir
        Folder for the lock of the migration.
    seed
        Seed of the random choices.
    """
    started = time.perf_counter()
    migrate(url, state_dir=state_dir)
    engine = connect(url)
    last_us = time.time_ns() // 1000
    first_us = last_us - SPAN_DAYS * 86_400_000_000
    write = _write_sqlite if engine.dialect.name == "sqlite" else _write_postgresql
    outcome_count = 0
    for predictions, outcome_rows in _chunks(rows, first_us, last_us, seed):
        write(engine, predictions, outcome_rows)
        outcome_count += len(outcome_rows)
    _checkpoint(engine)
    engine.dispose()
    return FilledHistory(
        rows=rows,
        outcomes=outcome_count,
        sessions=rows // ROWS_A_SESSION,
        first_us=first_us,
        last_us=last_us,
        seconds=time.perf_counter() - started,
    )


def session_name(number: int) -> str:
    """Return the name of a session, for numbers below `FilledHistory.sessions`."""
    return f"class-{number:06d}"


def _different_rows() -> list[PredictionRow]:
    """Return rows as the service makes them; each is written many times."""
    predictor = Predictor.load(ROOT / "student_success" / "seed", version="17")
    different_rows = []
    for pupil in random_pupils(_DIFFERENT_ROWS):
        student = StudentFeatures.model_validate(pupil)
        prediction = predictor.predict(student)
        _, row = make_answer(student, prediction, predictor, session_id="s", now=0)
        different_rows.append(row)
    return different_rows


def _chunks(rows: int, first_us: int, last_us: int, seed: int) -> Iterator[tuple[Rows, Rows]]:
    generator = random.Random(seed)
    draw, bits, templates = generator.random, generator.getrandbits, _different_rows()
    sessions = [session_name(number) for number in range(max(1, rows // ROWS_A_SESSION))]
    names = [f"pupil-{number:05d}" for number in range(2000)]
    step = (last_us - first_us) / rows
    newest_outcome_us = first_us + (last_us - first_us) * 3 // 4
    for start in range(0, rows, _CHUNK):
        predictions: Rows = []
        outcome_rows: Rows = []
        for number in range(start, min(rows, start + _CHUNK)):
            at = first_us + int(number * step)
            prediction_id = f"{at // 1000:012x}{bits(80):020x}"
            session = sessions[int(draw() * len(sessions))] if number % 1000 else LARGE_SESSION
            reference = names[int(draw() * 2000)] if draw() < WITH_REFERENCE else None
            row = templates[int(draw() * _DIFFERENT_ROWS)]._replace(
                prediction_id=prediction_id,
                session_id=session,
                created_us=at,
                reference=reference,
            )
            predictions.append(row)
            if at < newest_outcome_us and draw() < WITH_OUTCOME:
                outcome_rows.append((prediction_id, session, int(draw() * 21), at + 1_000_000))
        yield predictions, outcome_rows


def _write_sqlite(engine: Engine, predictions: Rows, outcome_rows: Rows) -> None:
    raw = engine.raw_connection()
    cursor = raw.cursor()
    cursor.execute("PRAGMA synchronous=OFF")
    cursor.execute("PRAGMA cache_size=-1000000")
    cursor.execute("BEGIN IMMEDIATE")
    for table, columns, rows in _tables(predictions, outcome_rows):
        placeholders = ", ".join("?" * len(columns))
        cursor.executemany(
            f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({placeholders})", rows
        )
    cursor.execute("COMMIT")
    cursor.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()
    cursor.close()
    raw.close()


def _write_postgresql(engine: Engine, predictions: Rows, outcome_rows: Rows) -> None:
    raw = engine.raw_connection()
    cursor: Any = raw.cursor()
    cursor.execute("SET synchronous_commit = off")
    for table, columns, rows in _tables(predictions, outcome_rows):
        with cursor.copy(f"COPY {table} ({', '.join(columns)}) FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)
    raw.commit()
    cursor.close()
    raw.close()


def _tables(predictions: Rows, outcome_rows: Rows) -> list[tuple[str, tuple[str, ...], Rows]]:
    return [("inference_logs", COLUMNS, predictions), ("outcomes", _OUTCOME_COLUMNS, outcome_rows)]


def _checkpoint(engine: Engine) -> None:
    """Write the log back and update the statistics, as a running server does."""
    raw = engine.raw_connection()
    cursor = raw.cursor()
    if engine.dialect.name == "sqlite":
        cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    else:
        raw.dbapi_connection.autocommit = True  # type: ignore[union-attr]
        cursor.execute("VACUUM ANALYZE")
    cursor.close()
    raw.invalidate()
