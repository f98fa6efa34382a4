"""How people write pupils down: the names of columns, and what a cell of text means.

The class lists of the web interface and the files of bulk scoring are read by the same rules, so
that a file means the same to both. Whether a value is right is for `StudentFeatures` to say.
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
"""Characters of a foreign text that are repeated in a message."""
_REFERENCES = {"reference", "ref", "id", "code", "pupil", "eleve"}
_UNKNOWN = {"", "-", "?", "na", "n/a", "nan", "null", "none", "inconnu", "unknown"}


@dataclass(frozen=True, slots=True)
class Columns:
    """What the titles of a table stand for.

    Attributes
    ----------
    places
        Place of each feature, and of `REFERENCE`, that has a column.
    ignored
        Titles that mean nothing here.
    twice, missing
        What makes the table unreadable: titles of a column that stands there already, and features
        without a column that cannot do without.
    """

    places: Mapping[str, int]
    ignored: tuple[str, ...]
    twice: tuple[str, ...]
    missing: tuple[str, ...]


def find_columns(titles: Iterable[str]) -> Columns:
    """Find the features among titles, by name or by French or English label, in any order."""
    names = _names()
    places: dict[str, int] = {}
    ignored: list[str] = []
    twice: list[str] = []
    for place, title in enumerate(titles):
        name = names.get(folded(title))
        if name is None:
            if title:
                ignored.append(title[:SHOWN])
        elif name in places:
            twice.append(title[:SHOWN])
        else:
            places[name] = place
    missing = [f.name for f in FEATURES if f.name not in places and not f.nullable]
    return Columns(places, tuple(ignored), tuple(twice), tuple(missing))


def value_of(feature: Feature, text: str) -> Any:
    """Read what a person wrote for a feature; what is not understood stays text.

    A decimal comma is a point, 17.0 is 17, and an unknown grade is None.
    """
    written = text.strip()
    if feature.nullable and folded(written) in _UNKNOWN:
        return None
    if feature.about.choices is not None:
        choices = _choices(feature.name)
        chosen = folded(written)
        if chosen.endswith(".0") and chosen[:-2] in choices:
            chosen = chosen[:-2]
        if chosen in choices or feature.kind == "category":
            return choices.get(chosen, written)
    if "_" in written:
        # A number to Python alone.
        return written
    try:
        number = float(written.replace(",", ".").replace("\u202f", "").replace("\u00a0", ""))
    except ValueError:
        return written
    if feature.kind == "integer" and number.is_integer() and abs(number) < 1e9:
        return int(number)
    return number


def body_of(texts: Mapping[str, str]) -> dict[str, Any]:
    """Return the body of ``POST /predict`` that a row of cells stands for, right or wrong."""
    body: dict[str, Any] = {}
    for name, text in texts.items():
        if name == REFERENCE:
            if text:
                body[REFERENCE] = text
        elif text or feature_of(name).nullable:
            body[name] = value_of(feature_of(name), text)
    return body


@cache
def feature_of(name: str) -> Feature:
    """Return a feature by its name."""
    return next(feature for feature in FEATURES if feature.name == name)


def folded(word: str) -> str:
    """Compare words without regard to case, accents or the blanks around them."""
    plain = unicodedata.normalize("NFKD", word.replace("–", "-").replace("’", "'"))
    return " ".join("".join(c for c in plain if not unicodedata.combining(c)).casefold().split())


@cache
def _names() -> Mapping[str, str]:
    names = dict.fromkeys(_REFERENCES, REFERENCE)
    for feature in FEATURES:
        label = feature.about.label
        for word in (feature.name, label.fr, label.en):
            names[folded(word)] = feature.name
    return names


@cache
def _choices(name: str) -> Mapping[str, Any]:
    """Every way to write a choice: its code, or its words in either language."""
    feature = feature_of(name)
    ways: dict[str, Any] = {folded(code): code for code in feature.categories}
    for value, text in (feature.about.choices or {}).items():
        for word in (str(value), text.fr, text.en):
            ways[folded(word)] = value
    if set(feature.categories) == {"yes", "no"}:
        short = {"y": "yes", "o": "yes", "1": "yes", "true": "yes", "vrai": "yes"}
        ways |= short | {"n": "no", "0": "no", "false": "no", "faux": "no"}
    return ways
