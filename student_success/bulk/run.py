"""The command ``score IN OUT``: predictions for whole files of pupils.

A file is written beside its output and renamed when it is complete. It is then noted in a journal,
so that a run that is repeated skips it.
"""

from __future__ import annotations

import hashlib
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from itertools import groupby
from operator import itemgetter
from typing import IO, NamedTuple

from pydantic import TypeAdapter, ValidationError
from tqdm import tqdm

from student_success.bulk.executors import Submit, dask, default_workers, local
from student_success.bulk.files import (
    ScoreOptions,
    Source,
    finished,
    open_journal,
    open_outputs,
    open_sources,
    refuse_to_replace,
)
from student_success.bulk.model_choice import Model, choose
from student_success.bulk.output import PARQUET
from student_success.bulk.reader import PART_CHARACTERS, read_parts
from student_success.bulk.repeated import References
from student_success.bulk.scoring import Recording, Scored, Task
from student_success.core.clock import now_us
from student_success.core.configuration.settings import Settings
from student_success.core.errors import DatasetError, InvalidInputError, NotFoundError
from student_success.domain.schemas.base import SessionId

MAX_NOTES = 20
READ_AHEAD = 2
"""Parts a worker that are read in advance: bounds the memory."""


class Result(NamedTuple):
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
    model = choose(settings, options.model)
    record = None if options.record is None else _recorder(settings, options.record, model)
    plan, is_folder = _plan(options, model), options.input.is_dir()
    with open_journal(options.output, is_folder=is_folder) as journal:
        done = finished(journal, sources, plan)
        waiting = [source for source in sources if source.path not in done]
        if not options.overwrite:
            refuse_to_replace(waiting)
        totals, repeated = _score_files(options, model, waiting, journal, plan, record)
    seconds = time.monotonic() - started
    rate = totals.total() / seconds
    totals = sum(done.values(), totals)
    lines = [
        f"{options.output}: {totals['scored']:,} pupils, model {model.version}, "
        f"in {seconds:.1f} s ({rate:,.0f} rows/s)"
    ]
    if done:
        lines.append(
            f"{len(done):,} of {len(sources):,} files were scored before and are unchanged"
        )
    if totals["rejected"]:
        place = "*.bad.csv in it" if is_folder else sources[0].rejects.name
        lines.append(f"{totals['rejected']:,} rows could not be scored: {place}")
    if totals["blank"]:
        lines.append(f"{totals['blank']:,} empty lines were skipped")
    if options.record is not None:
        lines.append(f"Recorded in the history, session {options.record}")
    notes = Counter(str(note) for source in sources for note in source.layout.notes)
    lines += repeated[:MAX_NOTES]
    for note, number in notes.most_common(MAX_NOTES):
        lines.append(note if len(sources) == 1 else f"{note} ({number:,} files)")
    return Result(totals["scored"], totals["rejected"], "\n".join(lines))


def _plan(options: ScoreOptions, model: Model) -> str:
    """Return a hash of what an output depends on beside its input."""
    parts = (
        *(model.version, model.fingerprint, model.alarm_recall),
        *(options.with_inputs, options.record, repr(options.choices)),
    )
    return hashlib.sha256(repr(parts).encode()).hexdigest()


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


def _score_files(
    options: ScoreOptions,
    model: Model,
    sources: Sequence[Source],
    journal: IO[str],
    plan: str,
    record: Callable[[Scored], None] | None,
) -> tuple[Counter[str], list[str]]:
    """Score files in order; return the numbers of rows, and notes on repeated references."""
    totals, notes = Counter[str](), list[str]()
    total = sum(source.stamp[0] for source in sources)
    # A small file is scored here: another process takes longer to start.
    number = 1 if total <= PART_CHARACTERS else options.workers or default_workers()
    workers = dask(model, options.scheduler) if options.engine == "dask" else local(model, number)
    bar = tqdm(total=total, unit="B", unit_scale=True, disable=not sys.stderr.isatty())
    with workers as (number, submit), bar:
        results = _in_order(options, model, sources, submit, READ_AHEAD * number)
        for source, parts in groupby(results, itemgetter(0)):
            references = References()
            with open_outputs(source, options, journal, plan, totals) as write:
                for _, future, size in parts:
                    scored = future.result()
                    if record is not None:
                        record(scored)
                    write(scored)
                    references.add(*scored.references)
                    bar.update(size)
            if note := references.note():
                notes.append(f"{source.path.name}: {note}")
    return totals, notes


def _in_order(
    options: ScoreOptions, model: Model, sources: Sequence[Source], submit: Submit, ahead: int
) -> Iterator[tuple[Source, Future[Scored], int]]:
    """Yield the result of each part, and its size in bytes; read some parts in advance."""
    waiting: deque[tuple[Source, Future[Scored], int]] = deque()
    for source in sources:
        task, at = _task(options, model, source), 0
        try:
            for part in read_parts(source.path, source.layout, options.choices):
                waiting.append((source, submit(part, task), part.done - at))
                at = part.done
                while len(waiting) > ahead:
                    yield waiting.popleft()
        except DatasetError as error:
            # The files before it are finished first.
            failed: Future[Scored] = Future()
            failed.set_exception(error)
            waiting.append((source, failed, 0))
            break
    yield from waiting


def _task(options: ScoreOptions, model: Model, source: Source) -> Task:
    recording = None
    if options.record is not None:
        name = source.path.relative_to(options.input.parent)
        now, changed = now_us(), source.stamp[1] // 1000
        identity = f"{model.fingerprint} {name} {source.stamp}"
        recording = Recording(options.record, identity, min(now, changed), now)
    to_parquet = source.output.suffix.lower() in PARQUET
    return Task(source.layout, to_parquet, options.with_inputs, recording)
