"""Profile `tls`: the stack behind Caddy, below a path, with the settings of docs/operations.md."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from gradio_ui.texts import Language, Texts
from student_success.core.paths import ROOT
from student_success.domain.students import EXAMPLE
from tests.browser.conftest import (
    LOCALES,
    open_tab,
    predict_example,
    ready,
    running_browser,
    write_class,
)
from tests.documented_commands import commands_of
from tests.stack.conftest import Stack, awaited, get, healthy, run

pytestmark = pytest.mark.timeout(600)

HOST = "grades.example.org"
SITE = f"https://{HOST}/school"
# Only this machine reaches it, and its ports 80 and 443 are free.
ADDRESS = f"127.77.{os.getpid() % 250 + 1}.1"
LOGIN = ("school", "a password")
TOKEN = secrets.token_urlsafe(32)
OPERATIONS = (ROOT / "docs" / "operations.md").read_text("utf-8")


def documented_settings() -> str:
    """Return the lines for `.env` of docs/operations.md, below a path as its table says."""
    (lines,) = re.findall(r"^SITE_ADDRESS=.*?(?=^```$)", OPERATIONS, re.DOTALL | re.MULTILINE)
    return f"{lines.replace(f'https://{HOST}', SITE)}ROOT_PATH=/school\n"


@pytest.fixture(scope="module")
def stack(make_stack: Callable[..., Stack]) -> Iterator[Stack]:
    made = make_stack(COMPOSE_PROFILES="tls")
    hash_password = ("caddy", "hash-password", "--plaintext", LOGIN[1])
    done = run("docker", "run", "--rm", made.environment["CADDY_IMAGE"], *hash_password)
    # What the document leaves to the reader. The last line of a name counts.
    chosen = {
        "SITE_TLS": "internal",
        "SITE_BIND": ADDRESS,
        "API_TOKEN": TOKEN,
        "SITE_PASSWORD_HASH": f"'{done.stdout.strip()}'",
    }
    with made.env_file.open("a", encoding="utf-8") as file:
        file.write(documented_settings())
        file.writelines(f"{name}={value}\n" for name, value in chosen.items())
    made.up("api", "ui")
    # Its first health check comes after 15 s.
    made.compose("up", "--detach", "--no-build", "caddy")
    awaited(lambda: get(f"http://{ADDRESS}"), 30, "Caddy does not answer")
    yield made
    made.down()


class ToAddress(httpx.HTTPTransport):
    """Connect to `ADDRESS`, whatever the name; the certificate is checked against the name."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.extensions["sni_hostname"] = request.url.host
        request.url = request.url.copy_with(host=ADDRESS)
        return super().handle_request(request)


