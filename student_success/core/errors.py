"""The expected errors, each with a stable code and an HTTP status.

    StudentSuccessError
    ├── MalformedRequestError      400 malformed_request
    ├── InvalidInputError          422 validation_error
    ├── UnauthenticatedError       401 unauthenticated
    ├── ForbiddenError             403 forbidden
    ├── NotFoundError              404 not_found
    ├── MethodNotAllowedError      405 method_not_allowed
    ├── RequestTimeoutError        408 request_timeout
    ├── ConflictError              409 conflict
    │   ├── BusyError              409 busy
    │   ├── PromotionRefusedError  409 promotion_refused
    │   └── ProfileMismatchError   409 profile_mismatch
    ├── BodyTooLargeError          413 body_too_large
    ├── UnsupportedMediaTypeError  415 unsupported_media_type
    ├── MisdirectedRequestError    421 misdirected_request
    ├── TooManyRequestsError       429 too_many_requests
    ├── HeadersTooLargeError       431 headers_too_large
    ├── UnavailableError           503 unavailable
    │   ├── ModelUnavailableError      model_unavailable
    │   ├── DatabaseUnavailableError   history_unavailable
    │   └── RegistryUnavailableError   registry_unavailable
    ├── ArtefactError              409 artefact_rejected
    ├── DatasetError               422 dataset_invalid
    ├── TrainingFailedError        500 training_failed
    └── ConfigurationError         the service refuses to start

The API layer writes each of them as the error envelope. Any other exception is a bug, and is
answered with a generic 500.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar


class StudentSuccessError(Exception):
    """An error with a message that may be shown to the caller.

    Parameters
    ----------
    message
        A plain sentence; never an input value, a token or a path.
    details
        JSON-ready details, e.g. one entry a failed condition.
    """

    code: ClassVar[str] = "internal_error"
    status: ClassVar[int] = 500

    def __init__(self, message: str, *, details: Sequence[Mapping[str, Any]] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.details = list(details)

    @property
    def headers(self) -> dict[str, str]:
        """Response headers that belong to this error."""
        return {}

    def to_json(self) -> dict[str, Any]:
        """Return the error as JSON-ready values, for another process."""
        return {"code": self.code, "message": self.message, "details": self.details}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> StudentSuccessError:
        """Return an error of another process, as its own class if the code is known."""
        error = _by_code(StudentSuccessError).get(data.get("code", ""), StudentSuccessError)
        return error(str(data.get("message", "")), details=data.get("details") or ())


def _by_code(base: type[StudentSuccessError]) -> dict[str, type[StudentSuccessError]]:
    classes: dict[str, type[StudentSuccessError]] = {}
    for subclass in base.__subclasses__():
        classes |= _by_code(subclass)
    return classes | {base.code: base}


class MalformedRequestError(StudentSuccessError):
    """Not a valid HTTP request, or one with a repeated header that it may have only once."""

    code = "malformed_request"
    status = 400


class InvalidInputError(StudentSuccessError):
    """The request does not match the contract."""

    code = "validation_error"
    status = 422


class UnauthenticatedError(StudentSuccessError):
    """No token, or an unknown one."""

    code = "unauthenticated"
    status = 401

    @property
    def headers(self) -> dict[str, str]:
        """Name the authentication scheme, as RFC 9110 requires of a 401."""
        return {"WWW-Authenticate": "Bearer"}


class ForbiddenError(StudentSuccessError):
    """A valid token of another role."""

    code = "forbidden"
    status = 403


class NotFoundError(StudentSuccessError):
    """No such route, version or job."""

    code = "not_found"
    status = 404


class MethodNotAllowedError(StudentSuccessError):
    """The route exists, but not for this method."""

    code = "method_not_allowed"
    status = 405

    def __init__(self, message: str, *, allowed: Sequence[str] = (), **options: Any) -> None:
        super().__init__(message, **options)
        self.allowed = tuple(allowed)

    @property
    def headers(self) -> dict[str, str]:
        """Name the allowed methods, as RFC 9110 requires of a 405."""
        return {"Allow": ", ".join(self.allowed)}


class RequestTimeoutError(StudentSuccessError):
    """The request did not arrive in time."""

    code = "request_timeout"
    status = 408


class ConflictError(StudentSuccessError):
    """The request contradicts what is already recorded."""

    code = "conflict"
    status = 409


class BusyError(ConflictError):
    """Another training or promotion is under way."""

    code = "busy"


class PromotionRefusedError(ConflictError):
    """The gate refused a version; `details` lists each condition with its value and limit."""

    code = "promotion_refused"


class ProfileMismatchError(ConflictError):
    """A version was trained for another profile; `details` lists each difference."""

    code = "profile_mismatch"


class BodyTooLargeError(StudentSuccessError):
    """The body is over the route's limit."""

    code = "body_too_large"
    status = 413


class UnsupportedMediaTypeError(StudentSuccessError):
    """The content type of the body is not supported."""

    code = "unsupported_media_type"
    status = 415


class MisdirectedRequestError(StudentSuccessError):
    """Addressed to a host that is not served here."""

    code = "misdirected_request"
    status = 421


class _RetryLaterError(StudentSuccessError):
    """A temporary error, with the seconds after which to retry."""

    def __init__(self, message: str, *, retry_after: int = 5, **options: Any) -> None:
        super().__init__(message, **options)
        self.retry_after = retry_after

    @property
    def headers(self) -> dict[str, str]:
        """Tell the client when to retry."""
        return {"Retry-After": str(self.retry_after)}


class TooManyRequestsError(_RetryLaterError):
    """A client keeps sending wrong tokens, or exceeds a limit."""

    code = "too_many_requests"
    status = 429


class HeadersTooLargeError(StudentSuccessError):
    """Too many headers, or too long ones."""

    code = "headers_too_large"
    status = 431


class UnavailableError(_RetryLaterError):
    """Something that the response needs is temporarily unavailable."""

    code = "unavailable"
    status = 503


class ModelUnavailableError(UnavailableError):
    """No verified model is loaded."""

    code = "model_unavailable"


class DatabaseUnavailableError(UnavailableError):
    """The database cannot be read or written."""

    code = "history_unavailable"


class RegistryUnavailableError(UnavailableError):
    """MLflow does not answer."""

    code = "registry_unavailable"


class ArtefactError(StudentSuccessError):
    """A model artefact is damaged, incomplete, or does not answer as recorded."""

    code = "artefact_rejected"
    status = 409


class DatasetError(StudentSuccessError):
    """A data file is missing or has invalid cells; `details` lists each of them."""

    code = "dataset_invalid"
    status = 422


class TrainingFailedError(StudentSuccessError):
    """The training process ended without a candidate."""

    code = "training_failed"


class ConfigurationError(StudentSuccessError):
    """The settings contradict each other; the service does not start."""

    code = "configuration_error"
