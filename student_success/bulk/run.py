"""Read, score and write the files of one run in order, and move the output to its place."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from student_success.bulk.checkpoint import OutputFiles, Progress, WorkFolder
from student_success.bulk.csv_reader import cut_csv
from student_success.bulk.executors import Executor, Pending
from student_success.bulk.output import header, rejects_header
from student_success.bulk.types import Format, Layout, Position, Slice, Task
from student_success.core.errors import ConflictError

CHECKPOINT_SECONDS = 1.0
"""Most work that a kill can cost. Each checkpoint waits for the disk."""
LARGE_BYTES = 16 << 20
"""Input a worker above which importing Arrow takes less time than its CSV reader saves."""
READ_AHEAD = 2
"""Slices a worker that are read in advance: bounds the memory."""

OnProgress = Callable[[int, int], None]
"""Called with the number of a file and the offset reached in it, see `Position`."""


@dataclass(frozen=True, slots=True)
class Source:
    """One input file and its output.

    Attributes
    ----------
    name
        Of the output: relative to the output folder, or of the single output file.
    stamp
        Size and modification time at the start of the run.
    """

    path: Path
    name: Path
    layout: Layout
    begin: Position
    output: Format
    stamp: tuple[int, int]

    @property
    def rejects(self) -> Path:
        """Name of the file of rejected rows."""
        return rejects_name(self.name)


@dataclass(frozen=True, slots=True)
class Totals:
    """Numbers of rows of a whole run, including the parts that interrupted runs finished."""

    scored: int
    rejected: int
    blank: int


def rejects_name(output: Path) -> Path:
    """Return where the rejected rows of an output are written."""
    return output.with_name(f"{output.stem}.bad.csv")


def stamp_of(path: Path) -> tuple[int, int]:
    """Return size and modification time, to notice a change of the file."""
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def score_files(
    work: WorkFolder,
    sources: list[Source],
    executor: Executor,
    *,
    with_inputs: bool,
    on_progress: OnProgress,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> None:
    """Score what is not scored yet. Afterwards all files are in `work.ready`.

    Raises
    ------
    ConflictError
        If an input changed during the run.
    """
    waiting: deque[tuple[int, Slice | None, Pending | None]] = deque()
    # Also close the files on an error: a later run continues from what was written.
    with contextlib.ExitStack() as open_files:
        writer = _Writer(work, sources, open_files, with_inputs, on_progress, checkpoint_seconds)
        large = sum(source.stamp[0] for source in sources) > LARGE_BYTES * executor.workers
        for number, part in _unscored_slices(work, sources):
            pending = None
            if part is not None:
                source = sources[number]
                task = Task(source.layout, source.output, with_inputs, large)
                pending = executor.submit(part, task)
            waiting.append((number, part, pending))
            while len(waiting) > READ_AHEAD * executor.workers:
                writer.write(*waiting.popleft())
        while waiting:
            writer.write(*waiting.popleft())


def totals(work: WorkFolder) -> Totals:
    """Return the numbers of rows so far."""
    files = work.progress.values()
    return Totals(
        sum(file.scored for file in files),
        sum(file.rejected for file in files),
        sum(file.blank for file in files),
    )


def move_to_output(
    work: WorkFolder, sources: list[Source], output: Path, *, is_folder: bool
) -> None:
    """Move the finished files to their final place; every step is a rename that can be repeated."""
    work.record_commit()
    if is_folder:
        if work.ready.exists():
            old = work.folder / "old"
            if output.exists():
                shutil.rmtree(old, ignore_errors=True)
                output.rename(old)
            work.ready.rename(output)
    else:
        (source,) = sources
        rejects = rejects_name(output)
        if (work.ready / source.name).exists():
            if (work.ready / source.rejects).exists():
                (work.ready / source.rejects).replace(rejects)
            elif not work.progress[0].rejected:
                # Rejects of an earlier run into the same output.
                rejects.unlink(missing_ok=True)
            (work.ready / source.name).replace(output)
    _sync(output.parent)
    shutil.rmtree(work.folder)


class _Writer:
    """Append the scored slices in order."""

    def __init__(
        self,
        work: WorkFolder,
        sources: list[Source],
        open_files: contextlib.ExitStack,
        with_inputs: bool,
        on_progress: OnProgress,
        checkpoint_seconds: float,
    ) -> None:
        self._work, self._sources, self._open_files = work, sources, open_files
        self._with_inputs, self._on_progress = with_inputs, on_progress
        self._checkpoint_seconds = checkpoint_seconds
        self._files: OutputFiles | None = None
        self._checkpoint_at = time.monotonic()

    def write(self, number: int, part: Slice | None, pending: Pending | None) -> None:
        """Append the result of one slice; None marks the end of a file."""
        if part is None or pending is None:
            self._finish(number)
            return
        files = self._files or self._open(number)
        scored, progress = pending(), files.progress
        files.add(
            scored.predictions,
            scored.rejects,
            offset=part.end.offset,
            line=part.end.line,
            scored=progress.scored + scored.scored,
            rejected=progress.rejected + scored.rejected,
            blank=progress.blank + scored.blank,
        )
        if time.monotonic() - self._checkpoint_at >= self._checkpoint_seconds:
            files.checkpoint()
            self._checkpoint_at = time.monotonic()
        self._on_progress(number, part.end.offset)

    def _open(self, number: int) -> OutputFiles:
        source, progress = self._sources[number], self._work.progress.get(number)
        start = Progress(source.begin.offset, source.begin.line)
        files = self._files = OutputFiles(self._work, number, progress or start)
        self._open_files.callback(files.close)
        if progress is None:
            # An Arrow stream holds the names of its columns.
            csv = source.output == "csv"
            titles = header(source.layout, with_inputs=self._with_inputs) if csv else b""
            files.add(titles, rejects_header(source.layout))
        return files

    def _finish(self, number: int) -> None:
        # No open files: an earlier run had scored the whole input, and was killed after that.
        if self._files is not None:
            self._files.checkpoint(read=True)
            self._files.close()
            self._files = None
        source, progress = self._sources[number], self._work.progress[number]
        if stamp_of(source.path) != source.stamp:
            raise ConflictError(
                f"{source.path.name} changed while it was read, and no output was written. Run "
                "the command again."
            )
        predictions, rejects = self._work.predictions(number), self._work.rejects(number)
        ready = self._work.ready / source.name
        ready.parent.mkdir(parents=True, exist_ok=True)
        if progress.rejected:
            _move_once(rejects, self._work.ready / source.rejects)
        else:
            rejects.unlink(missing_ok=True)
        if source.output == "parquet" and predictions.exists():
            from student_success.bulk.parquet import write_parquet

            temporary = predictions.with_suffix(".parquet")
            write_parquet(predictions, temporary)
            _sync(temporary)
            temporary.replace(ready)
            predictions.unlink()
        else:
            _move_once(predictions, ready)
        self._work.record(number, replace(progress, finished=True))


def _unscored_slices(work: WorkFolder, sources: list[Source]) -> Iterator[tuple[int, Slice | None]]:
    """Yield the number of a file and a slice, file after file, and None at the end of each."""
    for number, source in enumerate(sources):
        progress = work.progress.get(number)
        if progress is not None and progress.finished:
            continue
        if progress is None or not progress.read:
            start = source.begin if progress is None else Position(progress.offset, progress.line)
            for part in _cut(source, start):
                yield number, part
        yield number, None


def _cut(source: Source, start: Position) -> Iterator[Slice]:
    if source.layout.format == "csv":
        return cut_csv(source.path, source.layout, start)
    from student_success.bulk.parquet import cut_parquet

    return cut_parquet(source.path, start)


def _move_once(path: Path, destination: Path) -> None:
    """Rename a file, unless a run that was killed had done it already."""
    if path.exists():
        path.replace(destination)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
