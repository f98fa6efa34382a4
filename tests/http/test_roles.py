"""Who may do what: every route of the running application, with no, a wrong, a lower token."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.http.conftest import API_TOKEN, said
from tests.server import ADMIN_TOKEN, ROOT, Server

Route = tuple[str, str]
Stranger = Callable[[Server], httpx.Client]

# What the contract gives to whom. A route in none of these fails the test below: decide first.
ADMINS: set[Route] = {
    ("DELETE", "/history"),
    ("POST", "/train"),
    ("GET", "/train"),
    ("POST", "/promote"),
    ("POST", "/rollback"),
    ("GET", "/deployments"),
    ("GET", "/versions"),
    ("GET", "/evidence"),
}
HOLDERS: set[Route] = {
    ("POST", "/predict"),
    ("POST", "/predict_batch"),
    ("GET", "/history"),
    ("POST", "/history"),
    ("POST", "/outcomes"),
    ("POST", "/explain"),
}
# These ask for a token even while predictions do not.
TOKEN_ALWAYS: set[Route] = {("POST", "/outcomes")}
EVERYONES: set[Route] = {
    ("GET", "/model"),
    ("GET", "/health"),
    ("POST", "/health"),
    ("GET", "/drift"),
    ("GET", "/livez"),
    ("GET", "/readyz"),
    ("GET", "/metrics"),
    ("GET", "/docs"),
    ("GET", "/docs/start.js"),
    ("GET", "/openapi.json"),
    ("GET", "/schema.json"),
    ("GET", "/"),
    ("GET", "/ui"),
}
# BentoML's own, which the edge lets nobody through to.
CLOSED: set[Route] = {("GET", "/healthz"), ("GET", "/docs.json")}

_LIST_ROUTES = """
import json
from service import StudentSuccess, handlers
app = StudentSuccess.to_asgi()
found = []
def add(routes):
    for route in routes:
        inner = getattr(route, "app", None)
        if getattr(route, "methods", None):
            found.extend((method, route.path) for method in route.methods)
        elif route.path in ("", "/"):
            add(inner.routes)
        else:
            found.append(("MOUNT", route.path))
