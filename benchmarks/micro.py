"""Where a prediction's time goes: each part by itself, in microseconds."""

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

from benchmarks.load import pupils
from student_success.api.validation import parse
from student_success.core.clock import now_us
from student_success.core.settings import Settings
from student_success.domain.students import StudentFeatures
from student_success.model.predictor import Predictor
from student_success.services.prediction import make_answer
from student_success.storage.engine import connect, migrate
from student_success.storage.inference_log.history import History

ROWS = 2000
ROUNDS = 5


def costs(folder: Path) -> dict[str, float]:
    """Measure on this process's core; medians over rounds of 2,000 different pupils."""
    bodies = [json.dumps(pupil).encode() for pupil in pupils(ROWS)]
    students = [parse(StudentFeatures, body) for body in bodies]
    predictor = Predictor.load(Settings().seed_model_path, version="seed")
    predictions = [predictor.predict(student) for student in students]
    made = [
        make_answer(student, prediction, predictor, session_id="session", now=now_us())
        for student, prediction in zip(students, predictions, strict=True)
    ]
    return {
        "validation": _each(lambda body: parse(StudentFeatures, body), bodies),
        "model": _each(predictor.predict, students),
        "answer and row": _each(
            lambda pair: make_answer(*pair, predictor, session_id="session", now=now_us()),
            list(zip(students, predictions, strict=True)),
        ),
        "serialisation": _each(lambda pair: pair[0].__pydantic_serializer__.to_json(pair[0]), made),
        **asyncio.run(_commits(folder, [row for _, row in made])),
    }


def _each(function: Callable[[Any], Any], values: Sequence[Any]) -> float:
    found = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        for value in values:
            function(value)
        found.append((time.perf_counter() - started) / len(values))
    return statistics.median(found) * 1e6


async def _commits(folder: Path, rows: Sequence[Any]) -> dict[str, float]:
    """Measure commits with 1 and 16 requests waiting at once."""
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        url = f"sqlite:///{scratch}/micro.db"
        migrate(url, state_dir=Path(scratch))
        history = History(connect(url), quick_engine=connect(url, busy_seconds=0, pool_size=1))
        history.start()
        found = {}
        fresh = _renamed(rows)
        for waiting in (1, 16):
            times = []
            for _ in range(ROUNDS):
                started = time.perf_counter()
                for _ in range(ROWS // waiting):
                    await asyncio.gather(*[history.append((next(fresh),)) for _ in range(waiting)])
                times.append((time.perf_counter() - started) / (ROWS // waiting * waiting))
            found[f"commit, {waiting} waiting"] = statistics.median(times) * 1e6
        await asyncio.to_thread(history.close)
        return found


def _renamed(rows: Sequence[Any]) -> Any:
    """Give each row an id of its own."""
    for number, row in enumerate(cycle(rows)):
        yield (f"{number:032x}", f"session-{number}", *row[2:])


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as here:
        print(json.dumps(costs(Path(here))))
