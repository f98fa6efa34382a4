"""HTTP itself: ids, headers, methods, paths, limits, and hostile bytes."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Iterator

import httpx
import pytest

from student_success.api.endpoints import ENDPOINTS
from student_success.domain.students import EXAMPLE
from tests.http.conftest import counts, exchange, said
from tests.server import Server

MIB = 1 << 20
PAIRS = sorted((endpoint.method, endpoint.path) for endpoint in ENDPOINTS)
GETS = [path for method, path in PAIRS if method == "GET"]


def post(server: Server, *headers: str, body: bytes, whole: bool = True) -> bytes:
    """Post raw bytes to `/predict` over a connection of its own."""
    lines = ["POST /predict HTTP/1.1", "Host: localhost", "Connection: close", *headers, "", ""]
    return exchange(server, "\r\n".join(lines).encode("latin-1") + body, whole=whole)


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def safely(client: httpx.Client, method: str, path: str) -> httpx.Response:
    """Ask in a way that starts nothing."""
    return client.request(method, path, json={"nonsense": 1} if method == "POST" else None)


@pytest.mark.parametrize(("method", "path"), PAIRS)
def test_every_answer_has_an_id_and_safe_headers(
    http: httpx.Client, method: str, path: str
) -> None:
    answer = safely(http, method, path)
    assert re.fullmatch("[0-9a-f]{32}", answer.headers["x-request-id"])
    assert answer.headers.get_list("x-content-type-options") == ["nosniff"]
    assert answer.headers.get_list("x-frame-options") == ["DENY"]
    assert answer.headers.get_list("cache-control") == ["no-store"]
    assert answer.headers.get_list("referrer-policy") == ["no-referrer"]
    [policy] = answer.headers.get_list("content-security-policy")
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "frame-ancestors 'none'" in policy
    assert "http:" not in policy
    if answer.status_code >= 400:
        said(answer, answer.status_code, answer.json()["error"])


@pytest.mark.parametrize("path", ["/health", "/predict", "/nowhere", "/docs"])
@pytest.mark.parametrize("name", ["a", "x" * 64, "0aZ._-"])
def test_request_id_is_echoed(http: httpx.Client, path: str, name: str) -> None:
    assert http.get(path, headers={"X-Request-Id": name}).headers["x-request-id"] == name


@pytest.mark.parametrize("name", ["", "x" * 65, "a b", 'a"b', "a,b", "é", "a\tb", "<script>"])
def test_strange_request_id_is_replaced(http: httpx.Client, name: str) -> None:
    answer = http.get("/health", headers=[("X-Request-Id", name.encode("latin-1"))])
    assert re.fullmatch("[0-9a-f]{32}", answer.headers["x-request-id"])


@pytest.mark.parametrize("header", ["X-Request-Id", "X-Session-Id", "Idempotency-Key"])
@pytest.mark.parametrize("end", ["\r\n", "\n", "\r", "\r\n ", "%0d%0a"])
def test_line_break_in_a_header_injects_nothing(server: Server, header: str, end: str) -> None:
    body = json.dumps(EXAMPLE).encode()
    answer = post(
        server,
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        f"{header}: x{end}Set-Cookie: forged=1",
        body=body,
    )
    # A bare line break starts the next header of the request; it never comes back in an answer.
    head = answer.split(b"\r\n\r\n")[0].lower()
    assert b"set-cookie" not in head
    assert b"forged" not in head.replace(b"\r\n", b"")
    assert status(answer) in (200, 400, 422)


@pytest.mark.parametrize("path", GETS)
def test_head_answers_as_get_without_a_body(http: httpx.Client, path: str) -> None:
    got, head = http.get(path), http.head(path)
    assert head.status_code == got.status_code
    assert head.content == b""
    assert head.headers.get("content-type") == got.headers.get("content-type")


@pytest.mark.parametrize(
    "method", ["PUT", "PATCH", "OPTIONS", "DELETE", "TRACE", "PROPFIND", "HEAD"]
)
@pytest.mark.parametrize("path", sorted({path for _, path in PAIRS}))
def test_other_methods_are_named_as_such(http: httpx.Client, path: str, method: str) -> None:
    allowed = {m for m, p in PAIRS if p == path}
    allowed |= {"HEAD"} if "GET" in allowed else set()
    if method in allowed:
        return
    answer = http.request(method, path)
    assert answer.status_code == 405
    assert set(answer.headers["allow"].split(", ")) == allowed
    if method != "HEAD":
        said(answer, 405, "method_not_allowed")


@pytest.mark.parametrize(
    "path",
    [
        "/nowhere",
        "/predict/",
        "/health/",
        "//health",
        "/Predict",
        "/predict%00",
        "/predict%2F",
        "/docs/../predict",
        "/docs.json",
        "/healthz",
        "/static_content",
        "/static_content/",
        "/static_content/nowhere.js",
        "/static_content/../../etc/passwd",
        "/static_content/..%2f..%2fetc/passwd",
        "/static_content/%2e%2e/%2e%2e/etc/passwd",
        "/static_content/%00",
        "/static_content/" + "x" * 5000,
        "/%ff",
        "/.env",
        "/metrics/",
    ],
    ids=lambda path: path[:40],
)
def test_unknown_path_is_not_there(server: Server, path: str) -> None:
    request = f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    answer = exchange(server, request.encode())
    assert status(answer) == 404
    assert json.loads(answer.split(b"\r\n\r\n", 1)[1])["error"] == "not_found"


@pytest.mark.parametrize("value", ["bytes=abc", "bytes=99999999-", "bytes=5-2", "lines=1", "x"])
def test_bad_range_is_no_fault_of_ours(http: httpx.Client, value: str) -> None:
    answer = http.get("/static_content/swagger-ui.css", headers={"Range": value})
    assert answer.status_code in (200, 422)


def series(http: httpx.Client) -> set[str]:
    """Return the names and labels of all series, without their values."""
    text = http.get("/metrics").text
    return {line.rsplit(" ", 1)[0] for line in text.splitlines() if not line.startswith("#")}


def test_nothing_that_is_sent_makes_new_series(http: httpx.Client) -> None:
    def bother(mark: str) -> None:
        http.get(f"/{mark}")
        http.get(f"/static_content/{mark}")
        http.request("BREW", f"/{mark}")
        http.request(mark.upper(), "/predict")
        http.post("/predict", json=EXAMPLE, headers={"X-Session-Id": mark, "X-Request-Id": mark})
        http.post("/predict", json={mark: 1})
        http.get("/history", params={"session_id": mark})
        http.get("/health", params={mark: mark})

    bother("first")
    counts(http)
    before = series(http)
    for number in range(20):
        bother(f"marked{number}")
    after = series(http)
    assert after == before
    assert not [name for name in after if "marked" in name or "first" in name]


def test_metrics_of_the_service_are_there(http: httpx.Client) -> None:
    counted = (
        "student_success_predictions_total{",
        "student_success_predicted_grade_count",
        "student_success_inference_duration_seconds_count",
        "student_success_history_commit_duration_seconds_count",
        "student_success_prediction_errors_total{",
    )
    before = counts(http, *counted)
    http.post("/predict", json=EXAMPLE)
    http.post("/predict_batch", json={"students": [EXAMPLE] * 3})
    http.post("/predict", json={})
    after = counts(http, *counted)
    grown = [new - old for new, old in zip(after, before, strict=True)]
    assert grown == [4, 4, 1, 2, 1]
    served = 'student_success_model_info{model_version="seed",source="seed"}'
    assert counts(http, served) == [1]
    assert counts(http, "bentoml_service_request_total{") > [0]


@pytest.mark.parametrize(
    ("path", "limit"), [("/predict", MIB), ("/history", MIB), ("/predict_batch", 16 * MIB)]
)
def test_body_is_read_up_to_the_limit_and_refused_beyond(
    http: httpx.Client, path: str, limit: int
) -> None:
    headers = {"Content-Type": "application/json"}
    padding = b" " * (limit - 2) + b"{}"
    said(http.post(path, content=padding + b" ", headers=headers), 413, "body_too_large")
    # `/history` takes an empty object, and then wants an administrator.
    assert http.post(path, content=padding, headers=headers).status_code in (401, 422)


def chunks(size: int, number: int, counted: list[int]) -> Iterator[bytes]:
    for _ in range(number):
        counted[0] += size
        yield b" " * size


def test_chunked_body_beyond_the_limit_is_refused(http: httpx.Client) -> None:
    answer = http.post(
        "/predict",
        content=chunks(64 * 1024, 17, [0]),
        headers={"Content-Type": "application/json"},
    )
    said(answer, 413, "body_too_large")


def test_chunked_body_within_the_limit_is_read(http: httpx.Client) -> None:
    body = json.dumps(EXAMPLE).encode()
    pieces = (body[at : at + 7] for at in range(0, len(body), 7))
    answer = http.post("/predict", content=pieces, headers={"Content-Type": "application/json"})
    assert answer.status_code == 200


def test_fifty_megabytes_are_refused_and_never_held(server: Server, http: httpx.Client) -> None:
    def resident() -> int:
        return sum(process.memory_info().rss for process in server.processes())

    http.get("/health")
    before = resident()
    for content in (b" " * (50 * MIB), chunks(MIB, 50, [0])):
        answer = http.post(
            "/predict", content=content, headers={"Content-Type": "application/json"}
        )
        said(answer, 413, "body_too_large")
    assert resident() - before < 20 * MIB


def test_refusal_comes_before_the_body_does(server: Server) -> None:
    request = (
        b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Content-Length: 52428800\r\nExpect: 100-continue\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", server.port), 20) as connection:
        connection.sendall(request)
        assert connection.recv(65536).startswith(b"HTTP/1.1 413")


def test_right_to_ask_is_checked_before_the_body_is_read(server: Server) -> None:
    request = (
        b"POST /promote HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Content-Length: 1000\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", server.port), 20) as connection:
        connection.sendall(request)
        assert connection.recv(65536).startswith(b"HTTP/1.1 401")


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\x00\x01\x02\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: abc\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}",
        b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
        b"Content-Length: 2\r\n\r\n{}",
        b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /health HTTP/1.1\r\nHost: x\r\nX: \x00\r\n\r\n",
        b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: x\r\nX-Session-Id: " + b"x" * 200_000 + b"\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
    ids=lambda request: repr(request[:24] + request[-16:]),
)
def test_hostile_bytes_are_refused_and_the_server_lives(
    server: Server, http: httpx.Client, request_bytes: bytes
) -> None:
    try:
        answer = exchange(server, request_bytes, whole=False)
    except ConnectionError:
        answer = b""
    assert b"HTTP/1.1 5" not in answer
    assert b"Traceback" not in answer
    assert http.post("/predict", json=EXAMPLE).status_code == 200


def test_body_that_never_comes_whole_leaves_no_row_and_no_fault(
    server: Server, http: httpx.Client, session_id: str
) -> None:
    body = json.dumps(EXAMPLE).encode()
    answer = post(
        server,
        f"X-Session-Id: {session_id}",
        "Content-Type: application/json",
        f"Content-Length: {len(body) + 1}",
        body=body,
        whole=False,
    )
    assert b" 200 " not in answer.split(b"\r\n")[0]
    assert http.get("/history", params={"session_id": session_id}).json() == []


def test_pipelined_requests_are_answered_in_order(server: Server) -> None:
    one = b"GET /health HTTP/1.1\r\nHost: x\r\nX-Request-Id: %d\r\n\r\n"
    last = b"GET /nowhere HTTP/1.1\r\nHost: x\r\nX-Request-Id: 3\r\nConnection: close\r\n\r\n"
    answer = exchange(server, one % 1 + one % 2 + last)
    assert re.findall(rb"x-request-id: (\d)", answer) == [b"1", b"2", b"3"]


def test_websocket_is_turned_away(server: Server) -> None:
    request = (
        b"GET /health HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", server.port), 20) as connection:
        connection.sendall(request)
        assert b"101" not in connection.recv(65536).split(b"\r\n")[0]


def test_log_has_one_line_a_request_with_id_latency_and_version_and_no_pupil(
    server: Server, http: httpx.Client
) -> None:
    mark = "marked-in-the-log"
    http.post(
        "/predict",
        json={**EXAMPLE, "reference": mark, "absences": 361},
        headers={"X-Request-Id": "logged-1", "X-Session-Id": mark},
    )
    http.post("/predict", json={mark: mark}, headers={"X-Request-Id": "logged-2"})
    http.get(f"/{mark}", params={mark: mark}, headers={"X-Request-Id": "logged-3"})
    end = time.monotonic() + 10
    found: dict[str, dict[str, object]] = {}
    while len(found) < 3 and time.monotonic() < end:
        time.sleep(0.05)  # Lines are written together, a tenth of a second later.
        lines = server.log_lines()
        found = {line["request_id"]: line for line in lines if "logged-" in str(line)}
    assert found["logged-1"]["status"] == 200
    assert found["logged-1"]["model_version"] == "seed"
    assert found["logged-1"]["path"] == "/predict"
    assert 0 < float(str(found["logged-1"]["duration_ms"])) < 60_000
    assert found["logged-2"]["status"] == 422
    assert found["logged-3"]["path"] == "(unknown)"
    log = server.log.read_text("utf-8")
    assert mark not in log
    assert "361" not in [str(value) for line in lines for value in line.values()]
