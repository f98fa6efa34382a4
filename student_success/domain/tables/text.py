"""Read text files as lines of cells: encoding, delimiter, quotes."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice, pairwise

from student_success.domain.tables.grid import (
    HEADER_LINES,
    MAX_CELL_CHARACTERS,
    Grid,
    collect_lines,
)
from student_success.domain.tables.problems import SHOWN, refuse

DELIMITERS = ";,\t|"
ENCODINGS = ("utf-8", "cp1252", "iso8859-15", "cp1250", "cp1251", "mac-roman", "cp850", "utf-16")
"""Encodings to choose from. After UTF-8, the first that gives words of letters is guessed.

charset-normalizer was measured for this and is not used: of eight short class lists with a dozen
accented letters it named the encoding of one.
"""
_GUESSED = ENCODINGS[1:-1]
_TYPOGRAPHY = set("’‘“”«»–—…€°º\u00a0\u202f")
_OTHER_FORMATS = re.compile(
    r"\s*<[!?a-z]|%PDF-|\{\\rtf|ID;P[^\n]*\n[BCFOP];|\s*[\[{]\s*[\[{\"]", re.IGNORECASE
)
"""Beginnings of HTML, XML, PDF, RTF, SYLK and JSON, which programs also write as ``.xls``."""
_UNLIKELY = re.compile("(?<=[^\\W\\d_])[ˆ˜‘“]")
_WORDS_SHOWN = 5
_MIN_UTF16_LETTERS = 8
_SAMPLE_CHARACTERS = 1 << 16

Recognise = Callable[[Sequence[str]], int]
"""Count the titles in a line that name a column."""


def read_text(
    data: bytes, recognise: Recognise, *, encoding: str | None = None, max_rows: int
) -> Grid:
    """Read a text file.

    Parameters
    ----------
    encoding
        If None, it is recognised by the content.

    Raises
    ------
    TableError
        If it is not a table of text.
    """
    text, used, words = decode(data, encoding)
    text = text.removeprefix("\ufeff")
    if _OTHER_FORMATS.match(text):
        raise refuse("format")
    delimiter, dropped = choose_delimiter(text, recognise)
    if dropped:
        text = text.partition("\n")[2]
    rows = _records(text, delimiter, dropped)
    lines = collect_lines(rows, max_rows=max_rows)
    if lines and all(len(cells) == 1 for _, cells in lines[:HEADER_LINES]):
        inner = next(csv.reader([lines[0][1][0]], delimiter=_most_frequent(lines[0][1][0])))
        if recognise(inner) > 1:
            raise refuse("quoted_lines")
    return Grid(lines, encoding=used, guessed=words, delimiter=delimiter)


def decode(data: bytes, encoding: str | None = None) -> tuple[str, str, tuple[str, ...]]:
    """Return the text of a file, its encoding, and words that show whether it was guessed rightly.

    Raises
    ------
    TableError
        If the encoding is not recognised, is not the given one, or is not the same everywhere.
    """
    used = encoding or _marked_encoding(data)
    if used is None:
        try:
            text, used = data.decode("utf-8"), "utf-8"
        except UnicodeDecodeError:
            used = guess_encoding(data)
            text = data.decode(used)
            return text, used, _words(text)
    else:
        try:
            text = data.decode(used)
        except (UnicodeDecodeError, LookupError):
            raise refuse("not_in_encoding", encoding=used) from None
    if "\x00" in text:
        raise refuse("not_a_table")
    return text, used, ()


def guess_encoding(data: bytes) -> str:
    """Return the likeliest encoding of whole lines that are not UTF-8.

    Raises
    ------
    TableError
        If none gives words, or some of the lines are UTF-8.
    """
    if b"\0" in data:
        raise refuse("not_a_table")
    _refuse_mixture(data)
    likely = [name for name in _GUESSED if _gives_words(data, name)]
    # A capital within a word is mostly an accented letter of another encoding.
    used = next((name for name in likely if _has_usual_words(data.decode(name))), None)
    used = used or next(iter(likely), None)
    if used is None:
        raise refuse("encoding")
    return used


def _marked_encoding(data: bytes) -> str | None:
    """Return the encoding that a byte order mark or the zero bytes of UTF-16 show."""
    if data.startswith(codecs.BOM_UTF8):
        return "utf-8-sig"
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    sample = data[:1024]
    half = len(sample) // 2
    if half < _MIN_UTF16_LETTERS:
        return None
    if sample[1::2].count(0) > 0.8 * half and not sample[::2].count(0):
        return "utf-16-le"
    if sample[::2].count(0) > 0.8 * half and not sample[1::2].count(0):
        return "utf-16-be"
    return None


def _refuse_mixture(data: bytes) -> None:
    """Refuse a file with lines in UTF-8 and lines in another encoding."""
    first_other, any_utf8 = 0, False
    for number, line in enumerate(re.split(rb"\r\n|\r|\n", data), 1):
        if line.isascii():
            continue
        try:
            line.decode("utf-8")
            any_utf8 = True
        except UnicodeDecodeError:
            first_other = first_other or number
    if any_utf8 and first_other:
        raise refuse("mixed_encodings", at=first_other)


def _gives_words(data: bytes, encoding: str) -> bool:
    """Tell whether the letters beyond ASCII are letters in an encoding, as words have them.

    In the Latin encodings three of them in a row are a sign of another alphabet.
    """
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError:
        return False
    beyond = {letter for letter in text if letter > "\x7f"} - _TYPOGRAPHY
    latin = encoding == "cp1251" or not re.search(r"[^\x00-\x7f’‘“”«»–—…€°º\xa0]{3}", text)
    return latin and all(letter.isalpha() for letter in beyond)


def _has_usual_words(text: str) -> bool:
    pairs = pairwise(text)
    capital = any(after > "\x7f" and after.isupper() and a.islower() for a, after in pairs)
    return not capital and not _UNLIKELY.search(text)


def _words(text: str) -> tuple[str, ...]:
    words = re.findall(r"[^\s;,|\"]*[^\x00-\x7f][^\s;,|\"]*", text)
    return tuple(dict.fromkeys(word[:SHOWN] for word in words))[:_WORDS_SHOWN]


def choose_delimiter(text: str, recognise: Recognise) -> tuple[str, int]:
    """Return the delimiter of a text, and 1 if its first line only states that (``sep=;``)."""
    first = text.partition("\n")[0]
    stated = re.fullmatch(r'"?sep=(.)"?\r?', first, re.IGNORECASE)
    if stated:
        return stated[1], 1
    sample = text[:_SAMPLE_CHARACTERS]
    return max(DELIMITERS, key=lambda delimiter: _fit(sample, delimiter, recognise)), 0


def _fit(sample: str, delimiter: str, recognise: Recognise) -> tuple[int, int, int]:
    """Return how well a delimiter fits: titles recognised, lines as wide as the header, cells."""
    try:
        reader = csv.reader(io.StringIO(sample, newline=""), delimiter=delimiter)
        rows = list(islice((row for row in reader if any(row)), HEADER_LINES))
    except csv.Error:
        return 0, 0, 0
    header: list[str] = max(rows, key=recognise, default=[])
    width = len(header)
    alike = sum(len(row) == width for row in rows) if width > 1 else 0
    return recognise(header), alike, width


def _most_frequent(line: str) -> str:
    return max(DELIMITERS, key=line.count)


def _records(text: str, delimiter: str, line: int) -> Iterator[tuple[int, list[str]]]:
    for before, cells in records(io.StringIO(text, newline=""), delimiter):
        first = line + before + 1
        if isinstance(cells, csv.Error):
            raise refuse("broken_quotes", at=first)
        yield first, [cell.strip()[:MAX_CELL_CHARACTERS] for cell in cells]


def records(lines: Iterable[str], delimiter: str) -> Iterator[tuple[int, list[str] | csv.Error]]:
    """Yield how many lines are above each record, and its cells.

    In place of the cells of lines that are not CSV, yield the error; the next record begins below
    the lines that were read. No line is read before it is needed.
    """
    # Strict: otherwise a quote that is never closed swallows all lines after it.
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        before = reader.line_num
        cells: list[str] | csv.Error
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            cells = error
        yield before, cells
