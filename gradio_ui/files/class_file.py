"""Turn a class list into pupils, and name every cell that stands in the way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from gradio_ui.files.rows import BadCell, Pupil
from gradio_ui.files.spreadsheet import Sheet
from student_success.domain.students import EXAMPLE, FEATURES, Feature, StudentFeatures
from student_success.domain.tabular import REFERENCE, SHOWN, body_of, feature_of, find_columns


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
    columns = find_columns(sheet.header)
    bad = [BadCell(None, title, "", "cell.twice", {}) for title in columns.twice]
    bad += [BadCell(None, name, "", "cell.no_column", {}) for name in columns.missing]
    if bad:
        return ClassFile((), tuple(bad), columns.ignored, len(sheet.lines))
    pupils: list[Pupil] = []
    for line, cells in sheet.lines:
        pupil, wrong = _row(line, cells, columns.places)
        bad.extend(wrong)
        if pupil is not None:
            pupils.append(pupil)
    return ClassFile(tuple(pupils), tuple(bad), columns.ignored, len(sheet.lines))


def template() -> tuple[list[str], list[list[Any]]]:
    """Return the header and the example rows of an empty class list."""
    names = [REFERENCE, *(feature.name for feature in FEATURES)]
    example = [EXAMPLE[name] for name in names[1:]]
    unknown = [None if name in ("G1", "G2") else EXAMPLE[name] for name in names[1:]]
    return names, [["A-01", *example], ["A-02", *unknown]]


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
            found.setdefault(name, _why(feature_of(name), problem["type"]))
    return found


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
    texts = {name: cells[place] if place < len(cells) else "" for name, place in places.items()}
    body = body_of(texts)
    try:
        StudentFeatures.model_validate(body)
    except ValidationError as error:
        return None, [
            BadCell(line, name, texts.get(name, "")[:SHOWN], key, filled)
            for name, (key, filled) in problems(error).items()
        ]
    return Pupil(line, texts.get(REFERENCE, ""), body), []
