"""The API and the web interface behind the stack's reverse proxy, with TLS and below a path."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from student_success.core.paths import ROOT
from student_success.domain.students import EXAMPLE
from tests.monitoring.conftest import probes, running, tool
from tests.server import Server, free_port, serving
from tests.ui_server import UiServer, interface

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

CADDY = shutil.which("caddy")
needs_caddy = pytest.mark.skipif(
    CADDY is None, reason="NO REVERSE PROXY TESTED: caddy is not installed (apt-get install caddy)"
)
PORTAL = "https://portal.example.org"
LOGIN = ("school", "a password")


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    settings = {"ROOT_PATH": "/school/api", "CORS_ORIGINS": f"{PORTAL}, https://other.example.org"}
    with serving(tmp_path_factory.mktemp("api"), **settings) as server:
        yield server


@pytest.fixture(scope="module")
def ui(api: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[UiServer]:
    with interface(tmp_path_factory.mktemp("ui"), api.url, ROOT_PATH="/school") as server:
        yield server


@pytest.fixture(scope="module")
def password_hash() -> str:
    assert CADDY is not None
    command = [CADDY, "hash-password", "--plaintext", LOGIN[1]]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


class _Echo(BaseHTTPRequestHandler):
    """Answer with the path and the login that arrived."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f"{self.path} {self.headers['Authorization']}".encode())

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def grafana() -> Iterator[str]:
    """Return the address of what stands in Grafana's place."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Echo) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def site(
    api: Server,
    ui: UiServer,
    grafana: str,
    password_hash: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[httpx.Client]:
    """Return a client that trusts the authority of the proxy; it has no login."""
    folder = tmp_path_factory.mktemp("caddy")
    upstreams = {
        "API_UPSTREAM": f"127.0.0.1:{api.port}",
        "UI_UPSTREAM": f"127.0.0.1:{ui.port}",
        "GRAFANA_UPSTREAM": grafana,
    }
    with _proxy(folder, SITE_PASSWORD_HASH=password_hash, **upstreams) as port:
        authority = folder / "caddy" / "pki" / "authorities" / "local" / "root.crt"
        trust = ssl.create_default_context(cafile=str(authority))
        with httpx.Client(base_url=f"https://localhost:{port}", verify=trust, timeout=30) as client:
            yield client


@contextlib.contextmanager
def _proxy(folder: Path, **settings: str) -> Iterator[int]:
    """Run the proxy of the stack on a port of loopback."""
    port = free_port()
    text = (ROOT / "docker" / "Caddyfile").read_text("utf-8")
    shutil.copy(ROOT / "docker" / "runbook.html", folder)
    shutil.copy(ROOT / "docs" / "runbook.md", folder)
    options = f"admin off\n\tdefault_bind 127.0.0.1\n\thttp_port {free_port()}"
    (folder / "Caddyfile").write_text(text.replace("admin off", options, 1))
    assert CADDY is not None
    environment = {
        **os.environ,
        "XDG_DATA_HOME": str(folder),
        "XDG_CONFIG_HOME": str(folder),
        "SITE_ADDRESS": f"https://localhost:{port}",
        "ROOT_PATH": "/school",
        "RUNBOOK_FOLDER": str(folder),
        **settings,
    }
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [CADDY, "run", "--config", str(folder / "Caddyfile")],
            env=environment,
            stdout=log,
            stderr=log,
        )
    try:
        end = time.monotonic() + 30
        while not _serves_tls(port):
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < end, (folder / "log").read_text()
            time.sleep(0.1)
        yield port
    finally:
        process.terminate()
        process.wait(20)


def _serves_tls(port: int) -> bool:
    """Tell whether the proxy has its certificate; it listens before that."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        contextlib.suppress(OSError),
        socket.create_connection(("127.0.0.1", port), 1) as connection,
        context.wrap_socket(connection, server_hostname="localhost"),
    ):
        return True
    return False


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


@needs_caddy
def test_api_predicts_through_tls_below_a_path(site: httpx.Client) -> None:
    answer = site.post("/school/api/predict", json=EXAMPLE)
    assert answer.status_code == 200, answer.text
    assert site.get("/school/api/health").json()["model_loaded"]
    assert site.get("/school/api/metrics").status_code == 404


@needs_caddy
def test_proxy_stops_although_a_response_has_no_end(password_hash: str, tmp_path: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        ThreadPoolExecutor() as pool,
        _proxy(
            tmp_path,
            SITE_PASSWORD_HASH=password_hash,
            UI_UPSTREAM=f"127.0.0.1:{silent.getsockname()[1]}",
        ) as port,
    ):
        url = f"https://localhost:{port}/"
        pool.submit(httpx.get, url, auth=LOGIN, verify=False, timeout=30)
        upstream, _ = silent.accept()
        upstream.recv(1)
        started = time.monotonic()
    upstream.close()
    # Docker would kill it after ten seconds.
    assert time.monotonic() - started < 8


