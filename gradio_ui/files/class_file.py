"""Turn the rows of a class list into pupils, and name every invalid cell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from gradio_ui.files.rows import InvalidCell, Pupil
from gradio_ui.files.spreadsheet import Sheet
from student_success.domain.students import EXAMPLE, FEATURES, Feature, StudentFeatures
from student_success.domain.tabular import (
    REFERENCE,
    SHOWN,
    feature_of,
    find_columns,
    request_body_of,
)


@dataclass(frozen=True, slots=True)
class ClassFile:
    """The content of a class list.

    Attributes
    ----------
    ignored
        Titles of columns that are not features.
    rows
        Number of rows, with invalid ones.
    """

    pupils: tuple[Pupil, ...]
    invalid: tuple[InvalidCell, ...]
    ignored: tuple[str, ...]
    rows: int


def parse_class_list(sheet: Sheet) -> ClassFile:
    """Read the rows of a sheet as pupils.

    Columns are recognised by name or by French or English label, in any order. Columns that are
    not features are ignored, so that the UCI files can be used unchanged.
    """
    columns = find_columns(sheet.header)
    invalid = [InvalidCell(None, title, "", "cell.twice", {}) for title in columns.duplicates]
    invalid += [InvalidCell(None, name, "", "cell.no_column", {}) for name in columns.missing]
    pupils: list[Pupil] = []
    if not invalid:
        for line, cells in sheet.lines:
            row = _parse_row(line, cells, columns.positions)
            if isinstance(row, Pupil):
                pupils.append(row)
            else:
                invalid.extend(row)
    return ClassFile(tuple(pupils), tuple(invalid), columns.ignored, len(sheet.lines))


def template() -> tuple[list[str], list[list[Any]]]:
    """Return the header and two example rows of an empty class list."""
    names = [REFERENCE, *(feature.name for feature in FEATURES)]
    example = [EXAMPLE[name] for name in names[1:]]
    without_grades = [None if name in ("G1", "G2") else EXAMPLE[name] for name in names[1:]]
    return names, [["A-01", *example], ["A-02", *without_grades]]


def explain_errors(error: ValidationError) -> dict[str, tuple[str, dict[str, Any]]]:
    """Return for each invalid field the key of the text that explains it, and its values."""
    reasons: dict[str, tuple[str, dict[str, Any]]] = {}
    for problem in error.errors(include_url=False, include_input=False):
        name = str(problem["loc"][0]) if problem["loc"] else "G1"
        if problem["type"] == "grades_out_of_order":
            reason: tuple[str, dict[str, Any]] = ("cell.order", {})
        elif name == REFERENCE:
            reason = ("cell.reference", {})
        else:
            reason = _reason(feature_of(name), problem["type"])
        reasons.setdefault(name, reason)
    return reasons


def _reason(feature: Feature, error_type: str) -> tuple[str, dict[str, Any]]:
    if error_type == "missing":
        return "cell.missing", {}
    if feature.about.choices is not None and feature.kind == "category":
        return "cell.choice", {"choices": ", ".join(feature.categories)}
    key = "cell.whole" if feature.kind == "integer" else "cell.grade"
    return key, {"low": int(feature.low or 0), "high": int(feature.high or 0)}


def _parse_row(line: int, cells: list[str], places: Mapping[str, int]) -> Pupil | list[InvalidCell]:
    texts = {name: cells[place] if place < len(cells) else "" for name, place in places.items()}
    body = request_body_of(texts)
    try:
        StudentFeatures.model_validate(body)
    except ValidationError as error:
        return [
            InvalidCell(line, name, texts.get(name, "")[:SHOWN], key, values)
            for name, (key, values) in explain_errors(error).items()
        ]
    return Pupil(line, texts.get(REFERENCE, ""), body)
