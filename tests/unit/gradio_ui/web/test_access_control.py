from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from gradio_ui.visitor_state import COOKIE
from tests.server import ROOT
from tests.ui_server import UiServer

pytestmark = pytest.mark.e2e


@pytest.fixture
def http(ui: UiServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=ui.url, timeout=30) as client:
        yield client


@pytest.mark.parametrize(
    ("accepted", "language"), [("en-US,en;q=0.9", "en"), ("fr", "fr"), ("", "fr"), ("ja", "fr")]
)
def test_the_browser_lands_on_its_language(
    http: httpx.Client, accepted: str, language: str
) -> None:
    answer = http.get("/", headers={"Accept-Language": accepted})
    assert answer.status_code == 307
    assert answer.headers["location"] == f"./{language}/"
    assert answer.headers["vary"] == "Accept-Language"
    page = http.get(f"/{language}/").text
    assert f'<html\n\tlang="{language}"' in page


def test_the_page_names_no_other_site(http: httpx.Client) -> None:
    page = http.get("/fr/").text
    linked = re.findall(r"""(?:src|href|content)=["'](https?://[^"']+)""", page)
    assert linked == []


def test_the_page_source_holds_no_token_and_no_path(http: httpx.Client) -> None:
    page = http.get("/fr/").text + http.get("/fr/config").text
    for secret in (str(ROOT), str(Path.home()), "API_TOKEN=", "token-of-the-tests"):
        assert secret not in page


def test_every_answer_carries_the_security_headers(http: httpx.Client) -> None:
    for path in ("/fr/", "/en/config", "/livez"):
        headers = http.get(path).headers
        assert "default-src 'self'" in headers["content-security-policy"]
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 307),
        ("GET", "/nowhere", 404),
        ("PUT", "/fr/", 404),
        ("GET", "/fr/assets/nowhere.js", 404),
        ("POST", "/fr/gradio_api/queue/join", 413),
    ],
)
def test_refusals_carry_them_too(http: httpx.Client, method: str, path: str, status: int) -> None:
    answer = http.request(method, path, content=b"x" * (3 << 20) if status == 413 else None)
    assert answer.status_code == status
    for name in ("content-security-policy", "x-content-type-options", "x-frame-options"):
        assert len(answer.headers.get_list(name)) == 1


def test_form_of_another_site_calls_nothing(http: httpx.Client) -> None:
    page = {"data": [], "fn_index": 0, "session_hash": uuid.uuid4().hex}
    for content_type in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        for path in ("queue/join", "call/history", "cancel", "reset"):
            answer = http.post(
                f"/fr/gradio_api/{path}",
                content=json.dumps(page),
                headers={"Content-Type": content_type, "Origin": "https://evil.example"},
            )
            assert answer.status_code in (403, 404, 422), (path, content_type)
            assert "access-control-allow-origin" not in answer.headers


def test_the_visitors_cookie_is_out_of_reach_of_scripts(http: httpx.Client) -> None:
    cookie = http.get("/fr/").headers["set-cookie"]
    assert cookie.startswith(f"{COOKIE}=")
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert "expires" not in cookie.lower()
    assert "max-age" not in cookie.lower()
    assert "set-cookie" not in http.get("/fr/").headers


@pytest.mark.parametrize(
    "path",
    [
        "/fr/gradio_api/file=/etc/passwd",
        "/fr/gradio_api/file=pyproject.toml",
        "/fr/gradio_api/file/etc/passwd",
        "/fr/file=/etc/passwd",
        "/fr/gradio_api/proxy=https://example.org/",
        "/fr/gradio_api/stream/a/1/1/playlist.m3u8",
        "/fr/gradio_api/runs",
        "/fr/monitoring",
        "/fr/monitoring/summary",
        "/fr/gradio_api/openapi.json",
        "/fr/gradio_api/mcp/sse",
        "/fr/gradio_api/vibe-code",
        "/fr/gradio_api/dev/reload",
        "/fr/login",
        "/docs",
        "/openapi.json",
        "/.env",
        "/../../etc/passwd",
    ],
)
def test_what_the_page_does_not_use_does_not_exist(http: httpx.Client, path: str) -> None:
    assert http.get(path).status_code == 404


