"""Read tables of pupils of any size in parts of whole rows: text, spreadsheets and Parquet.

Encoding, delimiter, header and columns are recognised by the reader of class lists from the
beginning of the file, so that a table means the same to both.
"""

from __future__ import annotations

import contextlib
import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from student_success.bulk.arrow import pack, texts_of
from student_success.core.errors import DatasetError
from student_success.domain.students import PREDICTED
from student_success.domain.tables.cells import normalise
from student_success.domain.tables.columns import REFERENCE, Choices, find_columns, pupil_columns
from student_success.domain.tables.outcomes import PREDICTION, SESSION
from student_success.domain.tables.problems import TableError
from student_success.domain.tables.pupils import read_pupil, repeated_references
from student_success.domain.tables.reader import Table, read_table
from student_success.domain.tables.spreadsheet import OLE_START, ZIP_START
from student_success.domain.tables.text import complete_records

PARQUET, SHEETS = (".parquet", ".pq"), (".xlsx", ".xls", ".ods", ".zip")
ENDINGS = (".csv", ".csv.gz", ".csv.zst", *PARQUET, *SHEETS)
COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
OUTPUT_COLUMNS = (
    *("line", REFERENCE, PREDICTED, "decision", "pass_probability"),
    *("interval_low", "interval_high", "horizon", "at_risk", "model_version", "unusual"),
)
"""Columns of the output: the line of the pupil in the input, then the fields of `/predict`."""
RECORDED_COLUMNS = (SESSION, PREDICTION)
"""Further columns of predictions that are recorded in the history."""
REJECT_COLUMNS = ("line", "column", "problem")
PART_CHARACTERS, PART_ROWS = 2 << 20, 32_768
LONGEST_RECORD = 64 << 20
"""In characters; a file with a longer line is not a table."""
_SAMPLE_BYTES, _SAMPLE_ROWS, _SHEET_ROWS = 1 << 20, 1_000, 1 << 20
_OWN_TITLES = frozenset(map(normalise, (*OUTPUT_COLUMNS, *RECORDED_COLUMNS, *REJECT_COLUMNS)))


@dataclass(frozen=True, slots=True)
class Layout:
    """How to read one input file.

    Attributes
    ----------
    titles
        Of all its columns.
    positions
        Index of the column of each feature, and of the reference, that the file has.
    is_text
        Whether its parts are CSV text; false for Parquet.
    notes
        What a person should know, for example which columns are not used.
    """

    titles: tuple[str, ...]
    positions: Mapping[str, int]
    is_text: bool = True
    delimiter: str = ","
    encoding: str = "utf-8"
    header_line: int = 1
    notes: tuple[str, ...] = ()

    @property
    def inputs(self) -> dict[str, int]:
        """Output name and index of the columns that `--with-inputs` repeats."""
        own = (*OUTPUT_COLUMNS, *RECORDED_COLUMNS)
        return {
            f"{title}_input" if title in own else title: index
            for index, title in enumerate(self.titles)
            if title and index != self.positions.get(REFERENCE)
        }


@dataclass(frozen=True, slots=True)
class Reject:
    """A row that cannot be scored: its line, the columns concerned, the reason, its cells."""

    line: int
    column: str
    problem: str
    cells: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Part:
    """Consecutive rows of a file.

    Attributes
    ----------
    content
        UTF-8 text of whole CSV records, or an Arrow stream.
    line
        Of the first row; of Parquet, its number.
    done
        Number of bytes of the file that are read by the end of this part.
    rejects
        Rows of a spreadsheet that show something else than they hold.
    """

    content: bytes
    line: int
    done: int
    rejects: tuple[Reject, ...] = ()


def ending_of(path: Path) -> str | None:
    """Return the ending of a file name that says its format; None for another ending."""
    return next((end for end in reversed(ENDINGS) if path.name.lower().endswith(end)), None)


def read_layout(path: Path, choices: Choices | None = None) -> Layout:
    """Recognise the columns of a file.

    Raises
    ------
    DatasetError
        If it is not a readable table, or its columns cannot be used without a choice.
    """
    with _named(path):
        if ending_of(path) in PARQUET:
            with pq.ParquetFile(path) as file:
                titles = tuple(file.schema_arrow.names)
                first = next(file.iter_batches(batch_size=_SAMPLE_ROWS), None)
            columns = [] if first is None else [texts_of(column) for column in first.columns]
            cells = [list(row) for row in zip(*(c.to_pylist() for c in columns), strict=True)]
            found = find_columns(titles, pupil_columns(), cells, choices, _OWN_TITLES)
            layout = Layout(titles, found.positions, False, notes=tuple(map(str, found.notes)))
        else:
            table = _sheet(path, choices) if _is_sheet(path) else _sample(path, choices)
            found = table.columns
            layout = Layout(
                (*table.titles, *[""] * (table.width - len(table.titles))),
                found.positions,
                delimiter=table.delimiter or ",",
                encoding=(choices and choices.encoding) or table.encoding or "utf-8",
                header_line=table.header_line,
                notes=tuple(map(str, (*table.notes, *repeated_references(table)))),
            )
    if problems := (*found.problems, *found.questions):
        raise DatasetError(
            f"The columns of {path.name} cannot be used: {' '.join(map(str, problems))} "
            "--mapping FILE says what each column holds."
        )
    return layout


