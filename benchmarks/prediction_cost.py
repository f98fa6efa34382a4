"""Measure each step of a prediction by itself, in microseconds."""

from __future__ import annotations

import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

from benchmarks.load import random_pupils
from student_success.api.validation import validate_json
from student_success.core.clock import now_us
from student_success.core.configuration.settings import Settings
from student_success.domain.students import StudentFeatures
from student_success.model.predictor import Predictor
from student_success.services.prediction import make_answer
from student_success.storage.engine import connect
from student_success.storage.inference_log.history import History
from student_success.storage.migrate import migrate

ROWS = 2000
ROUNDS = 5


def costs(folder: Path) -> dict[str, float]:
    """Return the time of each step: the median over `ROUNDS` rounds of 2,000 different pupils."""
    bodies = [json.dumps(pupil).encode() for pupil in random_pupils(ROWS)]
    students = [validate_json(StudentFeatures, body) for body in bodies]
    predictor = Predictor.load(Settings().seed_model_path, version="seed")
    predictions = [predictor.predict(student) for student in students]
    answers = [
        make_answer(student, prediction, predictor, session_id="session", now=now_us())
        for student, prediction in zip(students, predictions, strict=True)
    ]
    return {
        "validation": _each(lambda body: validate_json(StudentFeatures, body), bodies),
        "model": _each(predictor.predict, students),
        "answer and row": _each(
            lambda pair: make_answer(*pair, predictor, session_id="session", now=now_us()),
            list(zip(students, predictions, strict=True)),
        ),
        "serialisation": _each(
            lambda pair: pair[0].__pydantic_serializer__.to_json(pair[0]), answers
        ),
        **asyncio.run(_commits(folder, [row for _, row in answers])),
    }


def _each(function: Callable[[Any], Any], values: Sequence[Any]) -> float:
    times = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        for value in values:
            function(value)
        times.append((time.perf_counter() - started) / len(values))
    return statistics.median(times) * 1e6


async def _commits(folder: Path, rows: Sequence[Any]) -> dict[str, float]:
    """Return the time of a commit for each request, with 1 and with 16 requests at once."""
    with tempfile.TemporaryDirectory(dir=folder) as temporary_folder:
        url = f"sqlite:///{temporary_folder}/micro.db"
        migrate(url, state_dir=Path(temporary_folder))
        history = History(connect(url), loop_engine=connect(url, busy_seconds=0, pool_size=1))
        history.start()
        costs_by_name = {}
        unique_rows = _with_new_ids(rows)
        for waiting in (1, 16):
            times = []
            for _ in range(ROUNDS):
                started = time.perf_counter()
                for _ in range(ROWS // waiting):
                    await asyncio.gather(
                        *[history.append((next(unique_rows),)) for _ in range(waiting)]
                    )
                times.append((time.perf_counter() - started) / (ROWS // waiting * waiting))
            costs_by_name[f"commit, {waiting} waiting"] = statistics.median(times) * 1e6
        await asyncio.to_thread(history.close)
        return costs_by_name


def _with_new_ids(rows: Sequence[Any]) -> Any:
    """Repeat the rows without end, each with an id and a session of its own."""
    for number, row in enumerate(cycle(rows)):
        yield (f"{number:032x}", f"session-{number}", *row[2:])


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary_folder:
        print(json.dumps(costs(Path(temporary_folder))))
