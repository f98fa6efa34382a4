"""Chromium, controlled by Playwright, with a real interface and a real API."""

from __future__ import annotations

import contextlib
import csv
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from student_success.domain.students import EXAMPLE, FEATURE_NAMES
from tests.server import ADMIN_TOKEN, ROOT, Server, serving
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
"""Open a page: language, and optionally url, width, scheme, tab."""
TABS = ("pupil", "class", "history", "models", "monitor")


@contextlib.contextmanager
def running_browser(*flags: str) -> Iterator[Any]:
    """Run a browser; skip if one is not installed."""
    sync_api = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: see the extra `dev`"
    )
    executable = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if not executable:
        pytest.skip(
            "Chromium is not installed: apt-get install chromium, or set CHROMIUM to its path"
        )
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=[*FLAGS, *flags])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """Return the browser of these tests."""
    with running_browser() as browser:
        yield browser


@pytest.fixture(scope="session")
def api(tmp_path_factory: pytest.TempPathFactory, chromium: Any) -> Iterator[Server]:
    """Return an API with its own state; none is started without a browser."""
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
    name: str = request.param
    return name


@pytest.fixture
def visit(chromium: Any, request: pytest.FixtureRequest) -> Iterator[Open]:
    """Return a function that opens a page; afterwards check that no page reported a problem."""
    contexts: list[Any] = []
    problems: list[str] = []

    def watch(page: Any, home: str) -> None:
        def on_request(sent: Any) -> None:
            if not sent.url.startswith((home, "data:", "blob:")):
                problems.append(f"a request was sent to {sent.url}")

        def on_console(message: Any) -> None:
            if message.type == "error" and "Content Security Policy" in message.text:
                problems.append(message.text)

        page.on("request", on_request)
        page.on("console", on_console)
        page.on("pageerror", lambda error: problems.append(f"script error: {error}"))

    def open_page(
        language: str,
        url: str | None = None,
        *,
        width: int = 1280,
        scheme: str = "light",
        tab: str = "pupil",
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
        page.set_default_timeout(20_000)
        watch(page, home)
        page.goto(f"{home}/#{tab}" if tab else f"{home}/")
        ready(page)
        return page

    yield open_page
    for context in contexts:
        for page in context.pages:
            if "Traceback" in page.content():
                problems.append("a traceback is on the page")
        context.close()
    assert problems == []


def ready(page: Any) -> None:
    """Wait until the page answers clicks."""
    page.wait_for_selector("html[data-ready]")


def open_tab(page: Any, number: int) -> None:
    """Open a tab by its position in `TABS`."""
    page.evaluate("window.scrollTo(0, 0)")
    page.click(f"#tab-{TABS[number]}-button")


def open_models(page: Any) -> None:
    """Open the tab of the models as an administrator."""
    open_tab(page, 3)
    page.fill("#token input", ADMIN_TOKEN)
    page.click("#unlock")
    page.wait_for_selector("#train")


def start_training(page: Any) -> None:
    """Start a short training in the tab of the models, and wait until it is shown."""
    page.fill("#budget textarea, #budget input", "0,5")
    page.focus("#family input")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.click("#train")
    page.wait_for_selector("#job progress", timeout=30_000)


def predict_example(page: Any) -> None:
    """Open the example, which is predicted at once, and wait for its reasons."""
    page.click("#example")
    page.wait_for_selector("#answer .reasons")


def write_class(path: Path, count: int, **bad: str) -> Path:
    """Write a class list; `bad` replaces cells of its second pupil."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=";")
        writer.writerow(["référence", *FEATURE_NAMES])
        for number in range(count):
            row = {**EXAMPLE, "G1": f"{number % 20},5", "G2": str(number % 20)}
            if number == 1:
                row |= bad
            writer.writerow([f"=P{number:03}", *(row[name] for name in FEATURE_NAMES)])
    return path


def unfold(page: Any) -> None:
    """Show the answers of the form that may stay unknown, if there are any."""
    if page.locator("#more-button").count() and not page.is_visible("#more"):
        page.click("#more-button")


def in_window(page: Any, selector: str) -> bool:
    """Tell whether a reader sees an element: whole, inside the window, and not covered."""
    return bool(
        page.evaluate(
            """(selector) => {
              const element = document.querySelector(selector);
              if (!element) return false;
              const box = element.getBoundingClientRect();
              const inside = box.width > 0 && box.height > 0 && box.top >= 0 && box.left >= 0 &&
                box.bottom <= window.innerHeight + 1 && box.right <= window.innerWidth + 1;
              if (!inside) return false;
              const x = box.left + box.width / 2;
              return [box.top + 2, (box.top + box.bottom) / 2, box.bottom - 2].every((y) => {
                const top = document.elementFromPoint(x, y);
                return top !== null && (element.contains(top) || top.contains(element));
              });
            }""",
            selector,
        )
    )


def see(page: Any, selector: str) -> None:
    """Wait until an element is in the window, for at most 15 s; fail if it is not."""
    page.wait_for_selector(selector)
    for _ in range(150):
        if in_window(page, selector):
            return
        page.wait_for_timeout(100)
    raise AssertionError(f"{selector} is not in the window")


@pytest.fixture(scope="session")
def pictures() -> Path:
    """Return the folder for screenshots: PICTURES_DIR, else build/pictures."""
    folder = Path(os.environ.get("PICTURES_DIR") or ROOT / "build" / "pictures")
    folder.mkdir(parents=True, exist_ok=True)
    return folder