def read_parts(
    path: Path, layout: Layout, choices: Choices | None = None, *, size: int | None = None
) -> Iterator[Part]:
    """Yield the rows of a file in parts; one empty part if there are none.

    Parameters
    ----------
    size
        Of a part: in characters of a text file, in rows of a Parquet file.

    Raises
    ------
    DatasetError
        If the file is damaged.
    """
    with _named(path):
        if layout.is_text and _is_sheet(path):
            yield _sheet_part(path, layout, choices)
        else:
            parts = _text_parts if layout.is_text else _parquet_parts
            yield from parts(path, layout, size)


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Raise the errors of the readers with the name of the file."""
    try:
        yield
    except TableError as error:
        raise DatasetError(f"{path.name}: {error.message}") from error
    except (OSError, UnicodeError, pa.ArrowException) as error:
        raise DatasetError(f"{path.name} cannot be read, or not to its end: {error}.") from error


def _unpacked(path: Path, raw: Any) -> Any:
    compression = COMPRESSIONS.get(path.suffix.lower())
    return raw if compression is None else pa.CompressedInputStream(raw, compression)


def _start(path: Path, size: int | None = None) -> bytes:
    with path.open("rb") as raw:
        return bytes(_unpacked(path, raw).read(size))


def _is_sheet(path: Path) -> bool:
    return _start(path, len(OLE_START)).startswith((ZIP_START, OLE_START))


def _sample(path: Path, choices: Choices | None) -> Table:
    """Read the beginning of a text file as a class list."""
    sample = _start(path, _SAMPLE_BYTES)
    if len(sample) == _SAMPLE_BYTES:
        end = (sample.rfind(b"\n") if b"\n" in sample else sample.rfind(b"\r")) + 1
        # In UTF-16 a character has two bytes.
        sample = sample[: end + end % 2 if b"\0" in sample else end]
    if choices is not None and choices.encoding is not None:
        # A row in another encoding is rejected later.
        try:
            sample = sample.decode(choices.encoding, "replace").encode()
        except LookupError:
            raise DatasetError(f"There is no encoding {choices.encoding}.") from None
        choices = replace(choices, encoding="utf-8")
    while True:
        try:
            return _table(sample, choices, _SAMPLE_BYTES)
        except TableError as error:
            # A row that is not CSV is rejected later; the header above it can be read.
            at = error.problem.values.get("at", 1) - 1
            if error.problem.code != "broken_quotes" or not at:
                raise
            sample = b"".join(sample.splitlines(keepends=True)[:at])


def _sheet(path: Path, choices: Choices | None) -> Table:
    return _table(_start(path), choices, _SHEET_ROWS)


def _table(data: bytes, choices: Choices | None, max_rows: int) -> Table:
    return read_table(
        data,
        pupil_columns(),
        choices,
        max_rows=max_rows,
        own_titles=_OWN_TITLES,
        rows_required=False,
    )


def _sheet_part(path: Path, layout: Layout, choices: Choices | None) -> Part:
    """Return the rows of a spreadsheet as text, each on its line."""
    table = _sheet(path, choices)
    text, rejects, at = io.StringIO(), [], layout.header_line + 1
    writer = csv.writer(text, lineterminator="\n")
    for line, cells in table.rows:
        marked = table.marked(line)
        found = read_pupil(line, table.texts(cells), marked) if marked else None
        if isinstance(found, list):
            words = "; ".join(f"{problem.column}: {problem.text.en}" for problem in found)
            columns = "; ".join(problem.column for problem in found)
            rejects.append(Reject(line, columns, words, tuple(cells)))
        else:
            text.write("\n" * (line - at))
            writer.writerow(" ".join(cell.splitlines()) for cell in cells)
            at = line + 1
    content = text.getvalue().encode()
    return Part(content, layout.header_line + 1, path.stat().st_size, tuple(rejects))


def _text_parts(path: Path, layout: Layout, size: int | None) -> Iterator[Part]:
    with path.open("rb") as raw:
        # Bytes that cannot be decoded are kept, so that their row is rejected as it is.
        text = io.TextIOWrapper(_unpacked(path, raw), layout.encoding, "surrogateescape")
        for _ in range(layout.header_line - 1):
            text.readline()
        header = csv.reader(iter(text.readline, ""), delimiter=layout.delimiter)
        next(header)
        first = line = layout.header_line + header.line_num
        rest = ""
        while block := text.read(size or PART_CHARACTERS):
            rest += block
            if cut := complete_records(rest, layout.delimiter):
                yield Part(rest[:cut].encode("utf-8", "surrogateescape"), line, raw.tell())
                line, rest = line + rest.count("\n", 0, cut), rest[cut:]
            elif len(rest) > LONGEST_RECORD:
                raise DatasetError(f"{path.name} is not a table: line {line} does not end.")
        if rest or line == first:
            yield Part(rest.encode("utf-8", "surrogateescape"), line, raw.tell())


def _parquet_parts(path: Path, _: object, size: int | None) -> Iterator[Part]:
    length = path.stat().st_size
    with pq.ParquetFile(path) as file:
        line, total = 1, file.metadata.num_rows
        for batch in file.iter_batches(batch_size=size or PART_ROWS, use_threads=False):
            yield Part(pack(batch), line, length * (line - 1 + batch.num_rows) // total)
            line += batch.num_rows
        if not total:
            yield Part(pack(file.schema_arrow.empty_table()), line, length)
