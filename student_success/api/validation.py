"""JSON read strictly: no repeated key, no NaN, no endless nesting, and errors that echo nothing.

Pydantic's reader takes up to two kilobytes of memory for each value of a body and for each problem
it finds, so what could not be right anyway is counted and refused before it is read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import from_json, to_json

from student_success.core.errors import InvalidInputError
from student_success.domain.schemas import BATCH_LIMIT, Outcome, OutcomesRequest, Students
from student_success.domain.students import StudentFeatures

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

Model = TypeVar("Model", bound=BaseModel)

BATCHES: dict[type[BaseModel], tuple[str, type[BaseModel]]] = {
    Students: ("students", StudentFeatures),
    OutcomesRequest: ("outcomes", Outcome),
}
"""Bodies that are a list of rows: the list's name, and a row's model."""
MAX_PROBLEMS = 1000
"""More are told only where more rows of a batch are bad: one a row then."""
MAX_VALUES = 100
MAX_CONTAINERS = 8
"""Commas, and opening brackets and braces outside texts, that a row of a batch may have."""
ROWS_OF_ONE = 25
"""Bodies other than a batch are this many rows long: a reason may hold a thousand commas."""

# Possessive: a long string must not leave a way back for each of its characters.
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_REFUSED = "The request does not match the contract."


class _RepeatedKeyError(ValueError):
    """A JSON object has the same key twice."""


def validate_json(model: type[Model], body: bytes) -> Model:
    """Validate a JSON body.

    Raises
    ------
    InvalidInputError
        With every problem's place, message and type; never the value.
    """
    batch = BATCHES.get(model)
    _refuse_bulk(body, rows=ROWS_OF_ONE if batch is None else BATCH_LIMIT)
    try:
        found = model.__pydantic_validator__.validate_json(body)
    except ValidationError as error:
        raise (
            invalid_input(error) if batch is None else _invalid_batch(error, body, *batch)
        ) from None
    if not _keys_are_plain(found, body):
        _refuse_repeated_keys(body)
    return found  # type: ignore[no-any-return]


def invalid_input(error: ValidationError) -> InvalidInputError:
    """Turn pydantic's report into the contract's, without input values."""
    return InvalidInputError(_REFUSED, details=list(_problems(error))[:MAX_PROBLEMS])


def _problems(error: ValidationError) -> Iterator[dict[str, Any]]:
    item: ErrorDetails
    for item in error.errors(include_url=False, include_context=False, include_input=False):
        yield {"loc": list(item["loc"]), "msg": item["msg"], "type": item["type"]}


def _refuse(problem: str, message: str) -> InvalidInputError:
    return InvalidInputError(_REFUSED, details=[{"loc": [], "msg": message, "type": problem}])


def _refuse_bulk(body: bytes, *, rows: int) -> None:
    """Refuse a body with many more values than could be right, for the price of counting."""
    containers = body.count(b"{") + body.count(b"[")
    if rows * MAX_CONTAINERS < containers < rows * MAX_VALUES:
        containers -= sum(
            text.count(b"{") + text.count(b"[")
            for text in (found.group() for found in _STRING.finditer(body))
        )
    if containers > rows * MAX_CONTAINERS or body.count(b",") > rows * MAX_VALUES:
        raise _refuse("too_many_values", "More values than such a request can hold")


def _invalid_batch(
    error: ValidationError, body: bytes, name: str, row_model: type[BaseModel]
) -> InvalidInputError:
    """Name every bad row; pydantic itself was told to stop at the first."""
    told = list(_problems(error))
    others = [item for item in told if len(item["loc"]) < 2][:MAX_PROBLEMS]
    if len(others) == len(told):
        return InvalidInputError(_REFUSED, details=others)
    details: list[dict[str, Any]] = []
    firsts: list[dict[str, Any]] = []
    validate = row_model.__pydantic_validator__.validate_json
    for number, row in enumerate(from_json(body)[name]):
        try:
            validate(to_json(row))
        except ValidationError as bad:
            problems = [{**item, "loc": [name, number, *item["loc"]]} for item in _problems(bad)]
            firsts.append(problems[0])
            if len(details) < MAX_PROBLEMS:
                details += problems
    if len(details) > MAX_PROBLEMS or len(firsts) > MAX_PROBLEMS:
        details = firsts
    return InvalidInputError(_REFUSED, details=others + details)


def _keys_are_plain(found: BaseModel, body: bytes) -> bool:
    """Tell cheaply that a pupil's or a batch's JSON repeats no key; False means: look properly.

    Pydantic keeps the last of two equal keys. A pupil is a flat object whose other values hold no
    colon, so without escapes the colons outside `reference` are as many as the keys sent.
    """
    if b"\\" in body:
        return False
    if isinstance(found, StudentFeatures):
        return body.count(b":") == _colons(found)
    if isinstance(found, Students):
        return body.count(b":") == 1 + sum(map(_colons, found.students))
    return False


def _colons(student: StudentFeatures) -> int:
    """Return how many colons the JSON of a pupil has that repeats no key."""
    keys = len(student.model_fields_set)
    return keys if student.reference is None else keys + student.reference.count(":")


def _refuse_repeated_keys(body: bytes) -> None:
    try:
        json.loads(body, object_pairs_hook=_unique)
    except _RepeatedKeyError:
        raise _refuse("repeated_key", "A key stands twice in the same object") from None
    except (ValueError, RecursionError):
        raise _refuse("json_invalid", "Invalid JSON") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _RepeatedKeyError
    return found
