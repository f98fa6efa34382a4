"""What all request and response bodies share: strictness, common fields, the error envelope."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, cast

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, create_model
from pydantic_core import PydanticCustomError

from student_success.domain.students import (
    ACTUAL,
    BASELINE,
    GRADE,
    GRADE_MAX,
    GRADE_MIN,
    PREDICTED,
    SCALE,
    WITHOUT_NUL,
    Whole,
)

Body = TypeVar("Body", bound=BaseModel)

BATCH_LIMIT = 10_000
"""Largest number of rows in one request."""
MAX_ID = 2**63 - 1
"""Largest row id and version: they are signed 64-bit integers in every supported database."""

Timestamp = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
"""A time in UTC, e.g. ``2026-11-23T08:00:00Z``."""
SessionId = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[\x21-\x7e]+$")]
Reason = Annotated[str, Field(min_length=1, max_length=1000, pattern=WITHOUT_NUL)]


def _existing(grade: float) -> float:
    existing = GRADE.existing(grade)
    if existing is None:
        raise PydanticCustomError(
            "no_such_grade",
            "There is no such grade: the grades go from {minimum} to {maximum} in steps of {step}",
            {name: f"{getattr(SCALE, name):g}" for name in ("minimum", "maximum", "step")},
        )
    return existing


if TYPE_CHECKING:
    GradeNumber = float
    GivenGrade = float
else:
    GradeNumber = int if SCALE.is_whole else float
    """Type of the grades that exist."""
    _given_whole = SCALE.is_whole and not GRADE.rounded
    GivenGrade = Annotated[
        int if _given_whole else float,
        Field(ge=GRADE_MIN, le=GRADE_MAX),
        *([Whole] if _given_whole else [Field(allow_inf_nan=False)]),
        AfterValidator(_existing),
    ]
    """A grade in a request: one that exists, or an error."""


class RequestBody(BaseModel):
    """A request body: strict types, no unknown field."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, protected_namespaces=())


class ResponseBody(BaseModel):
    """A response body."""

    model_config = ConfigDict(frozen=True, protected_namespaces=())


def wire_names(values: Mapping[str, Any]) -> dict[str, Any]:
    """Name the grades as requests and answers do: ``grade`` becomes ``predicted_G3``."""
    names = {"grade": PREDICTED, "baseline": BASELINE, "actual": ACTUAL}
    return {names.get(name, name): value for name, value in values.items()}


def named_by_profile(model: type[Body]) -> type[Body]:
    """Rename the fields of a body by `wire_names`."""
    # Not aliases: BentoML writes bodies by the names of their fields.
    fields: dict[str, Any] = {
        name: (field.annotation, field) for name, field in wire_names(model.model_fields).items()
    }
    renamed: Any = create_model(
        model.__name__,
        __base__=model.__base__,
        __doc__=model.__doc__,
        __module__=model.__module__,
        **fields,
    )
    return cast(type[Body], renamed)


class ErrorDetail(ResponseBody):
    """One particular of an error; validation problems carry `loc`, `msg` and `type`."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "properties": {
                "loc": {
                    "type": "array",
                    "items": {"anyOf": [{"type": "string"}, {"type": "integer"}]},
                    "description": "Place in the request: names of fields, and indexes of rows.",
                },
                "msg": {"type": "string", "description": "What is wrong there."},
                "type": {"type": "string", "description": "Kind of problem, for programs."},
                "name": {"type": "string", "description": "Condition of a refused promotion."},
                "passed": {"type": "boolean", "description": "Whether the condition is met."},
                "value": {
                    "type": ["number", "string", "null"],
                    "description": "Its value, if measured.",
                },
                "limit": {"type": ["number", "null"], "description": "Its limit, if any."},
                "compared": {
                    "enum": ["at_most", "at_least", None],
                    "description": "How the value must lie to the limit.",
                },
                "detail": {"type": "string", "description": "The condition in words."},
            }
        },
    )


class ErrorAnswer(ResponseBody):
    """The one envelope of every error."""

    error: str
    message: str
    request_id: str
    details: list[ErrorDetail]
