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

from tests.http.conftest import API_TOKEN, assert_error
from tests.server import ADMIN_TOKEN, ROOT, Server

Route = tuple[str, str]
NewClient = Callable[[Server], httpx.Client]

# The role each route needs. A route in none of these sets, or in one too many, fails a test.
ADMIN_ROUTES: set[Route] = {
    ("DELETE", "/history"),
    ("POST", "/train"),
    ("GET", "/train"),
    ("POST", "/promote"),
    ("POST", "/rollback"),
    ("GET", "/deployments"),
    ("GET", "/versions"),
    ("GET", "/evidence"),
}
PREDICTION_ROUTES: set[Route] = {
    ("POST", "/predict"),
    ("POST", "/predict_batch"),
    ("GET", "/history"),
    ("POST", "/history"),
    ("POST", "/outcomes"),
    ("POST", "/explain"),
}
# Routes that need a token even if predictions do not.
TOKEN_ROUTES: set[Route] = {("POST", "/outcomes")}
PUBLIC_ROUTES: set[Route] = {
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
# Routes of BentoML that the middleware does not let through.
CLOSED_ROUTES: set[Route] = {("GET", "/healthz"), ("GET", "/docs.json")}

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
    """Return every route of the application: BentoML's, and those of our handlers."""
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
    """Send a request that an allowed caller gets a 422 for, so that it has no effect."""
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    method, path = route
    body = {"nonsense": 1} if method == "POST" else None
    return client.request(method, f"{path}?n=1&n=2", json=body, headers=headers)


def test_every_route_is_assigned_to_a_role(routes: set[Route]) -> None:
    mounts = {path for method, path in routes if method == "MOUNT"}
    assert mounts <= {"/static_content", "/metrics"}
    # Both ways: a new route needs a role, and a route that vanished must not escape these tests.
    assert routes - {("MOUNT", path) for path in mounts} | {("GET", "/metrics")} == (
        ADMIN_ROUTES | PREDICTION_ROUTES | PUBLIC_ROUTES | CLOSED_ROUTES
    )


def test_closed_routes_return_404(guarded_admin: httpx.Client) -> None:
    for route in CLOSED_ROUTES:
        assert_error(guarded_admin.request(*route), 404, "not_found")


def test_admin_routes_reject_other_roles(guarded: Server, new_client: NewClient) -> None:
    client = new_client(guarded)
    for route in sorted(ADMIN_ROUTES):
        assert_error(probe(client, route, None), 401, "unauthenticated")
        assert_error(probe(new_client(guarded), route, "wrong"), 401, "unauthenticated")
        assert_error(probe(client, route, API_TOKEN), 403, "forbidden")
        assert_error(probe(client, route, ADMIN_TOKEN), 422, "validation_error")


def test_prediction_routes_reject_callers_without_token(
    guarded: Server, new_client: NewClient
) -> None:
    client = new_client(guarded)
    for route in sorted(PREDICTION_ROUTES):
        assert_error(probe(client, route, None), 401, "unauthenticated")
        assert_error(probe(new_client(guarded), route, "wrong"), 401, "unauthenticated")
        assert_error(probe(client, route, API_TOKEN), 422, "validation_error")
        assert_error(probe(client, route, ADMIN_TOKEN), 422, "validation_error")


def test_prediction_routes_are_open_when_no_api_token_is_set(http: httpx.Client) -> None:
    for route in sorted(PREDICTION_ROUTES - TOKEN_ROUTES):
        assert_error(probe(http, route, None), 422, "validation_error")
    for route in sorted(TOKEN_ROUTES):
        assert_error(probe(http, route, None), 401, "unauthenticated")


def test_public_routes_need_no_token(guarded: Server, new_client: NewClient) -> None:
    client = new_client(guarded)
    for route in sorted(PUBLIC_ROUTES):
        for token in (None, "wrong", API_TOKEN):
            assert_error(probe(client, route, token), 422, "validation_error")


def test_api_token_does_not_open_history_of_all_sessions(api_client: httpx.Client) -> None:
    assert_error(api_client.get("/history"), 403, "forbidden")
    assert_error(api_client.post("/history", json={}), 403, "forbidden")
    assert api_client.get("/history", params={"session_id": "mine"}).status_code == 200
    assert api_client.post("/history", json={}, headers={"X-Session-Id": "mine"}).status_code == 200


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
def test_malformed_token_returns_401(guarded: Server, new_client: NewClient, header: str) -> None:
    response = new_client(guarded).get("/deployments", headers={"Authorization": header})
    assert_error(response, 401, "unauthenticated")
    assert ADMIN_TOKEN not in response.text


def test_authorization_scheme_is_case_insensitive(guarded: Server, new_client: NewClient) -> None:
    response = new_client(guarded).get(
        "/deployments", headers={"Authorization": f"bEARER {ADMIN_TOKEN}"}
    )
    assert response.status_code == 200


def test_token_in_the_query_returns_401(guarded: Server, new_client: NewClient) -> None:
    response = new_client(guarded).get("/deployments", params={"token": ADMIN_TOKEN})
    assert_error(response, 401, "unauthenticated")


def test_wrong_tokens_return_429_and_a_valid_one_is_accepted(
    guarded: Server, new_client: NewClient
) -> None:
    client = new_client(guarded)

    def asked(client: httpx.Client, token: str) -> httpx.Response:
        return client.get("/deployments", headers={"Authorization": f"Bearer {token}"})

    statuses = [asked(client, "wrong").status_code for _ in range(12)]
    assert statuses == [401] * 5 + [429] * 7
    response = asked(client, "wrong")
    assert_error(response, 429, "too_many_requests")
    assert int(response.headers["retry-after"]) >= 1
    for _ in range(3):
        assert asked(client, ADMIN_TOKEN).status_code == 200
        assert asked(client, "wrong").status_code == 429
    # Another address has its own count.
    assert asked(new_client(guarded), "wrong").status_code == 401


def test_form_posted_by_another_site_returns_415_and_preflight_405(
    server: Server, http: httpx.Client, session_id: str
) -> None:
    for content_type in (
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "text/plain",
    ):
        response = http.post(
            "/predict",
            params={"session_id": session_id},
            content=b'{"school":"GP"}',
            headers={"Content-Type": content_type, "Origin": "http://evil.example"},
        )
        assert_error(response, 415, "unsupported_media_type")
    preflight = http.options(
        "/predict",
        headers={
            "Origin": "http://evil.example",
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "content-type",
        },
    )
    assert_error(preflight, 405, "method_not_allowed")
    assert not [name for name in preflight.headers if name.startswith("access-control")]


def test_tokens_are_not_written_to_log_or_state(guarded: Server) -> None:
    for path in guarded.state_dir.rglob("*"):
        if path.is_file():
            content = Path(path).read_bytes()
            assert ADMIN_TOKEN.encode() not in content, path
            assert API_TOKEN.encode() not in content, path
