"""Validate JSON strictly: no repeated key, no NaN, no deep nesting; errors contain no input values.

Pydantic takes up to two kilobytes of memory for each value of a body and for each error, so a body
with far more values than a valid one can have is rejected before it is parsed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import from_json, to_json

from student_success.core.errors import InvalidInputError
from student_success.domain.schemas.base import BATCH_LIMIT
from student_success.domain.schemas.history import Outcome, OutcomesRequest
from student_success.domain.schemas.prediction import Students
from student_success.domain.students import StudentFeatures

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

Model = TypeVar("Model", bound=BaseModel)

BATCHES: dict[type[BaseModel], tuple[str, type[BaseModel]]] = {
    Students: ("students", StudentFeatures),
    OutcomesRequest: ("outcomes", Outcome),
}
"""Bodies that are a list of rows: the name of the list, and the model of a row."""
MAX_PROBLEMS = 1000
"""Limit on reported errors; if more rows of a batch are invalid, one error for each row."""
MAX_COMMAS = 100
MAX_CONTAINERS = 8
"""Limits for a row: commas, and opening brackets and braces outside strings."""
SINGLE_BODY_ROWS = 25
"""A body that is not a batch counts as this many rows: a reason may contain a thousand commas."""

# Possessive quantifiers, so that a long string cannot cause backtracking.
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_INVALID = "The request does not match the contract."


class _RepeatedKeyError(ValueError):
    """A JSON object has the same key twice."""


def validate_json(model: type[Model], body: bytes) -> Model:
    """Validate a JSON body.

    Raises
    ------
    InvalidInputError
        With location, message and type of each error, never with the value.
    """
    batch = BATCHES.get(model)
    _reject_too_many_values(body, rows=SINGLE_BODY_ROWS if batch is None else BATCH_LIMIT)
    try:
        payload = model.__pydantic_validator__.validate_json(body)
    except ValidationError as error:
        raise (
            invalid_input(error) if batch is None else _invalid_batch(error, body, *batch)
        ) from None
    if not _has_unique_keys(payload, body):
        _reject_repeated_keys(body)
    return payload  # type: ignore[no-any-return]


def invalid_input(error: ValidationError) -> InvalidInputError:
    """Convert pydantic's errors into the contract's, without input values."""
    return InvalidInputError(_INVALID, details=list(_problems(error))[:MAX_PROBLEMS])


def _problems(error: ValidationError) -> Iterator[dict[str, Any]]:
    item: ErrorDetails
    for item in error.errors(include_url=False, include_context=False, include_input=False):
        yield {"loc": list(item["loc"]), "msg": item["msg"], "type": item["type"]}


def _error(error_type: str, message: str) -> InvalidInputError:
    return InvalidInputError(_INVALID, details=[{"loc": [], "msg": message, "type": error_type}])


def _reject_too_many_values(body: bytes, *, rows: int) -> None:
    """Reject a body that has far more values than a valid one, by counting characters."""
    containers = body.count(b"{") + body.count(b"[")
    if rows * MAX_CONTAINERS < containers < rows * MAX_COMMAS:
        containers -= sum(
            string.count(b"{") + string.count(b"[")
            for string in (match.group() for match in _STRING.finditer(body))
        )
    if containers > rows * MAX_CONTAINERS or body.count(b",") > rows * MAX_COMMAS:
        raise _error("too_many_values", "More values than a valid request can have")


def _invalid_batch(
    error: ValidationError, body: bytes, name: str, row_model: type[BaseModel]
) -> InvalidInputError:
    """Report every invalid row; the model of the batch stops at the first one."""
    problems = list(_problems(error))
    others = [item for item in problems if len(item["loc"]) < 2][:MAX_PROBLEMS]
    if len(others) == len(problems):
        return InvalidInputError(_INVALID, details=others)
    details: list[dict[str, Any]] = []
    first_of_row: list[dict[str, Any]] = []
    validate = row_model.__pydantic_validator__.validate_json
    for number, row in enumerate(from_json(body)[name]):
        try:
            validate(to_json(row))
        except ValidationError as invalid:
            row_problems = [
                {**item, "loc": [name, number, *item["loc"]]} for item in _problems(invalid)
            ]
            first_of_row.append(row_problems[0])
            if len(details) < MAX_PROBLEMS:
                details += row_problems
    if len(details) > MAX_PROBLEMS or len(first_of_row) > MAX_PROBLEMS:
        details = first_of_row
    return InvalidInputError(_INVALID, details=others + details)


def _has_unique_keys(payload: BaseModel, body: bytes) -> bool:
    """Check quickly that the JSON of a pupil or a batch repeats no key; False means unknown.

    Pydantic keeps the last of two equal keys. A pupil is a flat object, and only `reference` can
    contain a colon, so without escapes the other colons are as many as the keys.
    """
    if b"\\" in body:
        return False
    if isinstance(payload, StudentFeatures):
        return body.count(b":") == _colons(payload)
    if isinstance(payload, Students):
        return body.count(b":") == 1 + sum(map(_colons, payload.students))
    return False


def _colons(student: StudentFeatures) -> int:
    """Count the colons in the JSON of a pupil without repeated keys."""
    keys = len(student.model_fields_set)
    return keys if student.reference is None else keys + student.reference.count(":")


def _reject_repeated_keys(body: bytes) -> None:
    try:
        json.loads(body, object_pairs_hook=_unique_keys)
    except _RepeatedKeyError:
        raise _error("repeated_key", "A key is repeated in the same object") from None
    except (ValueError, RecursionError):
        raise _error("json_invalid", "Invalid JSON") from None


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(pairs)
    if len(unique) != len(pairs):
        raise _RepeatedKeyError
    return unique
