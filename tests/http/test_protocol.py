"""HTTP: request ids, headers, methods, paths, limits, and malformed requests."""

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
from tests.http.conftest import assert_error, counts, send_raw
from tests.server import Server

MIB = 1 << 20
PAIRS = sorted((endpoint.method, endpoint.path) for endpoint in ENDPOINTS)
GETS = [path for method, path in PAIRS if method == "GET"]


def post(server: Server, *headers: str, body: bytes, whole: bool = True) -> bytes:
    """Post raw bytes to `/predict` over a new connection."""
    lines = ["POST /predict HTTP/1.1", "Host: [::1]", "Connection: close", *headers, "", ""]
    return send_raw(server, "\r\n".join(lines).encode("latin-1") + body, whole=whole)


def status(response: bytes) -> int:
    return int(response.split(b" ", 2)[1])


def safely(client: httpx.Client, method: str, path: str) -> httpx.Response:
    """Send a request that has no effect."""
    return client.request(method, path, json={"nonsense": 1} if method == "POST" else None)


@pytest.mark.parametrize(("method", "path"), PAIRS)
def test_every_response_has_request_id_and_security_headers(
    http: httpx.Client, method: str, path: str
) -> None:
    response = safely(http, method, path)
    assert re.fullmatch("[0-9a-f]{32}", response.headers["x-request-id"])
    assert response.headers.get_list("x-content-type-options") == ["nosniff"]
    assert response.headers.get_list("x-frame-options") == ["DENY"]
    assert response.headers.get_list("cache-control") == ["no-store"]
    assert response.headers.get_list("referrer-policy") == ["no-referrer"]
    [policy] = response.headers.get_list("content-security-policy")
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "frame-ancestors 'none'" in policy
    assert "http:" not in policy
    if response.status_code >= 400:
        assert_error(response, response.status_code, response.json()["error"])


@pytest.mark.parametrize("path", ["/health", "/predict", "/nowhere", "/docs"])
@pytest.mark.parametrize("name", ["a", "x" * 64, "0aZ._-"])
def test_request_id_is_echoed(http: httpx.Client, path: str, name: str) -> None:
    assert http.get(path, headers={"X-Request-Id": name}).headers["x-request-id"] == name


@pytest.mark.parametrize("name", ["", "x" * 65, "a b", 'a"b', "a,b", "é", "a\tb", "<script>"])
def test_invalid_request_id_is_replaced(http: httpx.Client, name: str) -> None:
    response = http.get("/health", headers=[("X-Request-Id", name.encode("latin-1"))])
    assert re.fullmatch("[0-9a-f]{32}", response.headers["x-request-id"])


@pytest.mark.parametrize("header", ["X-Request-Id", "X-Session-Id", "Idempotency-Key"])
@pytest.mark.parametrize("end", ["\r\n", "\n", "\r", "\r\n ", "%0d%0a"])
def test_line_break_in_a_header_injects_no_response_header(
    server: Server, header: str, end: str
) -> None:
    body = json.dumps(EXAMPLE).encode()
    response = post(
        server,
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        f"{header}: x{end}Set-Cookie: forged=1",
        body=body,
    )
    # A bare line break starts the next header of the request; it never comes back in a response.
    head = response.split(b"\r\n\r\n")[0].lower()
    assert b"set-cookie" not in head
    assert b"forged" not in head.replace(b"\r\n", b"")
    assert status(response) in (200, 400, 422)


@pytest.mark.parametrize("path", GETS)
def test_head_returns_headers_of_get_without_body(http: httpx.Client, path: str) -> None:
    got, head = http.get(path), http.head(path)
    assert head.status_code == got.status_code
    assert head.content == b""
    assert head.headers.get("content-type") == got.headers.get("content-type")


def allowed_methods(path: str) -> set[str]:
    allowed = {m for m, p in PAIRS if p == path}
    return allowed | ({"HEAD"} if "GET" in allowed else set())


