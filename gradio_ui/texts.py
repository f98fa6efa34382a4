"""What a reader sees, in both languages: the table `texts.toml`, and how numbers are written."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

from student_success.domain.students import Text

Language = Literal["fr", "en"]
LANGUAGES: tuple[Language, ...] = get_args(Language)
DEFAULT: Language = "fr"
TABLE = Path(__file__).with_name("texts.toml")

_NARROW = "\u202f"
_WIDE = "\u00a0"


@cache
def table() -> Mapping[str, Mapping[str, str]]:
    """Return every text: key to language to words."""
    with TABLE.open("rb") as file:
        return {
            f"{room}.{name}": dict(words)
            for room, texts in tomllib.load(file).items()
            for name, words in texts.items()
        }


class Words:
    """The texts of one language, with its way of writing numbers and dates."""

    def __init__(self, language: Language) -> None:
        self.language: Language = language

    def __call__(self, key: str, /, **values: object) -> str:
        """Return a text, its placeholders filled in; raises KeyError for an unknown key."""
        words = table()[key][self.language]
        filled = words.format_map(values) if values else words
        return _spaced(filled) if self.language == "fr" else filled

    def has(self, key: str) -> bool:
        """Tell whether there is such a text."""
        return key in table()

    def of(self, text: Text | Mapping[str, str]) -> str:
        """Return the reader's side of a bilingual text."""
        mapping = {"fr": text.fr, "en": text.en} if isinstance(text, Text) else text
        words = str(mapping[self.language])
        return _spaced(words) if self.language == "fr" else words

    def number(self, value: float, digits: int = 1, *, short: bool = False) -> str:
        """Write a number with `digits` decimals, or where `short` with at most that many."""
        written = f"{value:,.{digits}f}"
        if digits and short:
            written = written.rstrip("0").rstrip(".")
        if self.language == "en":
            return written
        return written.replace(",", _NARROW).replace(".", ",")

    def percent(self, share: float) -> str:
        """Write a share between 0 and 1, never as a certainty: 99 % stays the most there is."""
        whole = round(100 * share)
        sign = f"{_NARROW}%" if self.language == "fr" else "%"
        if whole >= 100:
            return f"> 99{sign}"
        return f"< 1{sign}" if whole < 1 else f"{whole}{sign}"

    def moment(self, iso: str) -> str:
        """Write a time of the API (ISO 8601) in UTC."""
        at = datetime.fromisoformat(iso.replace("Z", "+00:00")).astimezone(UTC)
        shape = "%d/%m/%Y %H:%M" if self.language == "fr" else "%d %b %Y %H:%M"
        return f"{at.strftime(shape)} UTC"


def _spaced(words: str) -> str:
    """Keep French punctuation on the line of its word."""
    words = re.sub(r" ([:;?!»%])", rf"{_WIDE}\1", words)
    return words.replace("« ", f"«{_WIDE}")


def preferred(accept_language: str) -> Language:
    """Choose the language of an ``Accept-Language`` header; French where it names neither."""
    best: tuple[float, Language] | None = None
    for part in accept_language.split(","):
        tag, _, weight = part.partition(";q=")
        name = tag.strip().lower().split("-")[0]
        try:
            quality = float(weight) if weight else 1.0
        except ValueError:
            continue
        for language in LANGUAGES:
            if name == language and quality > 0 and (best is None or quality > best[0]):
                best = (quality, language)
    return best[1] if best else DEFAULT


def plain(value: Any) -> str:
    """Write any JSON value for a table cell; nothing for null."""
    return "" if value is None else str(value)
