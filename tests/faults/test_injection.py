"""Nothing can be injected into SQL, log lines, headers or spreadsheet cells."""

from __future__ import annotations

import ast
import base64
import contextlib
import csv
import io
import re
import sqlite3
import time
import unicodedata
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openpyxl import load_workbook

from benchmarks.load import HttpConnection, http_request
from gradio_ui.files.export import build_file
from student_success.domain.references import normalise_reference
from student_success.domain.students import EXAMPLE
from tests.faults.promise_counts import counts, repetitions
from tests.server import ROOT, Server, serving
from tests.source_code import syntax_tree

pytestmark = pytest.mark.faults

PROMISE = "no injection"
SQL = [
    *("'", '"', "`", "';", "'--", "' OR '1'='1", "' OR 1=1 --", "') OR ('1'='1", "1; SELECT 1"),
    *("'; DROP TABLE inference_logs; --", "'; DELETE FROM deployments; --", "x' UNION SELECT 1 --"),
    *("%", "_", "%%", "[a-z]", "*", "\\'", "\\", "$1", ":session_id", "?", "%s", "%(x)s", "{0}"),
    *("' AND (SELECT 1 FROM (SELECT sleep(9))) --", "' || randomblob(100000000) || '"),
]
LINES = [
    'x"}\n{"event": "forged"}',
    "x\r\nforged",
    "x\x1b[31mforged",
    "x\u2028forged",
    "x\x85forged",
]
FORMULAS = [
    *("=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "  =1", "=HYPERLINK(A1)"),
    *("=cmd|' /C calc'!A0", "＝1+1", "\u00a0=1", "\ufeff=1", "\u200b=1", "\x0b=1", "\x1c=1"),
]
DANGEROUS = "=+-@＝＋－＠"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("injection")) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, headers=server.admin, timeout=60) as accepted:
        yield accepted


def tables(server: Server) -> dict[str, int]:
    path = server.state_dir / "student_success.db"
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        names = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        return {
            name: database.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0]
            for (name,) in names
        }


def test_sql_in_any_field_is_treated_as_text(server: Server, client: httpx.Client) -> None:
    kept = client.post("/predict", json=EXAMPLE, headers={"X-Session-Id": "kept"})
    assert kept.status_code == 200
    before = tables(server)
    accepted = requests = empty_sessions = 0
    started = time.monotonic()
    for text in SQL:
        answer = client.post("/predict", json={**EXAMPLE, "reference": text})
        assert answer.status_code == 200
        accepted += 1
        session = answer.json()["session_id"]
        [row] = client.get("/history", params={"session_id": session}).json()
        assert row["reference"] == text
        # A session's name may have most signs, but no blank, for example.
        session_statuses = (200, 422)
        tried: list[tuple[str, str, dict[str, Any], tuple[int, ...]]] = [
            ("GET", "/history", {"params": {"session_id": text}}, session_statuses),
            ("GET", "/history", {"params": {"session_id": "kept", "limit": text}}, (422,)),
            ("GET", "/history", {"params": {"session_id": "kept", "before_id": text}}, (422,)),
            ("DELETE", "/history", {"params": {"session_id": text}}, session_statuses),
            ("POST", "/history", {"json": {"session_id": text}}, session_statuses),
            ("GET", "/train", {"params": {"job_id": text}}, (422,)),
            ("POST", "/rollback", {"json": {"reason": text}}, (409,)),
            ("POST", "/train", {"json": {"family": text}}, (422,)),
            ("POST", "/promote", {"json": {"version": 1, "alias": text}}, (422,)),
            (
                "POST",
                "/outcomes",
                {"json": {"outcomes": [{"prediction_id": text, "actual_G3": 1}]}},
                (200,),
            ),
            (
                "POST",
                "/outcomes",
                {"json": {"outcomes": [{"session_id": "a", "reference": text, "actual_G3": 1}]}},
                (200,),
            ),
        ]
        for method, path, options, statuses in tried:
            answer = client.request(method, path, **options)
            requests += 1
            assert answer.status_code in statuses, (path, text)
            if path == "/outcomes":
                assert answer.json()["accepted"] == 0
            if path == "/history" and method != "DELETE" and answer.status_code == 200:
                empty_sessions += 1
                assert answer.json() == []
    grown = {name: number - before[name] for name, number in tables(server).items()}
    # "_" is a family that there might be, and the row by which the database is tried may go.
    expected = {"jobs", "idempotency_keys"}
    changed = {name: by for name, by in grown.items() if by and name not in expected}
    counts.add(
        promise=PROMISE,
        faults=requests + accepted,
        requests=requests + accepted,
        acknowledged=accepted,
    )
    assert changed == {"inference_logs": accepted}
    assert empty_sessions > len(SQL)
    assert time.monotonic() - started < 60
    assert len(client.get("/history", params={"session_id": "kept"}).json()) == 1


