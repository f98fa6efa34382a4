"""Bad input is a 4xx in the envelope, never a 500: hostile JSON, and bytes that are no HTTP."""

from __future__ import annotations

import contextlib
import json
import random
import socket
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from student_success.api.responses import SECURITY_HEADERS
from student_success.domain.students import EXAMPLE, FEATURE_NAMES
from tests.faults.counts import counts, times
from tests.faults.wire import Answer, CutError, Wire, request
from tests.server import Server, serving

pytestmark = pytest.mark.faults

PROMISE = "bad input is a 4xx in the envelope, never a 500"
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
    found: Counter[int] = Counter()
    yield found
    counts.add(
        promise=PROMISE,
        faults=found.total(),
        requests=found.total(),
        acknowledged=found[200],
        lost=sum(number for status, number in found.items() if status >= 500),
    )


def judge(answer: Answer, statuses: Counter[int]) -> Answer:
    """Hold an answer to what every answer must be."""
    statuses[answer.status] += 1
    assert answer.status < 500, answer.body
    for name, _ in SECURITY_HEADERS:
        assert name.decode() in answer.headers
    if answer.status >= 400:
        said = answer.json()
        assert set(said) == {"error", "message", "request_id", "details"}
        assert said["request_id"] == answer.headers["x-request-id"]
        for problem in said["details"]:
            assert {"loc", "msg", "type"} <= set(problem)
    return answer


def post(server: Server, path: str, body: bytes, statuses: Counter[int]) -> Answer:
    with Wire(server.port) as wire:
        return judge(wire.ask(request("POST", path, body, server.admin)), statuses)


def is_right(shell: str, value: str) -> bool:
    with contextlib.suppress(ValueError):
        if "budget" in shell:
            return 0 < float(value) <= 86_400
        if "version" in shell:
            return 0 < int(value) < 2**63
    return shell == "%s" and value in ("", "{}")


@pytest.mark.parametrize("path", BODIES)
def test_strange_values_are_refused_wherever_they_stand(
    server: Server, statuses: Counter[int], path: str
) -> None:
    shells = ["%s", '{"a": %s}', "[%s]", '{"session_id": %s}', '{"reason": %s}', '{"version": %s}']
    shells += ['{"students": [%s]}', '{"outcomes": [{"prediction_id": "a", "actual_G3": %s}]}']
    shells += [
        '{"budget_seconds": %s, "family": "nowhere"}',
        PUPIL[:-1].replace("%", "%%") + ', "x": %s}',
    ]
    for shell in shells:
        for value in STRANGE:
            if path in ("/promote", "/train") and is_right(shell, value):
                continue  # It would start a process, and find no such version or data.
            body = (shell % value).encode("utf-8", "surrogatepass")
            post(server, path, body, statuses)


@pytest.mark.parametrize("name", [*FEATURE_NAMES, "reference"])
def test_strange_values_of_a_field_are_refused_by_name(
    server: Server, statuses: Counter[int], name: str
) -> None:
    rest = {key: value for key, value in EXAMPLE.items() if key != name}
    for value in STRANGE:
        body = (json.dumps(rest)[:-1] + f', "{name}": {value}}}').encode("utf-8", "surrogatepass")
        answer = post(server, "/predict", body, statuses)
        if answer.status == 200:
            said = answer.json()
            assert 0 <= said["predicted_G3"] <= 20
        else:
            assert answer.status == 422


@pytest.mark.parametrize("name", [*FEATURE_NAMES, "reference"])
@pytest.mark.parametrize("spelled", ["{name}", "\\u{first:04x}{rest}"])
def test_key_that_stands_twice_is_refused_however_it_is_spelled(
    server: Server, statuses: Counter[int], name: str, spelled: str
) -> None:
    whole = {**EXAMPLE, "reference": "a"}
    again = spelled.format(name=name, first=ord(name[0]), rest=name[1:])
    body = json.dumps(whole)[:-1] + f', "{again}": {json.dumps(whole[name])}}}'
    for path, text in (("/predict", body), ("/predict_batch", f'{{"students": [{body}]}}')):
        answer = post(server, path, text.encode(), statuses)
        assert answer.status == 422
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
    max_examples=times(400, full=5000),
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_any_json_is_answered_or_refused(
    server: Server, statuses: Counter[int], path: str, body: Any, ascii_only: bool
) -> None:
    text = json.dumps(body, ensure_ascii=ascii_only)
    post(server, path, text.encode("utf-8", "surrogatepass"), statuses)


