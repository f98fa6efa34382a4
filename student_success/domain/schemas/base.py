"""What all request and response bodies share: strictness, common fields, the error envelope."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from student_success.domain.students import WITHOUT_NUL

BATCH_LIMIT = 10_000
"""Largest number of rows in one request."""
MAX_ID = 2**63 - 1
"""Largest row id and version: they are signed 64-bit integers in every supported database."""

SessionId = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[\x21-\x7e]+$")]
Reason = Annotated[str, Field(min_length=1, max_length=1000, pattern=WITHOUT_NUL)]


class RequestBody(BaseModel):
    """A request body: strict types, no unknown field."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, protected_namespaces=())


class ResponseBody(BaseModel):
    """A response body."""

    model_config = ConfigDict(
        frozen=True,
        protected_namespaces=(),
        # The names of the grades come from the profile.
        populate_by_name=True,
        serialize_by_alias=True,
    )


class ErrorDetail(ResponseBody):
    """One particular of an error; validation problems carry `loc`, `msg` and `type`."""

    model_config = ConfigDict(extra="allow")


class ErrorAnswer(ResponseBody):
    """The one envelope of every error."""

    error: str
    message: str
    request_id: str
    details: list[ErrorDetail]
