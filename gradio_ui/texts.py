"""The texts of the interface in both languages, and how numbers and times are written."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Literal, get_args

from student_success.domain.profile import Text
from student_success.domain.tables.problems import TEXTS as PROBLEMS

Language = Literal["fr", "en"]
LANGUAGES: tuple[Language, ...] = get_args(Language)
DEFAULT_LANGUAGE: Language = "fr"
TABLE = Path(__file__).with_name("texts.toml")

_NARROW_SPACE = "\u202f"
_NO_BREAK_SPACE = "\u00a0"


@cache
def table() -> Mapping[str, Mapping[str, str]]:
    """Return every text: key to language to text; those about tables start with ``problem.``."""
    with TABLE.open("rb") as file:
        texts = {
            f"{section}.{name}": dict(translations)
            for section, entries in tomllib.load(file).items()
            for name, translations in entries.items()
        }
    return texts | {f"problem.{code}": dict(text) for code, text in PROBLEMS.items()}


class Texts:
    """The texts of one language, with its way of writing numbers and dates."""

    def __init__(self, language: Language) -> None:
        self.language: Language = language

    def __call__(self, key: str, /, **values: object) -> str:
        """Return a text with its placeholders filled in; raises KeyError for an unknown key."""
        text = table()[key][self.language]
        return self.spaced(text.format_map(values) if values else text)

    def count(self, key: str, number: int, /, **values: object) -> str:
        """Return a text with ``{count}``; of one thing, the text of the same key with ``_one``."""
        is_one = number == 1 or (number == 0 and self.language == "fr")
        chosen = f"{key}_one" if is_one else key
        return self(chosen, count=self.number(number, 0), **values)

    def keys(self, section: str) -> list[str]:
        """Return the keys of one section, in the order of the file."""
        return [key for key in table() if key.startswith(f"{section}.")]

    def has(self, key: str) -> bool:
        """Tell whether there is such a text."""
        return key in table()

    def get(self, key: str, default: str) -> str:
        """Return a text, or `default` if there is none."""
        return self(key) if self.has(key) else default

    def many(self, section: str, *names: str) -> list[str]:
        """Return the texts of one section, such as the titles of a table."""
        return [self(f"{section}.{name}") for name in names]

    def choose(self, text: Text) -> str:
        """Return a bilingual text of the profile in this language."""
        return self.spaced({"fr": text.fr, "en": text.en}[self.language])

    def listed(self, parts: Iterable[str]) -> str:
        """Join parts of a sentence that may hold commas themselves."""
        return self.spaced((" ; " if self.language == "fr" else "; ").join(parts))

    def number(self, value: float, digits: int = 1, *, short: bool = False) -> str:
        """Write a number with `digits` decimals; if `short`, without trailing zeros."""
        written = f"{value:,.{digits}f}"
        if digits and short:
            written = written.rstrip("0").rstrip(".")
        if self.language == "en":
            return written
        return written.replace(",", _NARROW_SPACE).replace(".", ",")

    def percent(self, share: float) -> str:
        """Write a share between 0 and 1; never as 0 % or 100 %, which would promise certainty."""
        whole = round(100 * share)
        sign = f"{_NARROW_SPACE}%" if self.language == "fr" else "%"
        if whole >= 100:
            return f">\N{NO-BREAK SPACE}99{sign}"
        return f"<\N{NO-BREAK SPACE}1{sign}" if whole < 1 else f"{whole}{sign}"

    def timestamp(self, iso: str) -> str:
        """Write a time of the API (ISO 8601) in UTC."""
        at = datetime.fromisoformat(iso.replace("Z", "+00:00")).astimezone(UTC)
        pattern = "%d/%m/%Y %H:%M" if self.language == "fr" else "%d %b %Y %H:%M"
        return f"{at.strftime(pattern)} UTC"

    def spaced(self, text: str) -> str:
        """Keep French punctuation on the line of the word before it."""
        if self.language != "fr":
            return text
        text = re.sub(r" ([:;?!»%])", rf"{_NO_BREAK_SPACE}\1", text)
        return text.replace("« ", f"«{_NO_BREAK_SPACE}")


def preferred_language(accept_language: str) -> Language:
    """Choose the language of an ``Accept-Language`` header; French if it names neither."""
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
    return best[1] if best else DEFAULT_LANGUAGE
