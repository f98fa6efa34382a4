"""What a request may name once only: its session, and some headers."""

from __future__ import annotations

import pytest

from student_success.api.request import RequestContext, check_single_headers
from student_success.core.errors import InvalidInputError, MalformedRequestError
from student_success.domain.schemas.history import HistoryQuery


def naming(header: str | None, query: str | None, body: str | None) -> RequestContext:
    return RequestContext(
        "id",
        headers={} if header is None else {b"x-session-id": header.encode()},
        query={} if query is None else {"session_id": query},
        payload=HistoryQuery(session_id=body),
    )


@pytest.mark.parametrize(
    ("header", "query", "body"),
    [("a", "b", None), ("a", None, "b"), (None, "a", "b"), ("a", "a", "b"), ("a", "", None)],
)
def test_check_sessions_rejects_different_sessions(
    header: str | None, query: str | None, body: str | None
) -> None:
    with pytest.raises(InvalidInputError) as error:
        naming(header, query, body).check_sessions()
    assert error.value.details[0]["loc"] == ["session_id"]


@pytest.mark.parametrize(
    ("header", "query", "body"),
    [(None, None, None), ("a", None, None), ("a", "a", None), ("a", "a", "a"), (None, "a", "a")],
)
def test_check_sessions_accepts_one_session(
    header: str | None, query: str | None, body: str | None
) -> None:
    naming(header, query, body).check_sessions()


@pytest.mark.parametrize("name", ["Authorization", "Host", "Idempotency-Key", "X-Session-Id"])
def test_check_single_headers_rejects_repeated_header(name: str) -> None:
    header = (name.lower().encode(), b"x")
    with pytest.raises(MalformedRequestError, match=name):
        check_single_headers([header, (b"accept", b"x"), header])


def test_check_single_headers_accepts_other_repeated_headers() -> None:
    check_single_headers([(b"host", b"x"), (b"accept", b"x"), (b"accept", b"y")])