@pytest.mark.parametrize(
    ("path", "method"),
    [
        (path, method)
        for path in sorted({path for _, path in PAIRS})
        for method in ("PUT", "PATCH", "OPTIONS", "DELETE", "TRACE", "PROPFIND", "HEAD")
        if method not in allowed_methods(path)
    ],
)
def test_other_method_returns_405_with_allowed_methods(
    http: httpx.Client, path: str, method: str
) -> None:
    response = http.request(method, path)
    assert response.status_code == 405
    assert set(response.headers["allow"].split(", ")) == allowed_methods(path)
    if method != "HEAD":
        assert_error(response, 405, "method_not_allowed")


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
def test_unknown_path_returns_404(server: Server, path: str) -> None:
    request = f"GET {path} HTTP/1.1\r\nHost: [::1]\r\nConnection: close\r\n\r\n"
    response = send_raw(server, request.encode())
    assert status(response) == 404
    assert json.loads(response.split(b"\r\n\r\n", 1)[1])["error"] == "not_found"


@pytest.mark.parametrize("value", ["bytes=abc", "bytes=99999999-", "bytes=5-2", "lines=1", "x"])
def test_invalid_range_of_a_static_file_returns_422(http: httpx.Client, value: str) -> None:
    response = http.get("/static_content/swagger-ui.css", headers={"Range": value})
    assert_error(response, 422, "validation_error")


def series(http: httpx.Client) -> set[str]:
    """Return the names and labels of all series, without their values."""
    text = http.get("/metrics").text
    return {line.rsplit(" ", 1)[0] for line in text.splitlines() if not line.startswith("#")}


def test_requests_create_no_new_time_series(http: httpx.Client) -> None:
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


def test_metrics_count_predictions_and_errors(http: httpx.Client) -> None:
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
    ("path", "limit", "status"),
    [("/predict", MIB, 422), ("/history", MIB, 401), ("/predict_batch", 16 * MIB, 422)],
)
def test_body_is_accepted_up_to_the_limit_and_rejected_above(
    http: httpx.Client, path: str, limit: int, status: int
) -> None:
    headers = {"Content-Type": "application/json"}
    padding = b" " * (limit - 2) + b"{}"
    assert_error(http.post(path, content=padding + b" ", headers=headers), 413, "body_too_large")
    # `/history` accepts an empty object, and then needs an administrator.
    assert http.post(path, content=padding, headers=headers).status_code == status


def chunks(size: int, number: int, counted: list[int]) -> Iterator[bytes]:
    for _ in range(number):
        counted[0] += size
        yield b" " * size


def test_chunked_body_above_the_limit_returns_413(http: httpx.Client) -> None:
    response = http.post(
        "/predict",
        content=chunks(64 * 1024, 17, [0]),
        headers={"Content-Type": "application/json"},
    )
    assert_error(response, 413, "body_too_large")


def test_chunked_body_within_the_limit_is_accepted(http: httpx.Client) -> None:
    body = json.dumps(EXAMPLE).encode()
    pieces = (body[at : at + 7] for at in range(0, len(body), 7))
    response = http.post("/predict", content=pieces, headers={"Content-Type": "application/json"})
    assert response.status_code == 200


def test_body_of_50_mb_is_rejected_without_being_buffered(
    server: Server, http: httpx.Client
) -> None:
    def resident() -> int:
        return sum(process.memory_info().rss for process in server.processes())

    http.get("/health")
    before = resident()
    for content in (b" " * (50 * MIB), chunks(MIB, 50, [0])):
        response = http.post(
            "/predict", content=content, headers={"Content-Type": "application/json"}
        )
        assert_error(response, 413, "body_too_large")
    assert resident() - before < 20 * MIB


def test_413_is_sent_before_the_body_is_received(server: Server) -> None:
    request = (
        b"POST /predict HTTP/1.1\r\nHost: [::1]\r\nContent-Type: application/json\r\n"
        b"Content-Length: 52428800\r\nExpect: 100-continue\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", server.port), 20) as connection:
        connection.sendall(request)
        assert connection.recv(65536).startswith(b"HTTP/1.1 413")


