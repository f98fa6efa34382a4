"""`python -m student_success score IN OUT`: answers for whole files of pupils."""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from student_success.bulk.checkpoint import Work, working
from student_success.bulk.csv_reader import SLICE_BYTES, open_csv
from student_success.bulk.executors import Engine, Here, dask, local
from student_success.bulk.model_choice import Model, choose
from student_success.bulk.run import (
    Source,
    Totals,
    gather,
    put_in_place,
    refused_name,
    stamp_of,
    totals,
)
from student_success.bulk.types import KINDS, Kind, Layout, Position
from student_success.core.errors import (
    ConfigurationError,
    ConflictError,
    DatasetError,
    InvalidInputError,
    NotFoundError,
)
from student_success.core.settings import Settings


def score(settings: Settings, asked: argparse.Namespace, *, prepare: Callable[[], None]) -> str:
    """Score a file or a folder; return what to say of it.

    Raises
    ------
    StudentSuccessError
        If it cannot be done, in words for whoever asked.
    """
    started = time.monotonic()
    _check(asked)
    folder = asked.input.is_dir()
    sources = _sources(asked, folder=folder)
    model = choose(settings, asked.model, prepare=prepare)
    plan = {
        "model": [model.version, model.fingerprint, model.alarm_recall],
        "inputs": [[str(s.path), str(s.name), s.output, *s.stamp] for s in sources],
        "encodings": [source.layout.encoding for source in sources],
        "with_inputs": asked.with_inputs,
    }
    with working(asked.output, plan) as work:
        _may_write(asked, work)
        done = sum(one.scored + one.bad for one in work.progress.values())
        if done:
            _say(f"Going on with the run that was interrupted, after {done:,} rows.")
        elif work.discarded:
            _say(
                "The input, the model or the options are not those of the interrupted run: afresh."
            )
        if not work.committing:
            with _engine(asked, model, sources) as engine, _bar(sources, work) as told:
                gather(work, sources, engine, with_inputs=asked.with_inputs, told=told)
        found = totals(work)
        put_in_place(work, sources, asked.output, folder=folder)
    seconds = time.monotonic() - started
    rate = (found.scored + found.bad - done) / seconds
    return _summary(asked.output, model, found, seconds, rate, folder=folder)


def _check(asked: argparse.Namespace) -> None:
    if not asked.input.exists():
        raise NotFoundError(f"There is no {asked.input.name}.")
    if asked.workers is not None and asked.workers < 1:
        raise InvalidInputError("--workers is 1 or more.")
    if asked.output == asked.input or asked.input in asked.output.parents:
        raise InvalidInputError("The output would lie within the input.")
    if asked.encoding is not None:
        try:
            alike = ',\n"'.encode(asked.encoding) == b',\n"'
        except LookupError:
            alike = False
        if not alike:
            raise InvalidInputError("--encoding names no encoding that CSV files are read in.")


def _may_write(asked: argparse.Namespace, work: Work) -> None:
    if asked.output.exists() and not asked.overwrite and not work.committing:
        if not work.progress:
            _forget(work)
        raise ConflictError(f"{asked.output.name} is there already; --overwrite replaces it.")
    if asked.output.exists() and asked.output.is_dir() != asked.input.is_dir():
        raise ConflictError(f"{asked.output.name} is there already, and of another kind.")


def _forget(work: Work) -> None:
    shutil.rmtree(work.folder)


def _sources(asked: argparse.Namespace, *, folder: bool) -> list[Source]:
    if not folder:
        kind = _kind(asked.output)
        if asked.to not in (None, kind):
            raise InvalidInputError("--to is not what the ending of OUT says.")
        return [_source(asked, asked.input, Path(asked.output.name), kind)]
    found: list[Source] = []
    for path in sorted(asked.input.rglob("*")):
        own = KINDS.get(path.suffix.lower())
        if own is not None and path.is_file() and not path.name.startswith("."):
            name = path.relative_to(asked.input)
            output: Kind = asked.to or own
            if output != own:
                name = name.with_suffix(f".{output}")
            found.append(_source(asked, path, name, output))
    if not found:
        raise NotFoundError(f"There is no CSV or Parquet file in {asked.input.name}.")
    names = [name for one in found for name in (one.name, one.refused)]
    if len(set(names)) < len(names):
        raise ConflictError("Two files of the folder would be written to the same name.")
    return found


def _source(asked: argparse.Namespace, path: Path, name: Path, output: Kind) -> Source:
    stamp = stamp_of(path)
    layout, begin = _opened(path, asked.encoding)
    if "parquet" in (layout.kind, output):
        _need_parquet()
    return Source(path, name, layout, begin, output, stamp)


def _opened(path: Path, encoding: str | None) -> tuple[Layout, Position]:
    if _kind(path) == "csv":
        return open_csv(path, encoding=encoding)
    _need_parquet()
    from student_success.bulk.parquet import open_parquet

    return open_parquet(path)


def _kind(path: Path) -> Kind:
    kind = KINDS.get(path.suffix.lower())
    if kind is None:
        raise DatasetError(f"{path.name} ends neither in .csv nor in .parquet.")
    return kind


def _need_parquet() -> None:
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        raise ConfigurationError(
            'Parquet files need pyarrow: install "student-success[scale]" (in a checkout '
            "requirements/full.txt), or use CSV."
        ) from None


@contextlib.contextmanager
def _engine(asked: argparse.Namespace, model: Model, sources: list[Source]) -> Iterator[Engine]:
    if asked.engine == "dask":
        with dask(model, asked.scheduler) as cluster:
            yield cluster
        return
    workers = asked.workers or len(os.sched_getaffinity(0))
    small = sum(source.stamp[0] for source in sources) <= SLICE_BYTES
    if workers == 1 or small:
        yield Here(model)
        return
    with local(model, workers) as processes:
        yield processes


@contextlib.contextmanager
def _bar(sources: list[Source], work: Work) -> Iterator[Callable[[int, int], None]]:
    """Show how far it is, where somebody can see it; yields what to call with each step."""
    try:
        from tqdm import tqdm
    except ImportError:
        yield lambda number, offset: None
        return
    totals = [_end(source) for source in sources]
    done = [0] * len(sources)
    for number, progress in work.progress.items():
        done[number] = progress.offset
    with tqdm(
        total=sum(totals),
        initial=sum(done),
        disable=not sys.stderr.isatty(),
        unit="B" if all(source.layout.kind == "csv" for source in sources) else "",
        unit_scale=True,
    ) as bar:

        def told(number: int, offset: int) -> None:
            bar.update(offset - done[number])
            done[number] = offset

        yield told


def _end(source: Source) -> int:
    if source.layout.kind == "csv":
        return source.stamp[0]
    from student_success.bulk.parquet import rows_of

    return rows_of(source.path)


def _summary(
    output: Path, model: Model, found: Totals, seconds: float, rate: float, *, folder: bool
) -> str:
    said = (
        f"{output}: {found.scored:,} pupils, model {model.version}, "
        f"in {seconds:.1f} s ({rate:,.0f} rows/s)"
    )
    if found.bad:
        where = "*.bad.csv in it" if folder else refused_name(output).name
        said += f"\n{found.bad:,} rows could not be scored: {where}"
    if found.blank:
        said += f"\n{found.blank:,} empty lines were passed over"
    return said


def _say(words: str) -> None:
    sys.stderr.write(f"{words}\n")
