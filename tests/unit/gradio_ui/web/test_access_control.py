from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
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
def test_home_redirects_to_language_of_browser(
    http: httpx.Client, accepted: str, language: str
) -> None:
    answer = http.get("/", headers={"Accept-Language": accepted})
    assert answer.status_code == 307
    assert answer.headers["location"] == f"./{language}/"
    assert answer.headers["vary"] == "Accept-Language"
    page = http.get(f"/{language}/").text
    assert f'<html\n\tlang="{language}"' in page


def test_page_links_to_no_other_site(http: httpx.Client) -> None:
    page = http.get("/fr/").text
    linked = re.findall(r"""(?:src|href|content)=["'](https?://[^"']+)""", page)
    assert linked == []


def test_page_source_contains_no_token_and_no_path(http: httpx.Client) -> None:
    page = http.get("/fr/").text + http.get("/fr/config").text
    for secret in (str(ROOT), str(Path.home()), "API_TOKEN=", "token-of-the-tests"):
        assert secret not in page


def test_request_for_another_host_is_refused(http: httpx.Client) -> None:
    """A page whose name suddenly stands for 127.0.0.1 (DNS rebinding) must not read anything."""
    for path in ("/", "/fr/", "/fr/config", "/livez"):
        assert http.get(path, headers={"Host": "evil.example"}).status_code == 421
        assert http.get(path, headers={"Host": "localhost"}).status_code < 400


def test_answers_have_security_headers(http: httpx.Client) -> None:
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
def test_refusals_have_each_security_header_once(
    http: httpx.Client, method: str, path: str, status: int
) -> None:
    answer = http.request(method, path, content=b"x" * (3 << 20) if status == 413 else None)
    assert answer.status_code == status
    for name in ("content-security-policy", "x-content-type-options", "x-frame-options"):
        assert len(answer.headers.get_list(name)) == 1


def test_form_of_another_site_is_refused(http: httpx.Client) -> None:
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


def test_cookie_is_http_only_and_ends_with_browser(http: httpx.Client) -> None:
    cookie = http.get("/fr/").headers["set-cookie"]
    assert cookie.startswith(f"{COOKIE}=")
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert "expires" not in cookie.lower()
    assert "max-age" not in cookie.lower()
    assert "Path=/;" in cookie
    assert "Secure" not in cookie
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
def test_unused_routes_answer_404(http: httpx.Client, path: str) -> None:
    assert http.get(path).status_code == 404


@pytest.mark.parametrize("path", ["/fr/static/../../../../etc/passwd", "/fr/assets/..%2f..%2f.env"])
def test_path_traversal_reads_no_file(http: httpx.Client, path: str) -> None:
    answer = http.get(path)
    assert answer.status_code in (403, 404)
    assert "root:" not in answer.text


def test_path_in_place_of_upload_is_neither_read_nor_removed(
    http: httpx.Client, tmp_path: Path
) -> None:
    http.get("/en/")
    file = tmp_path / "class.csv"
    file.write_text("age;school\n17;GP\n", "utf-8")
    data = [{"path": str(file), "meta": {"_type": "gradio.FileData"}}]
    answer = _call(http, "check_class", data, uuid.uuid4().hex)
    assert answer["success"] is False
    assert "Traceback" not in json.dumps(answer)
    assert file.exists()


def test_body_over_limit_is_refused(http: httpx.Client) -> None:
    assert http.post("/fr/gradio_api/queue/join", content=b"x" * (3 << 20)).status_code == 413


def test_upload_route_answers_404(http: httpx.Client) -> None:
    assert http.post("/fr/gradio_api/upload", files={"files": ("a.csv", b"x")}).status_code == 404


def test_page_answers_only_browser_that_opened_it(ui: UiServer) -> None:
    name = uuid.uuid4().hex
    with (
        httpx.Client(base_url=ui.url, timeout=30) as owner,
        httpx.Client(base_url=ui.url, timeout=30) as other,
        httpx.Client(base_url=ui.url, timeout=30) as without_cookie,
    ):
        owner.get("/en/")
        other.get("/en/")
        mine = json.dumps(_call(owner, "history", [], name))
        assert "opened by another browser" not in mine
        for browser in (other, without_cookie):
            listening = f"/en/gradio_api/queue/data?session_hash={name}"
            assert browser.get(listening).status_code == 403
            assert browser.get(f"/en/gradio_api/heartbeat/{name}").status_code == 403
        # A browser that joins with the owner's session hash still cannot read its answers.
        joined = other.post("/en/gradio_api/queue/join", json=_event("history", [], name))
        assert joined.status_code in (200, 403)
        assert other.get(f"/en/gradio_api/queue/data?session_hash={name}").status_code == 403


def test_main_explains_invalid_setting() -> None:
    for settings, message in (
        ({"UI_HOST": "0.0.0.0"}, "API_TOKEN"),
        ({"UI_PORT": "none"}, "UI_PORT"),
    ):
        process = subprocess.run(
            [sys.executable, "-m", "gradio_ui"],
            cwd=ROOT,
            env={**os.environ, "API_TOKEN": "", "ALLOW_ANONYMOUS": "", **settings},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert process.returncode == 2
        assert message in process.stderr
        assert "Traceback" not in process.stderr


_functions: dict[str, int] = {}


def _event(name: str, data: list[object], session: str) -> dict[str, object]:
    return {"data": data, "fn_index": _functions[name], "session_hash": session}


def _call(http: httpx.Client, name: str, data: list[object], session: str) -> dict[str, object]:
    """Call a function as Gradio's page does: join the queue, then read the answer."""
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


def test_main_names_the_port_in_use_before_anything_is_printed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-m", "gradio_ui"],
            cwd=ROOT,
            env={**os.environ, "UI_PORT": str(port)},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert done.returncode == 2
    assert done.stdout == ""
    assert f"UI_PORT {port} on 127.0.0.1 cannot be used" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_idle_interface_uses_next_to_no_processor_time(ui: UiServer) -> None:
    """Of a core, while no page is open. It was 4 %; on an idle machine it is 1.7 %."""
    assert httpx.get(f"{ui.url}/fr/").status_code == 200
    assert ui.process is not None
    process = psutil.Process(ui.process.pid)
    time.sleep(2)
    began = sum(process.cpu_times()[:2])
    time.sleep(10)
    assert (sum(process.cpu_times()[:2]) - began) / 10 < 0.03