def test_token_is_checked_before_the_body_is_received(server: Server) -> None:
    request = (
        b"POST /promote HTTP/1.1\r\nHost: [::1]\r\nContent-Type: application/json\r\n"
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
        b"POST /predict HTTP/1.1\r\nHost: [::1]\r\nContent-Length: -1\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: [::1]\r\nContent-Length: abc\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: [::1]\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: [::1]\r\n"
        b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n{}",
        b"POST /predict HTTP/1.1\r\nHost: [::1]\r\nTransfer-Encoding: chunked\r\n"
        b"Content-Length: 2\r\n\r\n{}",
        b"POST /predict HTTP/1.1\r\nHost: [::1]\r\nContent-Type: application/json\r\n"
        b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /health HTTP/1.1\r\nHost: [::1]\r\nX: \x00\r\n\r\n",
        b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\nHost: [::1]\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: [::1]\r\nX-Session-Id: " + b"x" * 200_000 + b"\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
    ids=lambda request: repr(request[:24] + request[-16:]),
)
def test_malformed_http_is_answered_4xx_and_the_server_continues(
    server: Server, http: httpx.Client, request_bytes: bytes
) -> None:
    response = send_raw(server, request_bytes, whole=False)
    too_large = len(request_bytes) > 200_000
    assert status(response) == (431 if too_large else 400)
    code = "headers_too_large" if too_large else "malformed_request"
    assert json.loads(response.split(b"\r\n\r\n", 1)[1])["error"] == code
    assert http.post("/predict", json=EXAMPLE).status_code == 200


def test_incomplete_body_stores_no_row(server: Server, http: httpx.Client, session_id: str) -> None:
    body = json.dumps(EXAMPLE).encode()
    response = post(
        server,
        f"X-Session-Id: {session_id}",
        "Content-Type: application/json",
        f"Content-Length: {len(body) + 1}",
        body=body,
        whole=False,
    )
    assert b" 200 " not in response.split(b"\r\n")[0]
    assert http.get("/history", params={"session_id": session_id}).json() == []


@pytest.mark.parametrize(
    "headers",
    [
        b"",
        b"Host: [::1]\r\nHost: [::1]\r\n",
        b"Host: [::1]\r\nX-Session-Id: a\r\nx-session-id: b\r\n",
        b"Host: [::1]\r\nIdempotency-Key: a\r\nIdempotency-Key: a\r\n",
        b"Host: [::1]\r\nAuthorization: Bearer a\r\nAuthorization: Bearer b\r\n",
    ],
)
def test_missing_host_or_repeated_header_returns_400(server: Server, headers: bytes) -> None:
    request = b"GET /health HTTP/1.1\r\nConnection: close\r\n" + headers + b"\r\n"
    response = send_raw(server, request)
    assert status(response) == 400
    assert json.loads(response.split(b"\r\n\r\n", 1)[1])["error"] == "malformed_request"


def test_trailers_are_not_taken_for_headers(server: Server) -> None:
    """A reverse proxy that sets or removes a header may pass on what follows the body."""
    body = json.dumps(EXAMPLE).encode()
    response = send_raw(
        server,
        b"POST /predict HTTP/1.1\r\nHost: localhost\r\nX-Session-Id: of-the-proxy\r\n"
        b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        b"%x\r\n%s\r\n0\r\nX-Session-Id: of-the-client\r\n\r\n" % (len(body), body),
    )
    assert status(response) == 200
    assert b'"session_id":"of-the-proxy"' in response


def test_pipelined_requests_are_answered_in_order(server: Server) -> None:
    one = b"GET /health HTTP/1.1\r\nHost: [::1]\r\nX-Request-Id: %d\r\n\r\n"
    last = b"GET /nowhere HTTP/1.1\r\nHost: [::1]\r\nX-Request-Id: 3\r\nConnection: close\r\n\r\n"
    response = send_raw(server, one % 1 + one % 2 + last)
    assert re.findall(rb"x-request-id: (\d)", response) == [b"1", b"2", b"3"]


def test_websocket_upgrade_is_ignored(server: Server) -> None:
    request = (
        b"GET /health HTTP/1.1\r\nHost: [::1]\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", server.port), 20) as connection:
        connection.sendall(request)
        assert b"101" not in connection.recv(65536).split(b"\r\n")[0]


def test_access_log_has_id_duration_and_version_and_no_pupil_data(
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
        time.sleep(0.05)  # Lines are written together, ten times a second.
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


@pytest.mark.parametrize("path", ["/health", "/history?session_id=a", "/docs", "/metrics"])
def test_request_for_another_host_is_rejected(http: httpx.Client, path: str) -> None:
    """A page whose name suddenly stands for 127.0.0.1 (DNS rebinding) must not read anything."""
    assert_error(http.get(path, headers={"Host": "evil.example:8000"}), 421, "misdirected_request")
    assert http.get(path, headers={"Host": "localhost"}).status_code == 200