def test_no_sql_statement_is_built_from_text() -> None:
    """Statements are SQLAlchemy's; text goes into one only as a name from the code itself."""
    built_statements = set()
    for path in [*(ROOT / "student_success").rglob("*.py"), ROOT / "service.py"]:
        for node in ast.walk(syntax_tree(path)):
            if not isinstance(node, ast.Call):
                continue
            name = ast.unparse(node.func)
            if re.search(r"(^|\.)(text|exec_driver_sql|execute|executemany)$", name) and any(
                isinstance(argument, ast.JoinedStr | ast.BinOp) for argument in node.args
            ):
                built_statements.add(ast.unparse(node.args[0]))
    assert built_statements == {
        "f'PRAGMA {pragma}'",
        "f'BEGIN {mode}'",
        "f'PRAGMA wal_checkpoint({mode})'",
        "f'PRAGMA busy_timeout={WAIT_MS}'",
        "f'PRAGMA busy_timeout={before_ms}'",
        "f'LOCK TABLE {table.name} IN SHARE ROW EXCLUSIVE MODE'",
        "f'SELECT pg_advisory_lock({MIGRATION_LOCK_KEY})'",
        "f'SELECT pg_advisory_unlock({MIGRATION_LOCK_KEY})'",
        # In a migration, with names of its own.
        "f'ALTER TABLE inference_logs ALTER COLUMN interval_low TYPE {grade}, "
        "ALTER COLUMN interval_high TYPE {grade}, "
        "ALTER COLUMN horizon TYPE VARCHAR({horizon_length})'",
        "f'ALTER TABLE outcomes ALTER COLUMN actual_grade TYPE {grade}'",
        "f'ALTER TABLE {table} SET ({options})'",
        "f\"ALTER TABLE {table} RESET ({', '.join(OPTIONS)})\"",
    }


def test_log_lines_cannot_be_forged(server: Server, client: httpx.Client) -> None:
    number = 0
    for text in LINES:
        raw = text.encode("utf-8")
        client.post("/predict", json={**EXAMPLE, "reference": text[:64]})
        client.post("/predict", json={**EXAMPLE, text: text})
        client.post("/rollback", json={"reason": text})
        client.get("/history", params={"session_id": text, text: text})
        client.get(f"/{base64.b64encode(raw).decode()}")
        for path in ("/%0a%22%7d%0a%7b%22event%22:%22forged%22%7d", "/%0d%0aforged", "/%1b[31m"):
            client.get(path)
        for name in ("X-Request-Id", "X-Session-Id", "Idempotency-Key", "Authorization"):
            clean = raw.replace(b"\r", b"").replace(b"\n", b"")
            client.post("/predict", json=EXAMPLE, headers=[(name.encode(), clean)])
        number += 12
    time.sleep(1.0)  # Lines are written a tenth of a second later.
    log = server.log.read_bytes()
    forged = [line for line in server.log_lines() if line.get("event") == "forged"]
    counts.add(promise=PROMISE, faults=number, requests=number, lost=len(forged))
    assert forged == []
    assert b"\x1b" not in log
    for line in log.splitlines():
        assert not line.startswith((b"forged", b'{"event": "forged"'))


