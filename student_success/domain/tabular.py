"""Tables of pupils as people write them: titles of columns, and the meaning of a text cell.

The class lists of the web interface and the files of bulk scoring are read by the same rules.
Values are validated by `StudentFeatures`, not here.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from student_success.domain.students import FEATURES, Feature

DELIMITERS = ";,\t|"
REFERENCE = "reference"
SHOWN = 40
"""Number of characters of a text that a message repeats."""
_REFERENCES = {"reference", "ref", "id", "code", "pupil", "eleve"}
_UNKNOWN = {"", "-", "?", "na", "n/a", "nan", "null", "none", "inconnu", "unknown"}


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of a table.

    Attributes
    ----------
    positions
        Index of the column of each feature, and of `REFERENCE`, that the table has.
    ignored
        Titles that name no feature.
    duplicates, missing
        Problems of the table: titles of a feature that has a column already, and required features
        without a column.
    """

    positions: Mapping[str, int]
    ignored: tuple[str, ...]
    duplicates: tuple[str, ...]
    missing: tuple[str, ...]


def find_columns(titles: Iterable[str]) -> Columns:
    """Find the columns of the features, by name or by French or English label, in any order."""
    names = _names()
    positions: dict[str, int] = {}
    ignored: list[str] = []
    duplicates: list[str] = []
    for index, title in enumerate(titles):
        name = names.get(normalise(title))
        if name is None:
            if title:
                ignored.append(title[:SHOWN])
        elif name in positions:
            duplicates.append(title[:SHOWN])
        else:
            positions[name] = index
    missing = [f.name for f in FEATURES if f.name not in positions and not f.nullable]
    return Columns(positions, tuple(ignored), tuple(duplicates), tuple(missing))


def parse_cell(feature: Feature, text: str) -> Any:
    """Convert the text of a cell to the value of a feature; a text that cannot be converted stays.

    A decimal comma counts as a point, 17.0 as 17, and an unknown grade as None.
    """
    stripped = text.strip()
    if feature.nullable and normalise(stripped) in _UNKNOWN:
        return None
    if feature.about.choices is not None:
        choices = _choices(feature.name)
        chosen = normalise(stripped)
        if chosen.endswith(".0") and chosen[:-2] in choices:
            chosen = chosen[:-2]
        if chosen in choices or feature.kind == "category":
            return choices.get(chosen, stripped)
    if "_" in stripped:
        # Only Python reads 1_0 as a number.
        return stripped
    try:
        number = float(stripped.replace(",", ".").replace("\u202f", "").replace("\u00a0", ""))
    except ValueError:
        return stripped
    if feature.kind == "integer" and number.is_integer() and abs(number) < 1e9:
        return int(number)
    return number


def request_body_of(texts: Mapping[str, str]) -> dict[str, Any]:
    """Return the body of ``POST /predict`` for a row of cells; it is not validated."""
    body: dict[str, Any] = {}
    for name, text in texts.items():
        if name == REFERENCE:
            if text:
                body[REFERENCE] = text
        elif text or feature_of(name).nullable:
            body[name] = parse_cell(feature_of(name), text)
    return body


@cache
def feature_of(name: str) -> Feature:
    """Return the feature with a name."""
    return next(feature for feature in FEATURES if feature.name == name)


def guess_delimiter(text: str) -> str:
    """Return the delimiter that occurs most often in the first line that is not blank."""
    first = next((line for line in text.splitlines() if line.strip()), "")
    return max(DELIMITERS, key=first.count)


def normalise(word: str) -> str:
    """Return a word without case, accents and surrounding blanks, for comparison."""
    plain = unicodedata.normalize("NFKD", word.replace("–", "-").replace("’", "'"))
    return " ".join("".join(c for c in plain if not unicodedata.combining(c)).casefold().split())


@cache
def _names() -> Mapping[str, str]:
    names = dict.fromkeys(_REFERENCES, REFERENCE)
    for feature in FEATURES:
        label = feature.about.label
        for word in (feature.name, label.fr, label.en):
            names[normalise(word)] = feature.name
    return names


@cache
def _choices(name: str) -> Mapping[str, Any]:
    """Return the value of each way to write a choice: its code, or its text in either language."""
    feature = feature_of(name)
    values: dict[str, Any] = {normalise(code): code for code in feature.categories}
    for value, text in (feature.about.choices or {}).items():
        for word in (str(value), text.fr, text.en):
            values[normalise(word)] = value
    if set(feature.categories) == {"yes", "no"}:
        short = {"y": "yes", "o": "yes", "1": "yes", "true": "yes", "vrai": "yes"}
        values |= short | {"n": "no", "0": "no", "false": "no", "faux": "no"}
    return values
