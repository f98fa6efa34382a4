"""The files of a run: inputs and outputs, what is finished, and what must not be replaced."""

from __future__ import annotations

import contextlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple

from student_success.bulk.output import (
    OUTPUT_COLUMNS,
    PARQUET,
    RECORDED_COLUMNS,
    REJECT_COLUMNS,
    input_titles,
    open_output,
)
from student_success.bulk.reader import read_layout
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
from student_success.domain.tables.reader import Table

SHEETS = (".xlsx", ".xls", ".ods", ".zip")
ENDINGS = (".csv", ".csv.gz", ".csv.zst", *PARQUET, *SHEETS)
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


class Source(NamedTuple):
    """One input file and its outputs; `stamp` is its size and modification time at the start."""

    path: Path
    output: Path
    rejects: Path
    layout: Table
    stamp: tuple[int, int]


def ending_of(path: Path) -> str:
    """Return the ending of a file name that says its format; "" for another ending."""
    return next((end for end in reversed(ENDINGS) if path.name.lower().endswith(end)), "")


def open_sources(options: ScoreOptions) -> list[Source]:
    """Recognise every input, and choose the name of its output.

    Raises
    ------
    StudentSuccessError
        If one cannot be read, two would have the same output, or an input would be replaced.
    """
    if not options.input.is_dir():
        sources = [_open_source(options, options.input, options.output)]
    else:
        sources = [
            _open_source(options, path, options.output / _output_name(options, path))
            for path in sorted(options.input.rglob("*"))
            if ending_of(path) and path.is_file() and not path.name.startswith(".")
        ]
    if not sources:
        raise NotFoundError(f"There is no table ({', '.join(ENDINGS)}) in {options.input.name}.")
    names = Counter(name for source in sources for name in (source.output, source.rejects))
    if max(names.values()) > 1:
        raise ConflictError("Two files of the folder would be written to the same name.")
    _protect_inputs(options, sources)
    return sources


def _output_name(options: ScoreOptions, path: Path) -> Path:
    ending = ending_of(path)
    kept = ".csv" if ending in SHEETS else ending
    wanted = kept if options.to is None or options.to in kept else f".{options.to}"
    return path.relative_to(options.input).with_name(path.name[: -len(ending)] + wanted)


def _open_source(options: ScoreOptions, path: Path, output: Path) -> Source:
    ending = ending_of(output)
    if not ending_of(path):
        raise DatasetError(f"The name of {path.name} ends in none of {', '.join(ENDINGS)}.")
    if ending in ("", *SHEETS):
        raise InvalidInputError("The output must be a .csv, .csv.gz, .csv.zst or .parquet file.")
    if options.to is not None and (options.to == "parquet") != (ending in PARQUET):
        raise InvalidInputError("--to contradicts the file name extension of OUT.")
    rejects = output.with_name(f"{output.name[: -len(ending)]}.bad.csv")
    stamp = _stamp_of(path)
    return Source(path, output, rejects, read_layout(path, options.choices), stamp)


def _protect_inputs(options: ScoreOptions, sources: Sequence[Source]) -> None:
    """Refuse an output that would replace, delete or contain an input."""
    source, output = options.input.resolve(), options.output.resolve()
    if source in output.parents:
        raise InvalidInputError("The output is inside the input folder. Choose another output.")
    written = [path.resolve() for each in sources for path in (each.output, each.rejects)]
    replaced = {output, *written, *map(_temporary, written)}
    for path in (source, *(each.path.resolve() for each in sources)):
        if replaced & {path, *path.parents}:
            raise InvalidInputError(
                f"Writing {options.output.name} would replace or delete the input {path.name}. "
                "Nothing was changed. Choose another output."
            )


