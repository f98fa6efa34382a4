"""Fill a database with a history as years of use would leave it, in bulk."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from benchmarks.load import pupils
from student_success.core.settings import ROOT
from student_success.domain.students import StudentFeatures
from student_success.model.predictor import Predictor
from student_success.services.prediction import make_answer
from student_success.storage.engine import connect, migrate, outcomes
from student_success.storage.inference_log.group_commit import COLUMNS

SPAN_DAYS = 730
ROWS_A_SESSION = 200
LARGE_SESSION = "school-export"
"""One session with a thousandth of all rows."""
WITH_REFERENCE = 0.6
WITH_OUTCOME = 0.4
"""Share of the predictions, but for those of the last quarter of the time."""
_CHUNK = 50_000
_KINDS = 2000
_OUTCOME_COLUMNS = tuple(column.name for column in outcomes.columns)

Rows = list[tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Filled:
    """What was written, and how long that took."""

    rows: int
    outcomes: int
    sessions: int
    first_us: int
    last_us: int
    seconds: float


def fill(url: str, *, rows: int, state_dir: Path, seed: int = 0) -> Filled:
    """Make the tables and fill them; whatever is lost if the machine stops meanwhile.

    The rows are spread evenly over two years up to now, in the order of time, and over sessions at
    random: the worst case for the indexes by session.
    """
    started = time.perf_counter()
    migrate(url, state_dir=state_dir)
    engine = connect(url)
    last_us = time.time_ns() // 1000
    first_us = last_us - SPAN_DAYS * 86_400_000_000
    write = _write_sqlite if engine.dialect.name == "sqlite" else _write_postgresql
    known = 0
    for made, obtained in _chunks(rows, first_us, last_us, seed):
        write(engine, made, obtained)
        known += len(obtained)
    _settle(engine)
    engine.dispose()
    return Filled(
        rows=rows,
        outcomes=known,
        sessions=rows // ROWS_A_SESSION,
        first_us=first_us,
        last_us=last_us,
        seconds=time.perf_counter() - started,
    )


def session_name(number: int) -> str:
    """Name a session; there are `Filled.sessions` of them."""
    return f"class-{number:06d}"


def _kinds() -> list[tuple[Any, ...]]:
    """Make rows as the service would; a thousand times the same pupil does no harm here."""
    predictor = Predictor.load(ROOT / "student_success" / "seed", version="17")
    made = []
    for pupil in pupils(_KINDS):
        student = StudentFeatures.model_validate(pupil)
        prediction = predictor.predict(student)
        _, row = make_answer(student, prediction, predictor, session_id="s", now=0)
        made.append(row[3:4] + row[5:])
    return made


def _chunks(rows: int, first_us: int, last_us: int, seed: int) -> Iterator[tuple[Rows, Rows]]:
    chosen = random.Random(seed)
    draw, bits, kinds = chosen.random, chosen.getrandbits, _kinds()
    sessions = [session_name(number) for number in range(max(1, rows // ROWS_A_SESSION))]
    names = [f"pupil-{number:05d}" for number in range(2000)]
    step = (last_us - first_us) / rows
    judged = first_us + (last_us - first_us) * 3 // 4
    for start in range(0, rows, _CHUNK):
        made: Rows = []
        obtained: Rows = []
        for number in range(start, min(rows, start + _CHUNK)):
            at = first_us + int(number * step)
            prediction_id = f"{at // 1000:012x}{bits(80):020x}"
            session = sessions[int(draw() * len(sessions))] if number % 1000 else LARGE_SESSION
            reference = names[int(draw() * 2000)] if draw() < WITH_REFERENCE else None
            kind = kinds[int(draw() * _KINDS)]
            made.append((prediction_id, session, at, kind[0], reference, *kind[1:]))
            if at < judged and draw() < WITH_OUTCOME:
                obtained.append((prediction_id, session, int(draw() * 21), at + 1_000_000))
        yield made, obtained


def _write_sqlite(engine: Engine, made: Rows, obtained: Rows) -> None:
    raw = engine.raw_connection()
    cursor = raw.cursor()
    cursor.execute("PRAGMA synchronous=OFF")
    cursor.execute("PRAGMA cache_size=-1000000")
    cursor.execute("BEGIN IMMEDIATE")
    for table, columns, rows in _tables(made, obtained):
        places = ", ".join("?" * len(columns))
        cursor.executemany(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({places})", rows)
    cursor.execute("COMMIT")
    cursor.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()
    cursor.close()
    raw.close()


def _write_postgresql(engine: Engine, made: Rows, obtained: Rows) -> None:
    raw = engine.raw_connection()
    cursor: Any = raw.cursor()
    cursor.execute("SET synchronous_commit = off")
    for table, columns, rows in _tables(made, obtained):
        with cursor.copy(f"COPY {table} ({', '.join(columns)}) FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)
    raw.commit()
    cursor.close()
    raw.close()


def _tables(made: Rows, obtained: Rows) -> list[tuple[str, tuple[str, ...], Rows]]:
    return [("inference_logs", COLUMNS, made), ("outcomes", _OUTCOME_COLUMNS, obtained)]


def _settle(engine: Engine) -> None:
    """Leave the tables as a running server would: the log written back, statistics known."""
    raw = engine.raw_connection()
    cursor = raw.cursor()
    if engine.dialect.name == "sqlite":
        cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    else:
        raw.dbapi_connection.autocommit = True  # type: ignore[union-attr]
        cursor.execute("VACUUM ANALYZE")
    cursor.close()
    raw.invalidate()