@pytest.mark.parametrize("path", ["/fr/static/../../../../etc/passwd", "/fr/assets/..%2f..%2f.env"])
def test_no_file_of_the_server_can_be_read(http: httpx.Client, path: str) -> None:
    answer = http.get(path)
    assert answer.status_code in (403, 404)
    assert "root:" not in answer.text


def test_a_path_in_place_of_an_upload_is_neither_read_nor_removed(
    http: httpx.Client, tmp_path: Path
) -> None:
    http.get("/en/")
    file = tmp_path / "class.csv"
    file.write_text("age;school\n17;GP\n", "utf-8")
    data = [{"path": str(file), "meta": {"_type": "gradio.FileData"}}]
    found = _call(http, "check_class", data, uuid.uuid4().hex)
    assert found["success"] is False
    assert "Traceback" not in json.dumps(found)
    assert file.exists()


def test_a_body_over_the_limit_is_refused_unread(http: httpx.Client) -> None:
    assert http.post("/fr/gradio_api/queue/join", content=b"x" * (3 << 20)).status_code == 413


def test_there_is_no_way_to_leave_a_file_on_the_server(http: httpx.Client) -> None:
    assert http.post("/fr/gradio_api/upload", files={"files": ("a.csv", b"x")}).status_code == 404


def test_a_page_belongs_to_the_browser_that_opened_it(ui: UiServer) -> None:
    name = uuid.uuid4().hex
    with (
        httpx.Client(base_url=ui.url, timeout=30) as owner,
        httpx.Client(base_url=ui.url, timeout=30) as stranger,
        httpx.Client(base_url=ui.url, timeout=30) as nobody,
    ):
        owner.get("/en/")
        stranger.get("/en/")
        mine = json.dumps(_call(owner, "history", [], name))
        assert "opened by another browser" not in mine
        for other in (stranger, nobody):
            listening = f"/en/gradio_api/queue/data?session_hash={name}"
            assert other.get(listening).status_code == 403
            assert other.get(f"/en/gradio_api/heartbeat/{name}").status_code == 403
        # Asked under the stranger's own name for answers, the owner's page stays shut.
        joined = stranger.post("/en/gradio_api/queue/join", json=_event("history", [], name))
        assert joined.status_code in (200, 403)
        assert stranger.get(f"/en/gradio_api/queue/data?session_hash={name}").status_code == 403


def test_bad_settings_end_the_program_with_words() -> None:
    for settings, said in (
        ({"UI_HOST": "0.0.0.0"}, "API_TOKEN"),
        ({"UI_PORT": "none"}, "UI_PORT"),
    ):
        ended = subprocess.run(
            [sys.executable, "-m", "gradio_ui"],
            cwd=ROOT,
            env={**os.environ, "API_TOKEN": "", "ALLOW_ANONYMOUS": "", **settings},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert ended.returncode == 2
        assert said in ended.stderr
        assert "Traceback" not in ended.stderr


_functions: dict[str, int] = {}


def _event(name: str, data: list[object], session: str) -> dict[str, object]:
    return {"data": data, "fn_index": _functions[name], "session_hash": session}


def _call(http: httpx.Client, name: str, data: list[object], session: str) -> dict[str, object]:
    """Do what Gradio's own page does: join the queue, listen for the answer."""
    if not _functions:
        for dependency in http.get("/en/config").json()["dependencies"]:
            if dependency["api_name"]:
                _functions[dependency["api_name"]] = dependency["id"]
    joined = http.post("/en/gradio_api/queue/join", json=_event(name, data, session))
    assert joined.status_code == 200, joined.text
    with http.stream("GET", f"/en/gradio_api/queue/data?session_hash={session}") as answers:
        for line in answers.iter_lines():
            if line.startswith("data:"):
                message: dict[str, object] = json.loads(line[5:])
                if message["msg"] == "process_completed":
                    return message
    raise AssertionError("no answer came")