@given(path=st.sampled_from(BODIES), body=st.binary(max_size=300))
@settings(max_examples=times(150, full=2000), database=None)
def test_any_bytes_are_refused(
    server: Server, statuses: Counter[int], path: str, body: bytes
) -> None:
    post(server, path, body + b"\xff", statuses)


def test_pupil_cut_or_bent_at_any_place_is_refused(server: Server, statuses: Counter[int]) -> None:
    whole = PUPIL.encode()
    dice = random.Random(7)
    with Wire(server.port) as wire:
        for _ in range(times(600, full=6000)):
            bent = bytearray(whole[: dice.randrange(len(whole))] if dice.random() < 0.3 else whole)
            for _ in range(dice.randrange(1, 4)):
                if bent:
                    bent[dice.randrange(len(bent))] = dice.randrange(256)
            judge(wire.ask(request("POST", "/predict", bytes(bent))), statuses)


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
    *(b"Host: x", b"Host: ", b"Host: x\r\nHost: y", b"Content-Length: -1", b"Content-Length: 1e3"),
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


def test_bytes_that_are_no_http_are_refused_in_the_envelope(
    server: Server, statuses: Counter[int]
) -> None:
    dice = random.Random(11)
    silent = 0
    for _ in range(times(800, full=8000)):
        line = b" ".join(dice.choice(part) for part in (LINES, TARGETS, VERSIONS))
        chosen = dice.sample(HEADERS, dice.randrange(4))
        sent = b"\r\n".join([line, *chosen]) + dice.choice(ENDS)
        if dice.random() < 0.2:
            sent = bytes(dice.randrange(256) for _ in range(dice.randrange(1, 200)))
        silent += hostile(server, sent, statuses)
    assert statuses[400] > 100
    with Wire(server.port) as wire:
        assert wire.ask(request("POST", "/predict", EXAMPLE)).status == 200
    assert not [line for line in server.log_lines() if line["event"] == "request_crashed"]
    # The others waited for more, and were told no more would come.
    assert silent < 800


def hostile(server: Server, sent: bytes, statuses: Counter[int]) -> bool:
    """Send bytes and judge each answer; return whether there was none."""
    received = b""
    with (
        contextlib.suppress(OSError),
        socket.create_connection(("127.0.0.1", server.port), 20) as connection,
    ):
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        while piece := connection.recv(65536):
            received += piece
    for head in received.split(b"HTTP/1.1 ")[1:]:
        status = int(head[:3])
        if status < 200:
            continue
        statuses[status] += 1
        assert status < 500, (sent, head)
        assert b"x-content-type-options: nosniff" in head, (sent, head)
        if status >= 400:
            assert b"content-type: application/json" in head, (sent, head)
            assert b"Traceback" not in head
    return not received


def test_request_after_a_broken_one_on_the_same_connection_is_not_mistaken(
    server: Server, statuses: Counter[int]
) -> None:
    """What is smuggled behind a body whose length is disputed is not taken for a request."""
    inner = b"DELETE /history?session_id=x HTTP/1.1\r\nHost: x\r\n\r\n"
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
        with Wire(server.port) as wire:
            wire.send(
                b"POST /predict HTTP/1.1\r\nHost: x\r\n" + headers + b"\r\n\r\n0\r\n\r\n" + inner
            )
            judge(wire.read(), statuses)
            with pytest.raises(CutError):
                wire.read()


def test_broken_request_behind_a_good_one_does_not_take_its_answer(
    server: Server, statuses: Counter[int]
) -> None:
    for _ in range(20):
        with Wire(server.port) as wire:
            wire.send(request("POST", "/predict", EXAMPLE) + b"\x00\x01broken\r\n\r\n")
            first = judge(wire.read(), statuses)
            assert first.status == 200
            assert first.json()["predicted_G3"] > 0
