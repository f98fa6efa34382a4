"""The command ``score IN OUT``: predictions for whole files of pupils."""

from __future__ import annotations

import contextlib
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from student_success.bulk.checkpoint import WorkFolder, open_work_folder, work_folder_of
from student_success.bulk.csv_reader import SLICE_BYTES, open_csv
from student_success.bulk.executors import Executor, dask, default_workers, in_process, local
from student_success.bulk.model_choice import Model, choose
from student_success.bulk.run import (
    OnProgress,
    Source,
    Totals,
    move_to_output,
    rejects_name,
    score_files,
    stamp_of,
    totals,
)
from student_success.bulk.types import FORMATS, Format, Layout, Position
from student_success.core.errors import (
    ConfigurationError,
    ConflictError,
    DatasetError,
    InvalidInputError,
    NotFoundError,
)
from student_success.core.settings import Settings
from student_success.domain.tables.columns import Choices


@dataclass(frozen=True, slots=True)
class ScoreOptions:
    """Options of the command, as `student-success score --help` describes them."""

    input: Path
    output: Path
    engine: Literal["local", "dask"] = "local"
    scheduler: str | None = None
    workers: int | None = None
    model: str | None = None
    with_inputs: bool = False
    to: Literal["csv", "parquet"] | None = None
    encoding: str | None = None
    overwrite: bool = False
    choices: Choices = field(default_factory=Choices)


def score(settings: Settings, options: ScoreOptions) -> str:
    """Score a file or a folder; return a summary for people.

    Raises
    ------
    StudentSuccessError
        If it cannot be done, with a message for people.
    """
    started = time.monotonic()
    _check(options)
    is_folder = options.input.is_dir()
    sources = _sources(options) if is_folder else [_single_source(options)]
    _protect_inputs(options, sources)
    model = choose(settings, options.model)
    plan = {
        "model": [model.version, model.fingerprint, model.alarm_recall],
        "inputs": [[str(s.path), str(s.name), s.output, *s.stamp] for s in sources],
        "encodings": [source.layout.encoding for source in sources],
        "with_inputs": options.with_inputs,
        "columns": [dict(source.layout.positions) for source in sources],
    }
    with open_work_folder(options.output, plan) as work:
        _check_output(options, work)
        earlier = totals(work)
        done = earlier.scored + earlier.rejected
        if done:
            _print(f"Continuing the interrupted run after {done:,} rows.")
        elif work.discarded:
            _print("Starting again: the interrupted run had another input, model or other options.")
        if not work.committing:
            with _executor(options, model, sources) as executor, _bar(sources, work) as advance:
                score_files(
                    work,
                    sources,
                    executor,
                    with_inputs=options.with_inputs,
                    on_progress=advance,
                )
        result = totals(work)
        move_to_output(work, sources, options.output, is_folder=is_folder)
    seconds = time.monotonic() - started
    rate = (result.scored + result.rejected - done) / seconds
    return _summary(options.output, model, result, seconds, rate, is_folder=is_folder)


def _check(options: ScoreOptions) -> None:
    if not options.input.exists():
        raise NotFoundError(f"There is no {options.input.name}.")
    if options.workers is not None and options.workers < 1:
        raise InvalidInputError("--workers must be 1 or more.")
    if options.encoding is not None:
        try:
            readable = ',\n"'.encode(options.encoding) == b',\n"'
        except LookupError:
            readable = False
        if not readable:
            raise InvalidInputError(
                "--encoding must name an extension of ASCII, for example utf-8 or cp1252."
            )


def _protect_inputs(options: ScoreOptions, sources: list[Source]) -> None:
    """Refuse an output that would replace, delete or contain an input."""
    source, output = options.input.resolve(), options.output.resolve()
    inputs = {source, *(each.path.resolve() for each in sources)}
    replaced = {output, work_folder_of(output)}
    if not options.input.is_dir():
        replaced.add(rejects_name(output).resolve())
    if source in output.parents:
        raise InvalidInputError("The output is inside the input folder. Choose another output.")
    for path in inputs:
        if replaced & {path, *path.parents}:
            raise InvalidInputError(
                f"Writing {options.output.name} would replace or delete the input {path.name}. "
                "Nothing was changed. Choose another output."
            )