@pytest.fixture(scope="module")
def site(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """Return a client that trusts the authority of Caddy alone; it has no login."""
    folder = tmp_path_factory.mktemp("authority")
    stack.compose("cp", "caddy:/data/caddy/pki/authorities/local/root.crt", str(folder))
    trust = ssl.create_default_context(cafile=str(folder / "root.crt"))
    with httpx.Client(base_url=SITE, transport=ToAddress(verify=trust), timeout=30) as client:
        yield client


def test_plain_http_is_redirected_to_tls(site: httpx.Client) -> None:
    moved = site.get(f"http://{HOST}/school/api/health")
    assert moved.status_code == 308
    assert moved.headers["location"] == f"{SITE}/api/health"
    assert site.get(moved.headers["location"]).json()["model_loaded"]


def test_api_predicts_below_the_path_for_holders_of_the_token(site: httpx.Client) -> None:
    assert site.post("/api/predict", json=EXAMPLE).status_code == 401
    answer = site.post("/api/predict", json=EXAMPLE, headers={"Authorization": f"Bearer {TOKEN}"})
    assert answer.status_code == 200, answer.text
    assert answer.json()["model_version"] == "seed"


def test_interface_and_tools_of_operators_need_a_login(stack: Stack, site: httpx.Client) -> None:
    for path in ("", "/fr/", "/runbook", "/mlflow/", "/prometheus/", "/gradio_api/queue/join"):
        answer = site.get(path)
        assert answer.status_code == 401, path
        assert answer.headers["www-authenticate"].startswith("Basic"), path
    assert site.get("/fr/", auth=LOGIN).status_code == 200
    assert site.get("/runbook", auth=LOGIN).status_code == 200
    for path in ("/mlflow/", "/prometheus/"):
        assert site.get(path, auth=LOGIN).status_code == 404, path
    assert site.get("/api/metrics", headers=stack.admin).status_code == 404
    # The login of the interface is not sent to the API, which would call it a wrong token.
    answer = site.get("/api/history", auth=LOGIN)
    assert answer.status_code == 401
    assert "This needs a token" in answer.text
    published = [port["URL"] for found in stack.services() for port in found["Publishers"]]
    assert set(published) <= {"", "127.0.0.1", ADDRESS}


@pytest.fixture(scope="module")
def chromium(stack: Stack) -> Iterator[Any]:
    with running_browser(f"--host-resolver-rules=MAP {HOST} {ADDRESS}") as browser:
        yield browser


@pytest.mark.browser
@pytest.mark.parametrize("language", ["fr", "en"])
def test_browser_predicts_pupil_and_class_below_the_path(
    chromium: Any, language: Language, tmp_path: Path
) -> None:
    problems: list[str] = []

    def check_response(response: Any) -> None:
        expected = response.url.startswith((SITE, f"http://{HOST}/school", "blob:"))
        if response.status >= 400 or not expected:
            problems.append(f"{response.status} {response.url}")

    def check_failure(request: Any) -> None:
        # The page itself closes its streams of events.
        if request.failure != "net::ERR_ABORTED":
            problems.append(f"{request.failure} {request.url}")

    def check_console(message: Any) -> None:
        if message.type == "error":
            problems.append(message.text)

    # The certificate is checked by the other tests.
    context = chromium.new_context(
        locale=LOCALES[language],
        ignore_https_errors=True,
        http_credentials={"username": LOGIN[0], "password": LOGIN[1]},
    )
    context.set_default_timeout(20_000)
    context.on("response", check_response)
    context.on("requestfailed", check_failure)
    context.on("console", check_console)
    context.on("weberror", lambda error: problems.append(str(error.error)))

    page = context.new_page()
    page.goto(f"http://{HOST}/school#pupil")
    ready(page)
    assert page.url == f"{SITE}/{language}/#pupil"
    texts = Texts(language)
    predict_example(page)
    assert texts("result.pass") in page.locator("#answer").inner_text()

    open_tab(page, 1)
    page.set_input_files("#class-upload input", write_class(tmp_path / "class.csv", 20))
    page.click("#score")
    page.wait_for_selector("#ranking tbody tr:nth-child(20)")
    with page.expect_download() as download:
        page.click("#save-csv")
    assert len(download.value.path().read_text("utf-8-sig").splitlines()) == 21

    open_tab(page, 4)
    page.wait_for_selector("#conclusion .note")
    with context.expect_page() as opened:
        page.get_by_role("link", name=texts("monitor.docs")).click()
    opened.value.wait_for_selector(".opblock")
    assert opened.value.url == f"{SITE}/api/docs"
    context.close()
    assert problems == []


def test_printed_commands_run_and_keep_the_authority(
    stack: Stack, site: httpx.Client, tmp_path: Path
) -> None:
    awaited(lambda: healthy(stack, "caddy"), 30, "Caddy is not healthy")
    environment = {
        **stack.environment,
        "COMPOSE_FILE": str(ROOT / "docker-compose.yml"),
        "COMPOSE_ENV_FILES": str(stack.env_file),
    }
    for command in commands_of("test_printed_commands_run_and_keep_the_authority"):
        run("bash", "-c", command, env=environment, cwd=tmp_path)
    assert (tmp_path / "root.crt").read_text("ascii").startswith("-----BEGIN CERTIFICATE-----")

    def answers() -> bool:
        # A new authority is an error of the connection too.
        with contextlib.suppress(httpx.TransportError):
            return site.get("/api/health").status_code == 200
        return False

    awaited(answers, 30, "Caddy did not come back with a certificate of its authority")
