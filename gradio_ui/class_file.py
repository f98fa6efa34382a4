"""Turn a class list into pupils, and name every cell that stands in the way."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from pydantic import ValidationError

from gradio_ui.rows import BadCell, Pupil
from gradio_ui.sheet import Sheet
from student_success.students import EXAMPLE, FEATURES, Feature, StudentFeatures

REFERENCE = "reference"
_REFERENCES = {"reference", "ref", "id", "code", "pupil", "eleve"}
_UNKNOWN = {"", "-", "?", "na", "n/a", "nan", "null", "none", "inconnu", "unknown"}
_SHOWN = 40


@dataclass(frozen=True, slots=True)
class ClassFile:
    """What a file holds: the pupils that can be scored, what is wrong, what was left aside."""

    pupils: tuple[Pupil, ...]
    bad: tuple[BadCell, ...]
    ignored: tuple[str, ...]
    rows: int


def understand(sheet: Sheet) -> ClassFile:
    """Read the lines of a sheet as pupils.

    Columns are found by name (also by their French or English label), in any order; columns
    that are not features are left aside, so the UCI files can be used as they are.
    """
    places, ignored, bad = _columns(sheet.header)
    if bad:
        return ClassFile((), tuple(bad), tuple(ignored), len(sheet.lines))
    pupils: list[Pupil] = []
    for line, cells in sheet.lines:
        pupil, wrong = _row(line, cells, places)
        bad.extend(wrong)
        if pupil is not None:
            pupils.append(pupil)
    return ClassFile(tuple(pupils), tuple(bad), tuple(ignored), len(sheet.lines))


def template() -> tuple[list[str], list[list[Any]]]:
    """Return the header and the example rows of an empty class list."""
    names = [REFERENCE, *(feature.name for feature in FEATURES)]
    example = [EXAMPLE[name] for name in names[1:]]
    unknown = [None if name in ("G1", "G2") else EXAMPLE[name] for name in names[1:]]
    return names, [["A-01", *example], ["A-02", *unknown]]


def _columns(header: list[str]) -> tuple[dict[str, int], list[str], list[BadCell]]:
    names = _names()
    places: dict[str, int] = {}
    ignored: list[str] = []
    bad: list[BadCell] = []
    for place, title in enumerate(header):
        name = names.get(_folded(title))
        if name is None:
            if title:
                ignored.append(title[:_SHOWN])
        elif name in places:
            bad.append(BadCell(None, title[:_SHOWN], "", "cell.twice", {}))
        else:
            places[name] = place
    for feature in FEATURES:
        if feature.name not in places and not feature.nullable:
            bad.append(BadCell(None, feature.name, "", "cell.no_column", {}))
    return places, ignored, bad


@cache
def _names() -> Mapping[str, str]:
    names = dict.fromkeys(_REFERENCES, REFERENCE)
    for feature in FEATURES:
        label = feature.about.label
        for word in (feature.name, label.fr, label.en):
            names[_folded(word)] = feature.name
    return names


@cache
def _choices(name: str) -> Mapping[str, Any]:
    """Every way to write a choice: its code, or its words in either language."""
    feature = _feature(name)
    ways: dict[str, Any] = {_folded(code): code for code in feature.categories}
    for value, text in (feature.about.choices or {}).items():
        for word in (str(value), text.fr, text.en):
            ways[_folded(word)] = value
    if set(feature.categories) == {"yes", "no"}:
        short = {"y": "yes", "o": "yes", "1": "yes", "true": "yes", "vrai": "yes"}
        ways |= short | {"n": "no", "0": "no", "false": "no", "faux": "no"}
    return ways


def value_of(feature: Feature, text: str) -> Any:
    """Read what a person wrote for a feature; what is not understood stays text.

    A decimal comma is a point, 17.0 is 17, and an unknown grade is None.
    """
    written = text.strip()
    if feature.nullable and _folded(written) in _UNKNOWN:
        return None
    if feature.about.choices is not None:
        folded = _folded(written)
        if folded.endswith(".0") and folded[:-2] in _choices(feature.name):
            folded = folded[:-2]
        return _choices(feature.name).get(folded, written)
    try:
        number = float(written.replace(",", ".").replace("\u202f", "").replace("\u00a0", ""))
    except ValueError:
        return written
    if feature.kind == "integer" and number.is_integer() and abs(number) < 1e9:
        return int(number)
    return number


def problems(error: ValidationError) -> dict[str, tuple[str, dict[str, Any]]]:
    """Return, for each field that pydantic refused, the text that says why."""
    found: dict[str, tuple[str, dict[str, Any]]] = {}
    for problem in error.errors(include_url=False, include_input=False):
        name = str(problem["loc"][0]) if problem["loc"] else "G1"
        if problem["type"] == "grades_out_of_order":
            found.setdefault(name, ("cell.order", {}))
        elif name == REFERENCE:
            found.setdefault(name, ("cell.reference", {}))
        else:
            found.setdefault(name, _why(_feature(name), problem["type"]))
    return found


@cache
def _feature(name: str) -> Feature:
    return next(feature for feature in FEATURES if feature.name == name)


def _why(feature: Feature, kind: str) -> tuple[str, dict[str, Any]]:
    if kind == "missing":
        return "cell.missing", {}
    if feature.about.choices is not None and feature.kind == "category":
        return "cell.choice", {"choices": ", ".join(feature.categories)}
    low, high = int(feature.low or 0), int(feature.high or 0)
    whole = "cell.whole" if feature.kind == "integer" else "cell.grade"
    return whole, {"low": low, "high": high}


def _row(
    line: int, cells: list[str], places: Mapping[str, int]
) -> tuple[Pupil | None, list[BadCell]]:
    values: dict[str, Any] = {}
    texts: dict[str, str] = {}
    for name, place in places.items():
        text = cells[place] if place < len(cells) else ""
        texts[name] = text
        if name == REFERENCE:
            continue
        feature = _feature(name)
        if text or feature.nullable:
            values[name] = value_of(feature, text)
    reference = texts.get(REFERENCE, "")
    body = values | ({REFERENCE: reference} if reference else {})
    try:
        StudentFeatures.model_validate(body)
    except ValidationError as error:
        return None, [
            BadCell(line, name, texts.get(name, "")[:_SHOWN], key, filled)
            for name, (key, filled) in problems(error).items()
        ]
    return Pupil(line, reference, body), []


def _folded(word: str) -> str:
    """Compare words without regard to case, accents or the blanks around them."""
    plain = unicodedata.normalize("NFKD", word.replace("–", "-").replace("’", "'"))
    return " ".join("".join(c for c in plain if not unicodedata.combining(c)).casefold().split())
