"""Debian's Chromium, driven by playwright, in front of a real interface and a real API."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.server import ROOT, Server, serving
from tests.ui_server import UiServer, interface

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
LOCALES = {"fr": "fr-FR", "en": "en-GB"}
Open = Callable[..., Any]
"""Open a page: language, and optionally url, width, scheme."""


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """Return a running browser, or skip and say what is missing."""
    sync_api = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: see the extra `dev`"
    )
    found = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if not found:
        pytest.skip("no Chromium here: apt-get install chromium, or name one in CHROMIUM")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def api(tmp_path_factory: pytest.TempPathFactory, chromium: Any) -> Iterator[Server]:
    """Return an API of its own state; none is started where there is no browser."""
    del chromium
    with serving(tmp_path_factory.mktemp("browser-api")) as server:
        yield server


@pytest.fixture(scope="session")
def ui(api: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[UiServer]:
    """Return the interface of that API."""
    with interface(tmp_path_factory.mktemp("browser-ui"), api.url) as server:
        yield server


@pytest.fixture(params=["fr", "en"])
def language(request: pytest.FixtureRequest) -> str:
    """Return each language in turn."""
    found: str = request.param
    return found


@pytest.fixture
def visit(chromium: Any, request: pytest.FixtureRequest) -> Iterator[Open]:
    """Return what opens a page; afterwards nothing may have left this machine or gone wrong."""
    contexts: list[Any] = []
    wrong: list[str] = []

    def watch(page: Any, home: str) -> None:
        def asked(sent: Any) -> None:
            if not sent.url.startswith((home, "data:", "blob:")):
                wrong.append(f"a request left for {sent.url}")

        def said(message: Any) -> None:
            if message.type == "error" and "Content Security Policy" in message.text:
                wrong.append(message.text)

        page.on("request", asked)
        page.on("console", said)
        page.on("pageerror", lambda error: wrong.append(f"script error: {error}"))

    def open_page(
        language: str, url: str | None = None, *, width: int = 1280, scheme: str = "light"
    ) -> Any:
        server: UiServer | None = None if url else request.getfixturevalue("ui")
        home = url or (server.url if server else "")
        context = chromium.new_context(
            locale=LOCALES[language],
            viewport={"width": width, "height": 860},
            color_scheme=scheme,
            accept_downloads=True,
            reduced_motion="reduce",
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(12_000)
        watch(page, home)
        page.goto(f"{home}/")
        ready(page)
        return page

    yield open_page
    for context in contexts:
        for page in context.pages:
            if "Traceback" in page.content():
                wrong.append("a traceback is on the page")
        context.close()
    assert wrong == []


def ready(page: Any) -> None:
    """Wait until the page answers clicks."""
    page.wait_for_selector("#predict")
    page.wait_for_selector("html[data-awake]")


def tab(page: Any, number: int) -> None:
    """Turn to a tab."""
    page.evaluate("window.scrollTo(0, 0)")
    page.locator("[role=tab]").nth(number).click()


def predict_example(page: Any) -> None:
    """Load the example and predict it."""
    page.click("#example")
    page.wait_for_function("document.querySelector('#field-age textarea').value === '17'")
    page.click("#predict")
    page.wait_for_selector("#answer svg.scale")


@pytest.fixture(scope="session")
def pictures() -> Path:
    """Return the folder for screenshots: PICTURES_DIR, else build/pictures."""
    folder = Path(os.environ.get("PICTURES_DIR") or ROOT / "build" / "pictures")
    folder.mkdir(parents=True, exist_ok=True)
    return folder