add(app.routes)
assert not StudentSuccess.mount_apps
found += handlers
print(json.dumps(sorted(set(found))))
"""


@pytest.fixture(scope="module")
def routes(tmp_path_factory: pytest.TempPathFactory) -> set[Route]:
    """Return every route of the application as BentoML builds it."""
    home = tmp_path_factory.mktemp("routes")
    done = subprocess.run(
        [sys.executable, "-c", _LIST_ROUTES],
        cwd=ROOT,
        env={
            **os.environ,
            "STATE_DIR": str(home),
            "BENTOML_HOME": str(home),
            "PROMETHEUS_MULTIPROC_DIR": str(home),
            "BENTOML_DO_NOT_TRACK": "True",
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    found = {(method, path) for method, path in json.loads(done.stdout.splitlines()[-1])}
    return {route for route in found if route[0] != "HEAD"}


def probe(client: httpx.Client, route: Route, token: str | None) -> httpx.Response:
    """Ask in a way that is refused for its nonsense where it is allowed."""
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    method, path = route
    body = {"nonsense": 1} if method == "POST" else None
    return client.request(method, f"{path}?n=1&n=2", json=body, headers=headers)


def test_every_route_of_the_application_is_somebodys(routes: set[Route]) -> None:
    mounts = {path for method, path in routes if method == "MOUNT"}
    assert mounts <= {"/static_content", "/metrics"}
    plain = {route for route in routes if route[0] != "MOUNT"}
    assert plain <= ADMINS | HOLDERS | EVERYONES | CLOSED, "say whose the new route is"
    assert plain >= ADMINS
    assert {("POST", "/predict"), ("POST", "/predict_batch"), ("GET", "/history")} <= plain


def test_closed_routes_are_not_there(routes: set[Route], guarded_admin: httpx.Client) -> None:
    for route in (routes - ADMINS - HOLDERS - EVERYONES) | CLOSED:
        if route[0] != "MOUNT":
            said(guarded_admin.request(*route), 404, "not_found")


def test_administrators_routes_refuse_everybody_else(
    routes: set[Route], guarded: Server, stranger: Stranger
) -> None:
    client = stranger(guarded)
    for route in sorted(ADMINS & routes):
        said(probe(client, route, None), 401, "unauthenticated")
        said(probe(stranger(guarded), route, "wrong"), 401, "unauthenticated")
        said(probe(client, route, API_TOKEN), 403, "forbidden")
        said(probe(client, route, ADMIN_TOKEN), 422, "validation_error")


def test_holders_routes_refuse_who_has_no_token(
    routes: set[Route], guarded: Server, stranger: Stranger
) -> None:
    client = stranger(guarded)
    for route in sorted(HOLDERS & routes):
        said(probe(client, route, None), 401, "unauthenticated")
        said(probe(stranger(guarded), route, "wrong"), 401, "unauthenticated")
        said(probe(client, route, API_TOKEN), 422, "validation_error")
        said(probe(client, route, ADMIN_TOKEN), 422, "validation_error")


def test_holders_routes_are_everyones_while_no_token_is_set(
    routes: set[Route], http: httpx.Client
) -> None:
    for route in sorted(HOLDERS & routes - TOKEN_ALWAYS):
        said(probe(http, route, None), 422, "validation_error")
    for route in sorted(TOKEN_ALWAYS & routes):
        said(probe(http, route, None), 401, "unauthenticated")


def test_everyones_routes_ask_for_nothing(
    routes: set[Route], guarded: Server, stranger: Stranger
) -> None:
    client = stranger(guarded)
    for route in sorted(EVERYONES & routes):
        for token in (None, "wrong", API_TOKEN):
            said(probe(client, route, token), 422, "validation_error")


def test_other_sessions_are_not_a_holders(holder: httpx.Client) -> None:
    said(holder.get("/history"), 403, "forbidden")
    said(holder.post("/history", json={}), 403, "forbidden")
    assert holder.get("/history", params={"session_id": "mine"}).status_code == 200
    assert holder.post("/history", json={}, headers={"X-Session-Id": "mine"}).status_code == 200


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        f"Basic {ADMIN_TOKEN}",
        ADMIN_TOKEN,
        f"Bearer {ADMIN_TOKEN}x",
        f"Bearer {ADMIN_TOKEN[:-1]}",
        f"Bearer {ADMIN_TOKEN.upper()}",
        f"Bearer x {ADMIN_TOKEN}",
        f"Bearer{ADMIN_TOKEN}",
    ],
)
def test_malformed_token_is_none(guarded: Server, stranger: Stranger, header: str) -> None:
    answer = stranger(guarded).get("/deployments", headers={"Authorization": header})
    said(answer, 401, "unauthenticated")
    assert ADMIN_TOKEN not in answer.text


def test_scheme_is_read_in_any_case(guarded: Server, stranger: Stranger) -> None:
    answer = stranger(guarded).get(
        "/deployments", headers={"Authorization": f"bEARER {ADMIN_TOKEN}"}
    )
    assert answer.status_code == 200


def test_token_in_the_query_opens_nothing(guarded: Server, stranger: Stranger) -> None:
    answer = stranger(guarded).get("/deployments", params={"token": ADMIN_TOKEN})
    said(answer, 401, "unauthenticated")


def test_wrong_tokens_are_slowed_down_and_a_right_one_always_passes(
    guarded: Server, stranger: Stranger
) -> None:
    client = stranger(guarded)

    def asked(client: httpx.Client, token: str) -> httpx.Response:
        return client.get("/deployments", headers={"Authorization": f"Bearer {token}"})

    statuses = [asked(client, "wrong").status_code for _ in range(12)]
    assert statuses == [401] * 5 + [429] * 7
    answer = asked(client, "wrong")
    said(answer, 429, "too_many_requests")
    assert int(answer.headers["retry-after"]) >= 1
    for _ in range(3):
        assert asked(client, ADMIN_TOKEN).status_code == 200
        assert asked(client, "wrong").status_code == 429
    # Another address has its own count.
    assert asked(stranger(guarded), "wrong").status_code == 401


def test_page_of_another_site_cannot_post_a_form(
    server: Server, http: httpx.Client, session_id: str
) -> None:
    for content_type in (
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "text/plain",
    ):
        answer = http.post(
            "/predict",
            params={"session_id": session_id},
            content=b'{"school":"GP"}',
            headers={"Content-Type": content_type, "Origin": "http://evil.example"},
        )
        said(answer, 415, "unsupported_media_type")
    preflight = http.options(
        "/predict",
        headers={
            "Origin": "http://evil.example",
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "content-type",
        },
    )
    said(preflight, 405, "method_not_allowed")
    assert not [name for name in preflight.headers if name.startswith("access-control")]


def test_tokens_are_nowhere_in_log_or_state(guarded: Server) -> None:
    for path in guarded.state_dir.rglob("*"):
        if path.is_file():
            content = Path(path).read_bytes()
            assert ADMIN_TOKEN.encode() not in content, path
            assert API_TOKEN.encode() not in content, path
