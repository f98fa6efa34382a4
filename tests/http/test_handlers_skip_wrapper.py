"""The short cut in front of BentoML's wrapper, and the way through it: the same to every caller."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from student_success.domain.students import EXAMPLE
from tests.http.conftest import API_TOKEN
from tests.server import Server

ONE = json.dumps(EXAMPLE).encode()
BATCH = json.dumps({"students": [EXAMPLE, {**EXAMPLE, "G2": None}]}).encode()
JSON = {"Content-Type": "application/json"}
OF_THE_MOMENT = {"date", "x-request-id", "content-length"}


@pytest.mark.parametrize(
    ("content", "headers", "query"),
    [
        (ONE, JSON, ""),
        (ONE, {**JSON, "X-Session-Id": "same"}, ""),
        (ONE, JSON, "?session_id=same"),
        (ONE, JSON, "?session_id=not%20one"),
        (ONE, {**JSON, "X-Request-Id": "same"}, ""),
        (ONE, {**JSON, "Accept": "text/html"}, ""),
        (ONE, {**JSON, "Origin": "http://evil.example"}, ""),
        (ONE, {**JSON, "Accept-Encoding": "gzip"}, ""),
        (ONE, {"Content-Type": "application/json; charset=utf-8"}, ""),
        (json.dumps({**EXAMPLE, "G2": None}).encode(), JSON, ""),
        (json.dumps({**EXAMPLE, "reference": "é:\u2028"}).encode(), JSON, ""),
        (ONE.replace(b"17", b"17.0"), JSON, ""),
        (json.dumps({**EXAMPLE, "age": 99}).encode(), JSON, ""),
        (json.dumps({**EXAMPLE, "x": 1}).encode(), JSON, ""),
        (ONE[:-1] + b', "age": 17}', JSON, ""),
        (b"", {}, ""),
        (b"{", JSON, ""),
        (b"[]", JSON, ""),
        (b"NaN", JSON, ""),
        (b"\xff", JSON, ""),
        (ONE, {"Content-Type": "text/plain"}, ""),
        (ONE, {**JSON, "Idempotency-Key": "é"}, ""),
        (b" " * ((1 << 20) + 1), JSON, ""),
    ],
)
def test_predict_response_equals_that_of_bentomls_wrapper(
    server: Server, guarded: Server, content: bytes, headers: dict[str, str], query: str
) -> None:
    # Both with a token, so that only the way through the server differs.
    sent = [(k, v.encode("latin-1")) for k, v in headers.items()]
    sent.append(("Authorization", f"Bearer {API_TOKEN}".encode()))
    first, second = (
        httpx.post(f"{one.url}/predict{query}", content=content, headers=sent, timeout=60)
        for one in (server, guarded)
    )
    assert first.status_code == second.status_code
    assert shown(first) == shown(second)
    assert list(first.json()) == list(second.json())
    assert kept(first) == kept(second)


@pytest.mark.parametrize(
    "content",
    [
        BATCH,
        json.dumps({"students": [EXAMPLE] * 200}).encode(),
        b'{"students": []}',
        b"{}",
        BATCH.replace(b"17", b"99", 1),
        ONE,
    ],
)
def test_predict_batch_response_equals_that_of_bentomls_wrapper(
    server: Server, guarded: Server, content: bytes
) -> None:
    headers = {**JSON, "X-Session-Id": "same", "Authorization": f"Bearer {API_TOKEN}"}
    first, second = (
        httpx.post(f"{one.url}/predict_batch", content=content, headers=headers, timeout=60)
        for one in (server, guarded)
    )
    assert first.status_code == second.status_code
    assert shown(first) == shown(second)
    responses = [response.json() for response in (first, second)]
    for response in responses:
        for row in response.get("predictions", [response]):
            for name in ("prediction_id", "timestamp", "request_id"):
                row.pop(name, None)
    assert responses[0] == responses[1]


def shown(response: httpx.Response) -> dict[str, str]:
    """Return the headers that do not change from moment to moment."""
    return {k: v for k, v in response.headers.items() if k not in OF_THE_MOMENT}


def kept(response: httpx.Response) -> Any:
    """Return the body without what is made up anew each time."""
    body = response.json()
    for name in ("prediction_id", "timestamp", "request_id"):
        if name in body:
            body[name] = len(body[name])
    if len(body.get("session_id", "")) == 32:
        body["session_id"] = 32
    return body


def test_predict_bytes_equal_those_of_bentomls_wrapper(server: Server, guarded: Server) -> None:
    ways = []
    for one in (server, guarded):
        response = httpx.post(
            f"{one.url}/predict",
            json=EXAMPLE,
            headers={"Authorization": f"Bearer {API_TOKEN}", "X-Session-Id": "bytes"},
        )
        made = response.json()
        text = response.text
        for name in ("prediction_id", "timestamp"):
            text = text.replace(made[name], name)
        ways.append(text)
    assert ways[0] == ways[1]