@needs_caddy
def test_runbook_is_a_page_with_a_section_for_each_alert(site: httpx.Client) -> None:
    assert site.get("/school/runbook").status_code == 401
    answer = site.get("/school/runbook", auth=LOGIN)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    runbook = (ROOT / "docs" / "runbook.md").read_text("utf-8")
    alerts = re.findall(r"^## (\w+)$", runbook, re.MULTILINE)
    assert alerts
    for alert in alerts:
        assert f'<h2 id="{alert.lower()}">{alert}</h2>' in answer.text
    for path in ("/school/runbook.md", "/school/runbook/runbook.md", "/school/runbook.html"):
        assert site.get(path, auth=LOGIN).status_code == 404


@needs_caddy
def test_expiry_of_the_certificate_is_measured_by_the_name_of_the_site(
    site: httpx.Client, tmp_path: Path
) -> None:
    port = free_port()
    exporter = tool("prometheus-blackbox-exporter")
    command = [
        exporter,
        f"--config.file={probes(tmp_path)}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with running(*command, log=tmp_path / "log", environment=dict(os.environ)):
        end = time.monotonic() + 30
        while not _listens(port):
            assert time.monotonic() < end
            time.sleep(0.1)
        # Prometheus knows the container by its address; the certificate has the name of the site.
        query = {"module": "certificate", "target": f"127.0.0.1:{site.base_url.port}"}
        text = httpx.get(f"http://127.0.0.1:{port}/probe", params=query, timeout=30).text
    values = dict(re.findall(r"^(probe_\w+) ([\d.e+]+)$", text, re.MULTILINE))
    assert float(values["probe_success"]) == 1
    # Caddy's own authority gives certificates for twelve hours.
    assert 3600 < float(values["probe_ssl_earliest_cert_expiry"]) - time.time() < 13 * 3600


@needs_caddy
@pytest.mark.parametrize("path", ["/school/fr/", "/school", "/", "/school/gradio_api/queue/join"])
def test_interface_is_refused_without_the_login(site: httpx.Client, path: str) -> None:
    for login in (None, (LOGIN[0], "another password"), ("", "")):
        answer = site.get(path, auth=login)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Basic")


@needs_caddy
def test_login_of_the_interface_is_not_sent_to_the_api(site: httpx.Client) -> None:
    """A browser sends it to every path; the API would count a wrong token."""
    answer = site.post("/school/api/train", json={}, auth=LOGIN)
    assert answer.status_code == 401
    assert "This needs a token" in answer.text


@needs_caddy
def test_grafana_gets_its_own_paths_and_its_own_login(site: httpx.Client) -> None:
    """A browser sends the login of the interface to every path."""
    for path, seen in (
        ("", "/"),
        ("/", "/"),
        ("/api/health", "/api/health"),
        ("/d/a?x=1", "/d/a?x=1"),
    ):
        assert site.get(f"/school/grafana{path}", auth=LOGIN).text == f"{seen} None"
    own = {"Authorization": "Bearer service account"}
    assert site.get("/school/grafana/login", headers=own).text == "/login Bearer service account"


@needs_caddy
def test_browsers_are_held_to_https_only_with_a_certificate_they_know(
    site: httpx.Client, password_hash: str, tmp_path: Path
) -> None:
    header = "strict-transport-security"
    assert header not in site.get("/school/api/health").headers
    files = [str(tmp_path / "site.pem"), str(tmp_path / "site.key")]
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=localhost"
    options = ["-addext", "subjectAltName=DNS:localhost", "-out", files[0], "-keyout", files[1]]
    subprocess.run([*command.split(), *options], check=True)
    with _proxy(tmp_path, SITE_TLS=" ".join(files), SITE_PASSWORD_HASH=password_hash) as port:
        trust = ssl.create_default_context(cafile=files[0])
        answer = httpx.get(f"https://localhost:{port}/", verify=trust)
    assert answer.headers[header] == "max-age=31536000"


@needs_caddy
def test_proxy_does_not_start_without_a_password() -> None:
    assert CADDY is not None
    command = [CADDY, "adapt", "--config", str(ROOT / "docker" / "Caddyfile")]
    for changed in ({}, {"SITE_PASSWORD_HASH": ""}):
        done = subprocess.run(command, env=os.environ | changed, capture_output=True, text=True)
        assert done.returncode != 0
        assert "password cannot be empty" in done.stderr


@needs_caddy
def test_documentation_page_loads_its_files_below_the_path(site: httpx.Client) -> None:
    page = site.get("/school/api/docs").text
    for name in ("static_content/swagger-ui-bundle.js", "docs/start.js", "openapi.json"):
        assert site.get(f"/school/api/{name}").status_code == 200
    assert '"./static_content/swagger-ui.css"' in page
    assert '"./openapi.json"' in site.get("/school/api/docs/start.js").text
    assert site.get("/school/api/openapi.json").json()["servers"] == [{"url": "/school/api"}]
    assert site.get("/school/api/").headers["location"] == "/school/api/docs"


@needs_caddy
@pytest.mark.parametrize("language", ["fr", "en"])
def test_interface_leads_to_pages_below_the_path(site: httpx.Client, language: str) -> None:
    moved = site.get("/school", headers={"Accept-Language": language}, auth=LOGIN)
    assert moved.headers["location"] == f"/school/{language}/"
    site.cookies.clear()
    page = site.get(f"/school/{language}/", auth=LOGIN)
    cookie = page.headers["set-cookie"].split("; ")
    assert {"Path=/school", "Secure"} <= set(cookie)
    assert page.status_code == 200
    assert f"{site.base_url}/school/{language}".replace("//school", "/school") in page.text


@needs_caddy
@pytest.mark.browser
@pytest.mark.parametrize("language", ["fr", "en"])
def test_browser_shows_the_interface_through_tls_below_the_path(
    site: httpx.Client, language: str
) -> None:
    from playwright.sync_api import HttpCredentials, sync_playwright

    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is not installed")
    failed: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        login: HttpCredentials = {"username": LOGIN[0], "password": LOGIN[1]}
        page = browser.new_context(ignore_https_errors=True, http_credentials=login).new_page()
        page.on(
            "response",
            lambda got: failed.append(f"{got.status} {got.url}") if got.status >= 400 else None,
        )
        page.goto(f"{site.base_url}/school/{language}/".replace("//school", "/school"))
        page.wait_for_selector("[role=tab]", timeout=60_000)
        page.wait_for_timeout(1000)
        browser.close()
    assert failed == []


def test_paths_without_the_root_path_are_answered_too(api: Server, ui: UiServer) -> None:
    """Health checks and Prometheus reach the containers without the proxy."""
    assert httpx.get(f"{api.url}/readyz").status_code == 200
    assert httpx.get(f"{ui.url}/fr/").status_code == 200
    httpx.get(f"{api.url}/school/api/model")
    metrics = httpx.get(f"{api.url}/metrics").text
    assert 'endpoint="/model"' in metrics
    assert httpx.get(f"{api.url}/schoolx/api/model").status_code == 404


def test_only_listed_origins_may_call_the_api_from_a_page(api: Server) -> None:
    asked = {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type",
    }
    for origin, allowed in ((PORTAL, True), ("https://evil.example.org", False)):
        preflight = httpx.options(f"{api.url}/predict", headers={**asked, "Origin": origin})
        answer = httpx.post(f"{api.url}/predict", json=EXAMPLE, headers={"Origin": origin})
        for response in (preflight, answer):
            named = response.headers.get("access-control-allow-origin") == origin
            assert named == allowed, response.headers
        assert answer.status_code == 200


def test_head_of_the_interface_is_answered_without_a_body(ui: UiServer) -> None:
    for path, status in (("/", 307), ("/fr/", 200), ("/livez", 200), ("/nowhere", 404)):
        answer = httpx.head(f"{ui.url}{path}")
        assert (answer.status_code, answer.content) == (status, b"")


@pytest.mark.parametrize(("host", "reached"), [("::1", ["::1"]), ("::", ["::1", "127.0.0.1"])])
def test_server_and_interface_listen_on_ipv6(tmp_path: Path, host: str, reached: list[str]) -> None:
    server = Server(
        tmp_path,
        HOST=host,
        UI_ENABLED="true",
        UI_PORT=str(free_port()),
        ALLOW_ANONYMOUS="true",
    )
    server.start(wait=False)
    try:
        for port, path in ((int(server.settings["UI_PORT"]), "/livez"), (server.port, "/readyz")):
            for name in reached:
                url = f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"
                end = time.monotonic() + 90
                while not _answers(url + path):
                    assert time.monotonic() < end, server.tail()
                    time.sleep(0.2)
                if path == "/readyz":
                    moved = httpx.get(url).headers["location"]
                    assert moved.startswith(url.rsplit(":", 1)[0] + ":"), moved
    finally:
        server.stop()


def _answers(url: str) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(url, timeout=5).status_code == 200
    return False