def refuse_to_replace(sources: Sequence[Source]) -> None:
    """Refuse to replace what another run wrote, and a person may have changed since."""
    for source in sources:
        # A run that was killed may have moved the rejects to their place already.
        rejects = () if _temporary(source.output).exists() else (source.rejects,)
        if existing := [path.name for path in (source.output, *rejects) if path.exists()]:
            raise ConflictError(
                f"{' and '.join(existing)} of another run exists already and was not changed; "
                "--overwrite replaces it."
            )


def _stamp_of(path: Path) -> tuple[int, int]:
    """Return size and modification time, to notice a change of the file."""
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.part")


@contextlib.contextmanager
def open_journal(output: Path, *, is_folder: bool) -> Iterator[IO[str]]:
    """Open and lock the journal of an output: one line for each file that is finished."""
    path = output / JOURNAL if is_folder else output.with_name(f".{output.name}{JOURNAL}")
    if output.exists() and output.is_dir() != is_folder:
        raise ConflictError(
            f"{output.name} exists already and was not changed: a folder cannot replace a file, "
            "nor a file a folder."
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as journal:
        try:
            lock(journal)
        except BlockingIOError:
            raise BusyError(f"Another run is writing {output.name}. Nothing was changed.") from None
        yield journal


def finished(journal: IO[str], sources: Sequence[Source], plan: str) -> dict[Path, Counter[str]]:
    """Return the numbers of rows of the inputs that are finished, by the path of the input."""
    entries: dict[str, dict[str, Any]] = {}
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
        if source.output.exists() and _entry(source, plan, source.output).items() <= entry.items():
            done[source.path] = Counter({name: entry[name] for name in COUNTED})
    return done


def _entry(source: Source, plan: str, written: Path) -> dict[str, Any]:
    """Return what the journal says of an output; `plan` is what it depends on beside the input."""
    stamps = {"stamp": [*source.stamp], "written": [*_stamp_of(written)]}
    return {"output": str(source.output), "plan": plan, **stamps}


@contextlib.contextmanager
def open_outputs(
    source: Source, options: ScoreOptions, journal: IO[str], plan: str, totals: Counter[str]
) -> Iterator[Callable[[Scored], None]]:
    """Yield what writes the result of a part; move the files to their place after the block.

    They are written beside it, and removed if they are not complete. Predictions are moved last.
    """
    temporary = {path: _temporary(path) for path in (source.rejects, source.output)}
    recorded = () if options.record is None else RECORDED_COLUMNS
    inputs = input_titles(source.layout) if options.with_inputs else ()
    titles = (*REJECT_COLUMNS, *source.layout.titles), (*OUTPUT_COLUMNS, *recorded, *inputs)
    counts = Counter[str]()
    source.output.parent.mkdir(parents=True, exist_ok=True)
    try:
        with (
            closing(open_output(temporary[source.rejects], ".csv", titles[0])) as rejects,
            closing(
                open_output(temporary[source.output], source.output.name, titles[1])
            ) as predictions,
        ):

            def write(scored: Scored) -> None:
                predictions.write(scored.predictions)
                rejects.write(scored.rejects)
                counts.update({name: getattr(scored, name) for name in COUNTED})

            yield write
        if _stamp_of(source.path) != source.stamp:
            raise ConflictError(
                f"{source.path.name} changed while it was read, and {source.output.name} "
                "was not written. Run the command again."
            )
        if not counts["rejected"]:
            # Rejects of an earlier run into the same output are outdated.
            source.rejects.unlink(missing_ok=True)
            temporary.pop(source.rejects).unlink()
        for path in temporary.values():
            flush(path)
        # A rename keeps size and time. A run that is killed before it starts the file again.
        entry = _entry(source, plan, temporary[source.output]) | counts
        journal.write(f"\n{json.dumps(entry)}\n")
        journal.flush()
        os.fsync(journal.fileno())
        for path, written in temporary.items():
            written.replace(path)
        flush(source.output.parent)
        totals.update(counts)
    finally:
        for path in temporary.values():
            path.unlink(missing_ok=True)
