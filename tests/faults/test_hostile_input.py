"""Bad input gets the status and error code of the contract: hostile JSON and malformed HTTP."""

from __future__ import annotations

import contextlib
import json
import random
import re
import socket
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.load import ConnectionLostError, HttpConnection, HttpResponse, http_request
from student_success.api.responses import SECURITY_HEADERS
from student_success.domain.students import EXAMPLE, FEATURE_NAMES, FEATURES
from tests.faults.promise_counts import counts, repetitions
from tests.server import Server, serving

pytestmark = pytest.mark.faults

PROMISE = "bad input gets a 4xx in the error envelope, never a 500"
BODIES = [
    *("/predict", "/predict_batch", "/explain", "/history", "/outcomes"),
    *("/train", "/promote", "/rollback", "/health"),
]
PUPIL = json.dumps(EXAMPLE)

# What a parser may stumble over, as raw JSON values.
STRANGE = [
    *("NaN", "-NaN", "Infinity", "-Infinity", "1e400", "-1e400", "1e-400", "-0", "-0.0", "1E+2"),
    *("9" * 400, "-" + "9" * 5000, "0." + "1" * 5000, "1e" + "9" * 30, "0x10", "01", "+1", ".5"),
    *(str(2**31), str(2**63 - 1), str(2**63), str(2**64), str(-(2**63) - 1), "17.000000000000001"),
    *('"\\ud800"', '"\\udc00\\ud800"', '"a\\u0000b"', '"\\x"', '"\\u12"', '"', "'a'"),
    *(
        '"\ufeff"',
        '"\u202e"',
        '"\U0001f600"',
        '"\\ud83d\\ude00"',
        '"e\u0301"',
        '"' + "x" * 9000 + '"',
    ),
    *("null", "true", "false", "[]", "{}", "[[]]", '{"a": {}}', "undefined", "None", "", ","),
    *("[" * 200 + "]" * 200, '{"a":' * 200 + "1" + "}" * 200, "[" * 5000, '{"a":' * 5000),
    *('"=1+1"', '"; DROP TABLE inference_logs; --"', '"${jndi:ldap://x}"', '"../../etc/passwd"'),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("hostile")
    # Training finds no data, so that one that is started by mistake ends by itself.
    with serving(folder, DATA_PATH=str(folder / "nowhere.csv"), REQUEST_SECONDS="3") as running:
        yield running


@pytest.fixture(scope="module")
def statuses() -> Iterator[Counter[int]]:
    responses: Counter[int] = Counter()
    yield responses
    counts.add(
        promise=PROMISE,
        faults=responses.total(),
        requests=responses.total(),
        acknowledged=responses[200],
        lost=sum(number for status, number in responses.items() if status >= 500),
    )


def check_envelope(answer: HttpResponse, statuses: Counter[int]) -> HttpResponse:
    """Check what every response must have: security headers, and the envelope of an error."""
    statuses[answer.status] += 1
    assert answer.status < 500, answer.body
    for name, _ in SECURITY_HEADERS:
        assert name.decode() in answer.headers
    if answer.status >= 400:
        envelope = answer.json()
        assert set(envelope) == {"error", "message", "request_id", "details"}
        assert envelope["request_id"] == answer.headers["x-request-id"]
        for problem in envelope["details"]:
            assert {"loc", "msg", "type"} <= set(problem)
    return answer


def post(server: Server, path: str, body: bytes, statuses: Counter[int]) -> HttpResponse:
    with HttpConnection(server.port) as connection:
        return check_envelope(
            connection.exchange(http_request("POST", path, body, server.admin)), statuses
        )


def outcome(answer: HttpResponse) -> tuple[int, str | None]:
    """Return the status and, of a refusal, the error code."""
    return answer.status, answer.json()["error"] if answer.status >= 400 else None


REFUSED = (422, "validation_error")
VALID_OUTCOME = '{"outcomes": [{"prediction_id": "a", "actual_G3": %s}]}'
VALID: dict[tuple[str, str], tuple[set[str], tuple[int, str | None]]] = {
    ("/history", "%s"): ({"", "{}"}, (200, None)),
    ("/history", '{"session_id": %s}'): (
        {"null", '"=1+1"', '"${jndi:ldap://x}"', '"../../etc/passwd"'},
        (200, None),
    ),
    ("/health", "%s"): ({"", "{}"}, (200, None)),
    # Whole grades from 0 to 20, however they are written.
    ("/outcomes", VALID_OUTCOME): ({"1e-400", "-0", "-0.0", "17.000000000000001"}, (200, None)),
    ("/train", '{"budget_seconds": %s, "family": "nowhere"}'): ({"null"}, (422, "dataset_invalid")),
    # A reason is any text; there is nothing to roll back to.
    ("/rollback", '{"reason": %s}'): (
        {
            *('"\ufeff"', '"\u202e"', '"\U0001f600"', '"\\ud83d\\ude00"', '"e\u0301"', '"=1+1"'),
            *('"; DROP TABLE inference_logs; --"', '"${jndi:ldap://x}"', '"../../etc/passwd"'),
        },
        (409, "conflict"),
    ),
}
"""Values that the contract allows, by route and surrounding JSON, with the response to them."""


def expected_outcome(path: str, shell: str, value: str) -> tuple[int, str | None]:
    """Return the status and error code that the contract gives for a value in a body."""
    values, response = VALID.get((path, shell), (set(), REFUSED))
    return response if value in values else REFUSED


def starts_a_process(shell: str, value: str) -> bool:
    """Return whether `/promote` or `/train` would start a child process for this body."""
    with contextlib.suppress(ValueError):
        if "budget" in shell:
            return 0 < float(value) <= 86_400
        if "version" in shell:
            return 0 < int(value) < 2**63
    return shell == "%s" and value in ("", "{}")


@pytest.mark.parametrize("path", BODIES)
def test_strange_json_value_gets_status_and_code_of_contract(
    server: Server, statuses: Counter[int], path: str
) -> None:
    shells = ["%s", '{"a": %s}', "[%s]", '{"session_id": %s}', '{"reason": %s}', '{"version": %s}']
    shells += ['{"students": [%s]}', VALID_OUTCOME]
    shells += [
        '{"budget_seconds": %s, "family": "nowhere"}',
        PUPIL[:-1].replace("%", "%%") + ', "x": %s}',
    ]
    for shell in shells:
        for value in STRANGE:
            if path in ("/promote", "/train") and starts_a_process(shell, value):
                continue
            body = (shell % value).encode("utf-8", "surrogatepass")
            answer = post(server, path, body, statuses)
            assert outcome(answer) == expected_outcome(path, shell, value), (shell, value)


@pytest.mark.parametrize("name", [*FEATURE_NAMES, "reference"])
def test_strange_value_of_a_field_gets_422_or_valid_grade(
    server: Server, statuses: Counter[int], name: str
) -> None:
    rest = {key: value for key, value in EXAMPLE.items() if key != name}
    accepted = 0
    for value in STRANGE:
        body = (json.dumps(rest)[:-1] + f', "{name}": {value}}}').encode("utf-8", "surrogatepass")
        answer = post(server, "/predict", body, statuses)
        assert outcome(answer) in ((200, None), REFUSED), value
        accepted += answer.status == 200
        if answer.status == 200:
            assert 0 <= answer.json()["predicted_G3"] <= 20
    # Numbers in range, and texts as a reference; most values are none of these.
    assert accepted < len(STRANGE) / 4


@pytest.mark.parametrize("name", [*FEATURE_NAMES, "reference"])
@pytest.mark.parametrize("spelled", ["{name}", "\\u{first:04x}{rest}"])
def test_repeated_key_gets_422_however_it_is_spelled(
    server: Server, statuses: Counter[int], name: str, spelled: str
) -> None:
    whole = {**EXAMPLE, "reference": "a"}
    again = spelled.format(name=name, first=ord(name[0]), rest=name[1:])
    body = json.dumps(whole)[:-1] + f', "{again}": {json.dumps(whole[name])}}}'
    for path, text in (("/predict", body), ("/predict_batch", f'{{"students": [{body}]}}')):
        answer = post(server, path, text.encode(), statuses)
        assert outcome(answer) == REFUSED
        assert [one["type"] for one in answer.json()["details"]] == ["repeated_key"]


texts = st.text(st.characters(codec=None), max_size=40)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=True, allow_infinity=True)
    | texts
    | st.sampled_from(list(EXAMPLE.values())),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            texts | st.sampled_from([*EXAMPLE, "students", "reason"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)
pupils = st.fixed_dictionaries(
    {name: st.just(value) | values for name, value in EXAMPLE.items()},
    optional={"reference": values, "other": values},
)


@given(
    path=st.sampled_from([path for path in BODIES if path not in ("/train", "/promote")]),
    body=pupils | values | st.fixed_dictionaries({"students": st.lists(pupils, max_size=3)}),
    ascii_only=st.booleans(),
)
@settings(
    max_examples=repetitions(400, full=5000),
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_any_json_gets_status_and_code_of_contract(
    server: Server, statuses: Counter[int], path: str, body: Any, ascii_only: bool
) -> None:
    text = json.dumps(body, ensure_ascii=ascii_only)
    answer = post(server, path, text.encode("utf-8", "surrogatepass"), statuses)
    accepted = (409, "conflict") if path == "/rollback" else (200, None)
    assert outcome(answer) in (accepted, REFUSED)


@given(path=st.sampled_from(BODIES), body=st.binary(max_size=300))
@settings(max_examples=repetitions(150, full=2000), database=None)
def test_bytes_that_are_not_utf8_get_422(
    server: Server, statuses: Counter[int], path: str, body: bytes
) -> None:
    answer = post(server, path, body + b"\xff", statuses)
    assert outcome(answer) == REFUSED


def test_pupil_with_changed_bytes_gets_422(server: Server, statuses: Counter[int]) -> None:
    whole = PUPIL.encode()
    dice = random.Random(7)
    valid = 0
    with HttpConnection(server.port) as connection:
        for _ in range(repetitions(600, full=6000)):
            bent = bytearray(whole[: dice.randrange(len(whole))] if dice.random() < 0.3 else whole)
            for _ in range(dice.randrange(1, 4)):
                if bent:
                    bent[dice.randrange(len(bent))] = dice.randrange(256)
            content = http_request("POST", "/predict", bytes(bent))
            answer = check_envelope(connection.exchange(content), statuses)
            if answer.status == 200:
                valid += 1
                assert is_valid_pupil(bytes(bent)), bytes(bent)
            else:
                assert outcome(answer) == REFUSED, bytes(bent)
    assert valid < repetitions(600, full=6000) / 20


def is_valid_pupil(body: bytes) -> bool:
    """Return whether a body is a pupil by the table of features, independent of the validation."""
    pupil = json.loads(body)
    if pupil.keys() - {"reference"} != EXAMPLE.keys():
        return False
    for feature in FEATURES:
        value = pupil[feature.name]
        if feature.categories:
            if value not in feature.categories:
                return False
        elif value is not None and not (feature.low <= value <= feature.high):
            return False
    return True


LINES = [
    *(b"GET", b"POST", b"BREW", b"get", b"", b" ", b"\x00", b"G\x00T", b"CONNECT", b"PRI", b"*"),
]
TARGETS = [
    *(b"/predict", b"/", b"", b"*", b"http://[::1/", b"http://x:99999/health", b"//", b"/%"),
    *(
        b"/\xff\xfe",
        b"/%00",
        b"/%zz",
        b"?",
        b"/health?%ff",
        b"/health?a=1&a=2",
        b"/health?" + b"a&" * 50,
    ),
    *(b"/..%2f..%2fetc/passwd", b"a:1", b"/" + b"x" * 9000, b"/\t", b"/ x"),
]
VERSIONS = [b"HTTP/1.1", b"HTTP/1.0", b"HTTP/0.9", b"HTTP/2.0", b"HTTP/9.9", b"HTTP", b"", b"X/1.1"]
HEADERS = [
    *(b"Host: [::1]", b"Host: ", b"Host: [::1]\r\nHost: y"),
    *(b"Content-Length: -1", b"Content-Length: 1e3"),
    *(b"Content-Length: 5\r\nContent-Length: 6", b"Content-Length: " + b"9" * 100),
    *(b"Content-Length: 3\r\nTransfer-Encoding: chunked", b"Transfer-Encoding: gzip"),
    *(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", b"Connection: upgrade"),
    *(b"Upgrade: websocket\r\nConnection: Upgrade", b"Upgrade: h2c\r\nConnection: Upgrade"),
    *(b"Expect: 100-continue", b"Expect: x", b"X y: z", b": z", b"X\x00: z", b"X: \x00", b"X: \r"),
    *(b" folded: x", b"X: a\r\n b", b"X: " + b"\xff" * 20, b"Content-Type: application/json"),
    *(b"Content-Type: application/json; charset=utf-16", b"Authorization: \xff\xfe", b"Range: x"),
    *(
        b"X-Session-Id: \xff",
        b"X-Session-Id: a b",
        b"X-Request-Id: \xff\x01",
        b"Idempotency-Key: \t",
    ),
    *(b"X-Forwarded-For: \xff, ::, 999.1.1.1", b"X-Forwarded-Proto: javascript", b"Trailer: x"),
]
ENDS = [
    *(b"\r\n\r\n", b"\n\n", b"\r\n\r\n{}", b"\r\n\r\n2\r\n{}\r\n0\r\n\r\n", b"\r\n\r\nzz\r\n"),
    *(
        b"\r\n\r\n-1\r\n",
        b"\r\n\r\n2\r\n{}0\r\n\r\n",
        b"\r\n\r\n" + b"f" * 20 + b"\r\n",
        b"\r\r",
        b"",
    ),
]


def test_malformed_http_gets_4xx_in_the_envelope(server: Server, statuses: Counter[int]) -> None:
    dice = random.Random(11)
    silent = 0
    number = repetitions(800, full=8000)
    for _ in range(number):
        line = b" ".join(dice.choice(part) for part in (LINES, TARGETS, VERSIONS))
        chosen = dice.sample(HEADERS, dice.randrange(4))
        sent = b"\r\n".join([line, *chosen]) + dice.choice(ENDS)
        if dice.random() < 0.2:
            sent = bytes(dice.randrange(256) for _ in range(dice.randrange(1, 200)))
        silent += send_malformed(server, sent, statuses)
    assert statuses[400] > 100
    with HttpConnection(server.port) as connection:
        assert connection.exchange(http_request("POST", "/predict", EXAMPLE)).status == 200
    assert not [line for line in server.log_lines() if line["event"] == "request_crashed"]
    # Some bytes are the start of a valid request: the connection ends without a response.
    assert silent < number / 2


HTTP_ERRORS = {
    400: {"malformed_request", "validation_error"},
    404: {"not_found"},
    405: {"method_not_allowed"},
    408: {"request_timeout"},
    413: {"body_too_large"},
    415: {"unsupported_media_type"},
    421: {"misdirected_request"},
    422: {"validation_error"},
    431: {"headers_too_large"},
}


def send_malformed(server: Server, sent: bytes, statuses: Counter[int]) -> bool:
    """Send bytes and check each response; return whether there was none."""
    received = b""
    with (
        contextlib.suppress(OSError),
        socket.create_connection(("127.0.0.1", server.port), 20) as connection,
    ):
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        while piece := connection.recv(65536):
            received += piece
    # A message may speak of HTTP/1.1.
    for head in re.split(rb"HTTP/1\.1 (?=\d{3} )", received)[1:]:
        status = int(head[:3])
        if status < 200:
            continue
        statuses[status] += 1
        assert status in HTTP_ERRORS or status < 400, (sent, head)
        assert b"x-content-type-options: nosniff" in head, (sent, head)
        if status >= 400:
            assert b"content-type: application/json" in head, (sent, head)
            error = re.search(rb'"error": ?"(\w+)"', head)
            # The response to HEAD has no body.
            if error or b" HEAD " not in sent:
                assert error, (sent, head)
                assert error[1].decode() in HTTP_ERRORS[status], (sent, head)
            assert b"Traceback" not in head
    return not received


def test_request_smuggled_behind_disputed_length_is_not_executed(
    server: Server, statuses: Counter[int]
) -> None:
    """Bytes after a body of ambiguous length are never read as a second request."""
    inner = b"DELETE /history?session_id=x HTTP/1.1\r\nHost: [::1]\r\n\r\n"
    for headers in (
        b"Content-Length: %d\r\nTransfer-Encoding: chunked" % len(inner),
        b"Transfer-Encoding: chunked\r\nContent-Length: %d" % len(inner),
        b"Transfer-Encoding: xchunked",
        b"Transfer-Encoding : chunked",
        b"Content-Length: 0\r\nContent-Length: %d" % len(inner),
        b"Content-Length : %d" % len(inner),
        b"Transfer-Encoding: chunked, identity",
        b"Transfer-Encoding:\x0bchunked",
    ):
        with HttpConnection(server.port) as connection:
            connection.send(
                b"POST /predict HTTP/1.1\r\nHost: [::1]\r\n"
                + headers
                + b"\r\n\r\n0\r\n\r\n"
                + inner
            )
            answer = check_envelope(connection.read_response(), statuses)
            assert outcome(answer) == (400, "malformed_request"), headers
            with pytest.raises(ConnectionLostError):
                connection.read_response()


def test_malformed_request_after_valid_one_leaves_its_response_intact(
    server: Server, statuses: Counter[int]
) -> None:
    for _ in range(20):
        with HttpConnection(server.port) as connection:
            connection.send(http_request("POST", "/predict", EXAMPLE) + b"\x00\x01broken\r\n\r\n")
            first = check_envelope(connection.read_response(), statuses)
            assert first.status == 200
            assert first.json()["predicted_G3"] > 0
