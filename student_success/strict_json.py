"""JSON read strictly: no repeated key, no NaN, no endless nesting, and errors that echo nothing."""

from __future__ import annotations

import json
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from student_success.errors import InvalidInputError
from student_success.students import StudentFeatures

Model = TypeVar("Model", bound=BaseModel)

MAX_PROBLEMS = 1000


class _RepeatedKeyError(ValueError):
    """A JSON object has the same key twice."""


def parse(model: type[Model], body: bytes) -> Model:
    """Validate a JSON body.

    Raises
    ------
    InvalidInputError
        With every problem's place, message and type; never the value.
    """
    try:
        found = model.__pydantic_validator__.validate_json(body)
    except ValidationError as error:
        raise invalid(error) from None
    if not _keys_are_plain(found, body):
        _refuse_repeated_keys(body)
    return found  # type: ignore[no-any-return]


def invalid(error: ValidationError) -> InvalidInputError:
    """Turn pydantic's report into the contract's, without input values."""
    problems = error.errors(include_url=False, include_context=False, include_input=False)
    return InvalidInputError(
        "The request does not match the contract.",
        details=[
            {"loc": list(item["loc"]), "msg": item["msg"], "type": item["type"]}
            for item in problems[:MAX_PROBLEMS]
        ],
    )


def _keys_are_plain(student: BaseModel, body: bytes) -> bool:
    """Tell cheaply that a pupil's JSON repeats no key; False means: look properly.

    Pydantic keeps the last of two equal keys. A pupil is a flat object whose other values hold no
    colon, so without escapes the colons outside `reference` are as many as the keys sent.
    """
    if not isinstance(student, StudentFeatures) or b"\\" in body:
        return False
    colons = body.count(b":")
    if student.reference is not None:
        colons -= student.reference.count(":")
    return colons == len(student.model_fields_set)


def _refuse_repeated_keys(body: bytes) -> None:
    try:
        json.loads(body, object_pairs_hook=_unique)
    except _RepeatedKeyError as error:
        raise InvalidInputError(
            "The request does not match the contract.",
            details=[{"loc": [], "msg": str(error), "type": "repeated_key"}],
        ) from None
    except (ValueError, RecursionError):
        raise InvalidInputError(
            "The request does not match the contract.",
            details=[{"loc": [], "msg": "Invalid JSON", "type": "json_invalid"}],
        ) from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _RepeatedKeyError("A key stands twice in the same object")
    return found
