"""The command ``score IN OUT``: predictions for whole files of pupils.

A file is written beside its output and renamed when it is complete. It is then noted in a journal,
so that a run that is repeated skips it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError
from tqdm import tqdm

from student_success.bulk.executors import Submit, dask, default_workers, in_process, local
from student_success.bulk.files import (
    Output,
    ScoreOptions,
    Source,
    finished,
    open_journal,
    open_sources,
    protect_inputs,
    refuse_to_replace,
)
from student_success.bulk.model_choice import Model, choose
from student_success.bulk.reader import PARQUET, PART_CHARACTERS, ending_of, read_parts
from student_success.bulk.scoring import Recording, Scored, Task
from student_success.core.clock import now_us
from student_success.core.errors import InvalidInputError, NotFoundError
from student_success.core.settings import Settings
from student_success.domain.schemas.base import SessionId

MAX_NOTES = 20
READ_AHEAD = 2
"""Parts a worker that are read in advance: bounds the memory."""


@dataclass(frozen=True, slots=True)
class Result:
    """Number of rows that were scored and rejected, and a summary for people."""

    scored: int
    rejected: int
    text: str


def score(settings: Settings, options: ScoreOptions) -> Result:
    """Score a file or a folder.

    Raises
    ------
    StudentSuccessError
        If it cannot be done, with a message for people.
    """
    started = time.monotonic()
    if not options.input.exists():
        raise NotFoundError(f"There is no {options.input.name}.")
    if options.workers is not None and options.workers < 1:
        raise InvalidInputError("--workers must be 1 or more.")
    sources = open_sources(options)
    protect_inputs(options, sources)
    model = choose(settings, options.model)
    record = None if options.record is None else _recorder(settings, options.record, model)
    plan = _plan(options, model)
    with open_journal(options.output, is_folder=options.input.is_dir()) as journal:

        def note(entry: Mapping[str, Any]) -> None:
            # A kill may have left an incomplete line.
            journal.write(f"\n{json.dumps({**entry, 'plan': plan})}\n")
            journal.flush()
            os.fsync(journal.fileno())

        done = finished(journal, sources, plan)
        waiting = [source for source in sources if source.output not in done]
        refuse_to_replace(waiting, overwrite=options.overwrite)
        before = sum(done.values(), Counter[str]())
        totals = before + _score_sources(options, model, waiting, record, note)
    seconds = time.monotonic() - started
    rate = sum((totals - before).values()) / seconds
    text = _summary(options, model, sources, totals, len(done), seconds, rate)
    return Result(totals["scored"], totals["rejected"], text)


def _score_sources(
    options: ScoreOptions,
    model: Model,
    sources: list[Source],
    record: Callable[[Scored], None] | None,
    note: Callable[[Mapping[str, Any]], None],
) -> Counter[str]:
    """Score files in order; return the numbers of rows."""
    queue: deque[tuple[Output, Any, int]] = deque()
    total = sum(source.stamp[0] for source in sources)
    totals: Counter[str] = Counter()
    bar = tqdm(total=total, unit="B", unit_scale=True, disable=not sys.stderr.isatty())
    with _executor(options, model, total) as (workers, submit), bar, ExitStack() as cleanup:

        def collect(most: int) -> None:
            while len(queue) > most:
                output, future, size = queue.popleft()
                if future is None:
                    output.finish(note)
                    totals.update(output.counts)
                    continue
                scored = future.result()
                if record is not None:
                    record(scored)
                output.write(scored)
                bar.update(size)

        for source in sources:
            output, at = Output(source, options), 0
            cleanup.callback(output.abandon)
            task = _task(options, model, source)
            for part in read_parts(source.path, source.layout, options.choices):
                queue.append((output, submit(part, task), part.done - at))
                at = part.done
                collect(READ_AHEAD * workers)
            queue.append((output, None, 0))
        collect(0)
    return totals


@contextlib.contextmanager
def _executor(options: ScoreOptions, model: Model, size: int) -> Iterator[tuple[int, Submit]]:
    workers = options.workers or default_workers()
    if options.engine == "dask":
        with dask(model, options.scheduler) as cluster:
            yield cluster
    elif workers == 1 or size <= PART_CHARACTERS:
        yield 1, in_process(model)
    else:
        with local(model, workers) as submit:
            yield workers, submit


def _plan(options: ScoreOptions, model: Model) -> str:
    """Return a hash of what an output depends on beside its input."""
    parts = (
        model.version,
        model.fingerprint,
        model.alarm_recall,
        options.with_inputs,
        options.record,
        repr(options.choices),
    )
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _task(options: ScoreOptions, model: Model, source: Source) -> Task:
    recording = None
    if options.record is not None:
        name = source.path.relative_to(options.input.parent)
        now, changed = now_us(), source.stamp[1] // 1000
        identity = f"{model.fingerprint} {name} {source.stamp}"
        recording = Recording(options.record, identity, min(now, changed), now)
    to_parquet = ending_of(source.output) in PARQUET
    return Task(source.layout, to_parquet, options.with_inputs, recording)


def _recorder(settings: Settings, session: str, model: Model) -> Callable[[Scored], None]:
    """Return what commits the predictions of a part to the history."""
    from student_success.storage.engine import connect
    from student_success.storage.inference_log.prediction_rows import commit_missing
    from student_success.storage.migrate import migrate

    try:
        TypeAdapter(SessionId).validate_python(session)
    except ValidationError:
        raise InvalidInputError(
            "--record needs the name of a session: 1 to 128 characters without blanks."
        ) from None
    if model.version.startswith("folder:"):
        raise InvalidInputError("--record needs a deployed version, not the model of a folder.")
    migrate(settings.database, state_dir=settings.state_dir)
    engine = connect(settings.database, synchronous=settings.history_synchronous)
    return lambda scored: commit_missing(engine, scored.history)


def _summary(
    options: ScoreOptions,
    model: Model,
    sources: list[Source],
    totals: Counter[str],
    skipped: int,
    seconds: float,
    rate: float,
) -> str:
    lines = [
        f"{options.output}: {totals['scored']:,} pupils, model {model.version}, "
        f"in {seconds:.1f} s ({rate:,.0f} rows/s)"
    ]
    if skipped:
        lines.append(f"{skipped:,} of {len(sources):,} files were scored before and are unchanged")
    if totals["rejected"]:
        place = "*.bad.csv in it" if options.input.is_dir() else sources[0].rejects.name
        lines.append(f"{totals['rejected']:,} rows could not be scored: {place}")
    if totals["blank"]:
        lines.append(f"{totals['blank']:,} empty lines were skipped")
    if options.record is not None:
        lines.append(f"Recorded in the history, session {options.record}")
    notes = Counter(note for source in sources for note in source.layout.notes)
    for note, files in notes.most_common(MAX_NOTES):
        lines.append(note if len(sources) == 1 else f"{note} ({files:,} files)")
    return "\n".join(lines)