def _check_output(options: ScoreOptions, work: WorkFolder) -> None:
    output = options.output
    if output.exists() and not options.overwrite and not work.committing:
        if not work.progress:
            shutil.rmtree(work.folder)
        raise ConflictError(
            f"{output.name} exists already and was not changed; --overwrite replaces it."
        )
    if output.exists() and output.is_dir() != options.input.is_dir():
        raise ConflictError(
            f"{output.name} exists already and was not changed: a folder cannot replace a file, "
            "nor a file a folder."
        )


def _single_source(options: ScoreOptions) -> Source:
    output = _format(options.output)
    if options.to not in (None, output):
        raise InvalidInputError("--to contradicts the file name extension of OUT.")
    return _source(options, options.input, Path(options.output.name), output)


def _sources(options: ScoreOptions) -> list[Source]:
    sources: list[Source] = []
    for path in sorted(options.input.rglob("*")):
        format_ = FORMATS.get(path.suffix.lower())
        if format_ is not None and path.is_file() and not path.name.startswith("."):
            name = path.relative_to(options.input)
            output: Format = options.to or format_
            if output != format_:
                name = name.with_suffix(f".{output}")
            sources.append(_source(options, path, name, output))
    if not sources:
        raise NotFoundError(f"There is no CSV or Parquet file in {options.input.name}.")
    names = [name for source in sources for name in (source.name, source.rejects)]
    if len(set(names)) < len(names):
        raise ConflictError("Two files of the folder would be written to the same name.")
    return sources


def _source(options: ScoreOptions, path: Path, name: Path, output: Format) -> Source:
    stamp = stamp_of(path)
    layout, begin = _open(path, options)
    if "parquet" in (layout.format, output):
        _require_pyarrow()
    return Source(path, name, layout, begin, output, stamp)


def _open(path: Path, options: ScoreOptions) -> tuple[Layout, Position]:
    choices = options.choices
    if _format(path) == "csv":
        return open_csv(path, encoding=options.encoding or choices.encoding, choices=choices)
    _require_pyarrow()
    from student_success.bulk.parquet import open_parquet

    return open_parquet(path, choices)


def _format(path: Path) -> Format:
    format_ = FORMATS.get(path.suffix.lower())
    if format_ is None:
        raise DatasetError(f"The name of {path.name} ends neither in .csv nor in .parquet.")
    return format_


def _require_pyarrow() -> None:
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        raise ConfigurationError(
            'Parquet files need pyarrow: install "student-success[scale]" (in a checkout '
            "requirements/full.txt), or use CSV."
        ) from None


@contextlib.contextmanager
def _executor(options: ScoreOptions, model: Model, sources: list[Source]) -> Iterator[Executor]:
    if options.engine == "dask":
        with dask(model, options.scheduler) as cluster:
            yield cluster
        return
    workers = options.workers or default_workers()
    small = sum(source.stamp[0] for source in sources) <= SLICE_BYTES
    if workers == 1 or small:
        yield in_process(model)
        return
    with local(model, workers) as processes:
        yield processes


@contextlib.contextmanager
def _bar(sources: list[Source], work: WorkFolder) -> Iterator[OnProgress]:
    """Show a progress bar on a terminal; yield the function that advances it."""
    try:
        from tqdm import tqdm
    except ImportError:
        yield lambda number, offset: None
        return
    reached = [0] * len(sources)
    for number, progress in work.progress.items():
        reached[number] = progress.offset
    with tqdm(
        total=sum(map(_size, sources)),
        initial=sum(reached),
        disable=not sys.stderr.isatty(),
        unit="B" if all(source.layout.format == "csv" for source in sources) else "",
        unit_scale=True,
    ) as bar:

        def advance(number: int, offset: int) -> None:
            bar.update(offset - reached[number])
            reached[number] = offset

        yield advance


def _size(source: Source) -> int:
    """Return the largest offset of a file, see `Position`."""
    if source.layout.format == "csv":
        return source.stamp[0]
    from student_success.bulk.parquet import rows_of

    return rows_of(source.path)


def _summary(
    output: Path, model: Model, result: Totals, seconds: float, rate: float, *, is_folder: bool
) -> str:
    text = (
        f"{output}: {result.scored:,} pupils, model {model.version}, "
        f"in {seconds:.1f} s ({rate:,.0f} rows/s)"
    )
    if result.rejected:
        place = "*.bad.csv in it" if is_folder else rejects_name(output).name
        text += f"\n{result.rejected:,} rows could not be scored: {place}"
    if result.blank:
        text += f"\n{result.blank:,} empty lines were skipped"
    return text


def _print(text: str) -> None:
    sys.stderr.write(f"{text}\n")
