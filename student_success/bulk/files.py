"""The files of a run: inputs and outputs, what is finished, and what must not be replaced."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal

from student_success.bulk.output import open_output
from student_success.bulk.reader import (
    ENDINGS,
    OUTPUT_COLUMNS,
    PARQUET,
    RECORDED_COLUMNS,
    REJECT_COLUMNS,
    SHEETS,
    Layout,
    ending_of,
    read_layout,
)
from student_success.bulk.scoring import Scored
from student_success.core.errors import (
    BusyError,
    ConflictError,
    DatasetError,
    InvalidInputError,
    NotFoundError,
)
from student_success.core.state_files import flush, lock
from student_success.domain.tables.columns import Choices

JOURNAL = ".scored.jsonl"
COUNTED = ("scored", "rejected", "blank")


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
    overwrite: bool = False
    record: str | None = None
    choices: Choices = field(default_factory=Choices)


@dataclass(frozen=True, slots=True)
class Source:
    """One input file and its output; `stamp` is size and modification time at the start."""

    path: Path
    output: Path
    layout: Layout
    stamp: tuple[int, int]

    @property
    def rejects(self) -> Path:
        """The file of the rejected rows."""
        stem = self.output.name.removesuffix(ending_of(self.output) or "")
        return self.output.with_name(f"{stem}.bad.csv")


class Output:
    """The files of one input: predictions and rejected rows, written beside their final place."""

    def __init__(self, source: Source, options: ScoreOptions) -> None:
        self.source = source
        self.counts: Counter[str] = Counter()
        self._parts = {path: _temporary(path) for path in (source.rejects, source.output)}
        source.output.parent.mkdir(parents=True, exist_ok=True)
        recorded = RECORDED_COLUMNS if options.record is not None else ()
        inputs = source.layout.inputs if options.with_inputs else ()
        titles = (*OUTPUT_COLUMNS, *recorded, *inputs)
        self._rejects = open_output(
            self._parts[source.rejects], ".csv", (*REJECT_COLUMNS, *source.layout.titles)
        )
        self._predictions = open_output(self._parts[source.output], source.output.name, titles)

    def write(self, scored: Scored) -> None:
        """Append the result of a part."""
        self._predictions.write(scored.predictions)
        self._rejects.write(scored.rejects)
        self.counts.update({name: getattr(scored, name) for name in COUNTED})

    def finish(self, note: Callable[[Mapping[str, Any]], None]) -> None:
        """Note the output in the journal, then move the files to their place, predictions last."""
        self._predictions.close()
        self._rejects.close()
        if stamp_of(self.source.path) != self.source.stamp:
            raise ConflictError(
                f"{self.source.path.name} changed while it was read, and {self.source.output.name} "
                "was not written. Run the command again."
            )
        if not self.counts["rejected"]:
            # Rejects of an earlier run into the same output are outdated.
            self.source.rejects.unlink(missing_ok=True)
            self._parts.pop(self.source.rejects).unlink()
        for temporary in self._parts.values():
            flush(temporary)
        # A rename keeps size and time. A run that is killed before it starts the file again.
        written = stamp_of(self._parts[self.source.output])
        note(
            {
                "output": str(self.source.output),
                "stamp": self.source.stamp,
                "written": written,
                **self.counts,
            }
        )
        for path, temporary in self._parts.items():
            temporary.replace(path)
        flush(self.source.output.parent)
        self._parts = {}

    def abandon(self) -> None:
        """Remove the files if they are not complete."""
        if self._parts:
            self._predictions.close()
            self._rejects.close()
        for temporary in self._parts.values():
            temporary.unlink(missing_ok=True)


def open_sources(options: ScoreOptions) -> list[Source]:
    """Recognise every input, and choose the name of its output.

    Raises
    ------
    StudentSuccessError
        If one cannot be read, or two would have the same output.
    """
    if not options.input.is_dir():
        return [_open_source(options, options.input, options.output)]
    sources = []
    for path in sorted(options.input.rglob("*")):
        ending = ending_of(path)
        if ending is not None and path.is_file() and not path.name.startswith("."):
            name = path.relative_to(options.input)
            kept = ".csv" if ending in SHEETS else ending
            wanted = kept if options.to is None or options.to in kept else f".{options.to}"
            name = name.with_name(name.name[: -len(ending)] + wanted)
            sources.append(_open_source(options, path, options.output / name))
    if not sources:
        raise NotFoundError(f"There is no table ({', '.join(ENDINGS)}) in {options.input.name}.")
    names = Counter(name for source in sources for name in (source.output, source.rejects))
    if max(names.values()) > 1:
        raise ConflictError("Two files of the folder would be written to the same name.")
    return sources


def _open_source(options: ScoreOptions, path: Path, output: Path) -> Source:
    ending = ending_of(output)
    if ending_of(path) is None:
        raise DatasetError(f"The name of {path.name} ends in none of {', '.join(ENDINGS)}.")
    if ending is None or ending in SHEETS:
        raise InvalidInputError("The output must be a .csv, .csv.gz, .csv.zst or .parquet file.")
    if options.to is not None and (options.to == "parquet") != (ending in PARQUET):
        raise InvalidInputError("--to contradicts the file name extension of OUT.")
    stamp = stamp_of(path)
    return Source(path, output, read_layout(path, options.choices), stamp)


def protect_inputs(options: ScoreOptions, sources: list[Source]) -> None:
    """Refuse an output that would replace, delete or contain an input."""
    source, output = options.input.resolve(), options.output.resolve()
    if source in output.parents:
        raise InvalidInputError("The output is inside the input folder. Choose another output.")
    replaced = {output}
    if not options.input.is_dir():
        rejects = sources[0].rejects.resolve()
        replaced |= {rejects, *map(_temporary, (output, rejects))}
    for path in (source, *(each.path.resolve() for each in sources)):
        if replaced & {path, *path.parents}:
            raise InvalidInputError(
                f"Writing {options.output.name} would replace or delete the input {path.name}. "
                "Nothing was changed. Choose another output."
            )


def refuse_to_replace(sources: list[Source], *, overwrite: bool) -> None:
    """Refuse to replace what another run wrote, and a person may have changed since."""
    for source in sources:
        # A run that was killed may have moved the rejects to their place already.
        rejects = () if _temporary(source.output).exists() else (source.rejects,)
        existing = [path.name for path in (source.output, *rejects) if path.exists()]
        if existing and not overwrite:
            raise ConflictError(
                f"{' and '.join(existing)} of another run exists already and was not changed; "
                "--overwrite replaces it."
            )


def stamp_of(path: Path) -> tuple[int, int]:
    """Return size and modification time, to notice a change of the file."""
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _stamp_if_there(path: Path) -> list[int]:
    return [*stamp_of(path)] if path.exists() else []


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.part")


@contextlib.contextmanager
def open_journal(output: Path, *, is_folder: bool) -> Iterator[IO[str]]:
    """Open and lock the journal of an output: one line for each file that is finished."""
    journal = output / JOURNAL if is_folder else output.with_name(f".{output.name}{JOURNAL}")
    if output.exists() and output.is_dir() != is_folder:
        raise ConflictError(
            f"{output.name} exists already and was not changed: a folder cannot replace a file, "
            "nor a file a folder."
        )
    journal.parent.mkdir(parents=True, exist_ok=True)
    with journal.open("a+", encoding="utf-8") as file:
        try:
            lock(file)
        except BlockingIOError:
            raise BusyError(f"Another run is writing {output.name}. Nothing was changed.") from None
        yield file


def finished(journal: IO[str], sources: list[Source], plan: str) -> dict[Path, Counter[str]]:
    """Return the outputs that an earlier run wrote from the same input, model and options."""
    entries = {}
    journal.seek(0)
    for text in journal:
        # A kill may have left an incomplete line.
        with contextlib.suppress(ValueError):
            entry = json.loads(text)
            entries[entry["output"]] = entry
    done = {}
    for source in sources:
        entry = entries.get(str(source.output), {})
        # A person may have changed or removed the output.
        expected = plan, [*source.stamp], _stamp_if_there(source.output)
        if (entry.get("plan"), entry.get("stamp"), entry.get("written")) == expected:
            done[source.output] = Counter({name: entry.get(name, 0) for name in COUNTED})
    return done
