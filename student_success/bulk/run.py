"""One run: read, score, write in order, and put the files in place at the end."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from student_success.bulk.checkpoint import Gathering, Progress, Work
from student_success.bulk.csv_reader import cut_csv
from student_success.bulk.executors import Engine, Pending
from student_success.bulk.output import header, refused_header
from student_success.bulk.types import Kind, Layout, Position, Slice, Task
from student_success.core.errors import ConflictError

CHECKPOINT_SECONDS = 1.0
"""How much of the work a kill may cost; each checkpoint waits for the disk."""
LARGE_BYTES = 16 << 20
"""Input a worker, from which on loading Arrow takes less time than it saves."""
AHEAD = 2
"""Slices a worker that are read before their turn: bounds the memory taken."""


@dataclass(frozen=True, slots=True)
class Source:
    """One input file, and what becomes of it.

    Attributes
    ----------
    name
        Of the answers, within the output folder; of a single file, its own.
    stamp
        Size and time of change when the run began.
    """

    path: Path
    name: Path
    layout: Layout
    begin: Position
    output: Kind
    stamp: tuple[int, int]

    @property
    def refused(self) -> Path:
        """Name of the rows that are set aside."""
        return refused_name(self.name)


@dataclass(frozen=True, slots=True)
class Totals:
    """What a run came to; rows of runs before it counted in."""

    scored: int
    bad: int
    blank: int


def refused_name(name: Path) -> Path:
    """Return where rows of a file are set aside."""
    return name.with_name(f"{name.stem}.bad.csv")


def stamp_of(path: Path) -> tuple[int, int]:
    """Return what changes when a file does."""
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def gather(
    work: Work,
    sources: list[Source],
    engine: Engine,
    *,
    with_inputs: bool,
    told: Callable[[int, int], None],
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> None:
    """Score whatever of the files is not scored yet; all of them are ready afterwards.

    Parameters
    ----------
    told
        Called with the number of a file and how far it has come, see `Position`.

    Raises
    ------
    ConflictError
        If an input changed meanwhile.
    """
    waiting: deque[tuple[int, Slice | None, Pending | None]] = deque()
    # Closed on the way out too: what is written may be read again after a kill, not before.
    with contextlib.ExitStack() as open_files:
        writer = _Writer(work, sources, open_files, with_inputs, told, checkpoint_seconds)
        large = sum(source.stamp[0] for source in sources) > LARGE_BYTES * engine.workers
        for number, part in _slices(work, sources):
            pending = None
            if part is not None:
                source = sources[number]
                task = Task(source.layout, source.output, with_inputs, large)
                pending = engine.submit(part, task)
            waiting.append((number, part, pending))
            while len(waiting) > AHEAD * engine.workers:
                writer.settle(*waiting.popleft())
        while waiting:
            writer.settle(*waiting.popleft())


def totals(work: Work) -> Totals:
    """Return what the files came to so far."""
    found = work.progress.values()
    return Totals(
        sum(one.scored for one in found),
        sum(one.bad for one in found),
        sum(one.blank for one in found),
    )


def put_in_place(work: Work, sources: list[Source], output: Path, *, folder: bool) -> None:
    """Move what is ready to where it belongs; each step is a rename, and can be done again."""
    work.note_commit()
    if folder:
        if work.ready.exists():
            old = work.folder / "old"
            if output.exists():
                shutil.rmtree(old, ignore_errors=True)
                output.rename(old)
            work.ready.rename(output)
    else:
        (source,) = sources
        refused = refused_name(output)
        if (work.ready / source.name).exists():
            if (work.ready / source.refused).exists():
                (work.ready / source.refused).replace(refused)
            elif not work.progress[0].bad:
                # Of a run before this one; nothing is set aside now.
                refused.unlink(missing_ok=True)
            (work.ready / source.name).replace(output)
    _to_disk(output.parent)
    shutil.rmtree(work.folder)


class _Writer:
    def __init__(
        self,
        work: Work,
        sources: list[Source],
        open_files: contextlib.ExitStack,
        with_inputs: bool,
        told: Callable[[int, int], None],
        checkpoint_seconds: float,
    ) -> None:
        self._work, self._sources, self._open_files = work, sources, open_files
        self._with_inputs, self._told = with_inputs, told
        self._checkpoint_seconds = checkpoint_seconds
        self._gathering: Gathering | None = None
        self._checked = time.monotonic()

    def settle(self, number: int, part: Slice | None, pending: Pending | None) -> None:
        """Write one slice's answers; at the end of a file, make it ready."""
        if part is None or pending is None:
            self._end(number)
            return
        gathering = self._gathering or self._begin(number)
        done, so_far = pending.result(), gathering.progress
        gathering.add(
            done.answers,
            done.refused,
            offset=part.end.offset,
            line=part.end.line,
            scored=so_far.scored + done.scored,
            bad=so_far.bad + done.bad,
            blank=so_far.blank + done.blank,
        )
        if time.monotonic() - self._checked >= self._checkpoint_seconds:
            gathering.checkpoint()
            self._checked = time.monotonic()
        self._told(number, part.end.offset)

    def _begin(self, number: int) -> Gathering:
        source, begun = self._sources[number], self._work.progress.get(number)
        fresh = Progress(source.begin.offset, source.begin.line, 0, 0)
        gathering = self._gathering = Gathering(self._work, number, begun or fresh)
        self._open_files.callback(gathering.close)
        if begun is None:
            # An Arrow stream brings its own names.
            csv = source.output == "csv"
            first = header(source.layout, with_inputs=self._with_inputs) if csv else b""
            gathering.add(first, refused_header(source.layout))
        return gathering

    def _end(self, number: int) -> None:
        # None where a run before this one had read it all, and was killed after that.
        if self._gathering is not None:
            self._gathering.checkpoint(read=True)
            self._gathering.close()
            self._gathering = None
        source, progress = self._sources[number], self._work.progress[number]
        if stamp_of(source.path) != source.stamp:
            raise ConflictError(
                f"{source.path.name} changed while it was read: run the command again."
            )
        answers, refused = self._work.answers(number), self._work.refused(number)
        ready = self._work.ready / source.name
        ready.parent.mkdir(parents=True, exist_ok=True)
        if progress.bad:
            _move(refused, self._work.ready / source.refused)
        else:
            refused.unlink(missing_ok=True)
        if source.output == "parquet" and answers.exists():
            from student_success.bulk.parquet import finish_parquet

            half = answers.with_suffix(".parquet")
            finish_parquet(answers, half)
            _to_disk(half)
            half.replace(ready)
            answers.unlink()
        else:
            _move(answers, ready)
        self._work.note(number, replace(progress, finished=True))


def _slices(work: Work, sources: list[Source]) -> Iterator[tuple[int, Slice | None]]:
    """Yield what is to be scored, file after file, and None at the end of each."""
    for number, source in enumerate(sources):
        begun = work.progress.get(number)
        if begun is not None and begun.finished:
            continue
        if begun is None or not begun.read:
            start = source.begin if begun is None else Position(begun.offset, begun.line)
            for part in _cut(source, start):
                yield number, part
        yield number, None


def _cut(source: Source, start: Position) -> Iterator[Slice]:
    if source.layout.kind == "csv":
        return cut_csv(source.path, source.layout, start)
    from student_success.bulk.parquet import cut_parquet

    return cut_parquet(source.path, start)


def _move(path: Path, to: Path) -> None:
    """Rename; it may have been done before a kill."""
    if path.exists():
        path.replace(to)


def _to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