@pytest.mark.parametrize("name", ["X-Request-Id", "X-Session-Id", "Idempotency-Key"])
@pytest.mark.parametrize("value", ["x\rSet-Cookie: a=1", "x\nSet-Cookie: a=1", "x\r\n\r\n<script>"])
def test_line_break_in_a_header_is_not_returned(server: Server, name: str, value: str) -> None:
    """`tests/http/test_protocol.py` sends more of them; here it is the whole answer that counts."""
    with HttpConnection(server.port) as connection:
        answer = connection.exchange(
            http_request("POST", "/predict", EXAMPLE, {name: value, "Connection": "close"})
        )
    counts.add(promise=PROMISE, faults=1, requests=1)
    assert answer.status in (200, 400, 422)
    assert "set-cookie" not in answer.headers
    assert b"<script>" not in answer.body
    for header_value in answer.headers.values():
        assert re.fullmatch(r"[\x20-\x7e]*", header_value)


def test_strange_session_in_query_is_returned_as_json_or_refused(client: httpx.Client) -> None:
    for name in ("a\r\nSet-Cookie: b=1", "a\x00", "a\x85", "é", "<script>alert(1)</script>", "a b"):
        answer = client.post("/predict", params={"session_id": name}, json=EXAMPLE)
        if answer.status_code == 200:
            # Shown as JSON, to a browser that is told not to guess.
            assert answer.headers["content-type"] == "application/json"
            assert answer.headers["x-content-type-options"] == "nosniff"
        else:
            assert answer.status_code == 422
            assert name not in answer.text
        assert "set-cookie" not in answer.headers


def test_formula_is_returned_as_text_by_the_api(client: httpx.Client) -> None:
    """JSON runs nothing: what was sent comes back, in the one form of references."""
    for text in FORMULAS:
        answer = client.post("/predict", json={**EXAMPLE, "reference": text})
        session = answer.json()["session_id"]
        shown = client.get("/history", params={"session_id": session})
        assert shown.headers["content-type"] == "application/json"
        assert shown.json()[0]["reference"] == normalise_reference(text)


def is_formula(cell: object) -> bool:
    """Tell whether some spreadsheet might run a cell."""
    if not isinstance(cell, str):
        return False
    # Blanks, controls, and marks that are not seen.
    seen = [letter for letter in cell if unicodedata.category(letter)[0] not in "ZC"]
    return bool(seen) and seen[0] in DANGEROUS


cells = st.one_of(
    st.text(max_size=30),
    st.builds("".join, st.tuples(st.sampled_from(["", *FORMULAS]), st.text(max_size=10))),
    st.builds(
        "{}{}{}".format, st.text(' \t\r\n",;', max_size=4), st.sampled_from(DANGEROUS), st.text()
    ),
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(),
)


@given(
    header=st.lists(cells.map(str), min_size=2, max_size=2),
    rows=st.lists(st.lists(cells, min_size=2, max_size=2), min_size=1, max_size=4),
    decimal_comma=st.booleans(),
)
@settings(max_examples=repetitions(200, full=3000), database=None)
def test_saved_table_contains_no_formula(
    header: list[str], rows: list[list[Any]], decimal_comma: bool
) -> None:
    file = build_file("csv", "x", header, rows, decimal_comma=decimal_comma)
    text = base64.b64decode(file["data"]).decode("utf-8-sig")
    read = csv.reader(io.StringIO(text, newline=""), delimiter=";" if decimal_comma else ",")
    for row, accepted in zip(list(read), [header, *rows], strict=True):
        for cell, value in zip(row, accepted, strict=True):
            assert not isinstance(value, str) or not is_formula(cell), (value, cell)
    book = base64.b64decode(build_file("xlsx", "x", header, rows)["data"])
    sheet = load_workbook(io.BytesIO(book)).worksheets[0]
    for row_of_cells in sheet.iter_rows():
        for one in row_of_cells:
            assert one.data_type != "f"
            assert not isinstance(one.value, str) or not is_formula(one.value)
