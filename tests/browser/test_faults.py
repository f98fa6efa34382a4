from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from gradio_ui.texts import LANGUAGES, Texts
from tests.browser.conftest import Open, open_tab, see, write_class
from tests.server import Server
from tests.ui_server import interface

pytestmark = [pytest.mark.browser, pytest.mark.faults]


class _Refusing(BaseHTTPRequestHandler):
    """An API that runs but has no model."""

    def do_GET(self) -> None:
        if self.path == "/health":
            self._answer(200, {"status": "unavailable", "model_loaded": False, "db_ok": True})
        else:
            self._refuse()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._refuse()

    def _refuse(self) -> None:
        self._answer(
            503,
            {"error": "model_unavailable", "message": "m", "request_id": "r-503", "details": []},
        )

    def _answer(self, status: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        for name, value in (
            ("Content-Type", "application/json"),
            ("Content-Length", str(len(data))),
            ("Retry-After", "1"),
            ("X-Request-Id", "r-503"),
        ):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def refusing() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Refusing)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_page_reports_unreachable_api_and_recovers(visit: Open, tmp_path: Path) -> None:
    api = Server(tmp_path / "api")
    with interface(tmp_path, api.url) as ui:
        pages = [(visit(language, ui.url), Texts(language)) for language in LANGUAGES]
        for page, texts in pages:
            page.wait_for_selector(f"#banner >> text={texts('banner.unreachable')[:40]}")
            page.click("#example")
            page.wait_for_function("document.querySelector('#field-age textarea').value === '17'")
            page.click("#predict")
            page.wait_for_selector(f"#answer >> text={texts('error.unreachable')}")
            see(page, "#answer .notice .note")
            for number, name in ((2, "history"), (4, "monitor")):
                open_tab(page, number)
                page.wait_for_selector(f"#tab-{name} >> text={texts('error.unreachable')}")
        _score_without_api(*pages[0], tmp_path)
        try:
            api.start()
            _see_result_or_error(pages[0][0])
            for page, texts in pages:
                page.wait_for_selector("#banner .note.bad", state="detached", timeout=40_000)
                open_tab(page, 0)
                page.wait_for_selector(
                    f"#answer >> text={texts('error.unreachable')}", state="detached"
                )
                page.click("#predict")
                page.wait_for_selector("#answer svg.scale")
            api.kill()
            for page, texts in pages:
                page.wait_for_selector(
                    f"#banner >> text={texts('banner.unreachable')[:40]}", timeout=40_000
                )
                assert page.input_value("#field-age textarea") == "17"
        finally:
            api.stop()


def _score_without_api(page: Any, texts: Texts, folder: Path) -> None:
    """Begin to predict a class; it waits for the API, and says so."""
    open_tab(page, 1)
    page.set_input_files("#class-upload input", write_class(folder / "class.csv", 5))
    page.click("#score")
    page.wait_for_selector(f"#class-progress >> text={texts('class.again')}")


def _see_result_or_error(page: Any) -> None:
    """The class that waited does not end in silence; after an error it can be predicted again."""
    end = "#ranking tbody tr:nth-child(5), #tab-class .notice .note.bad"
    page.wait_for_selector(end, timeout=60_000)
    if not page.is_visible("#ranking tbody tr:nth-child(5)"):
        page.click("#score")
    page.wait_for_selector("#ranking tbody tr:nth-child(5)", timeout=60_000)


def test_page_explains_503_in_its_language(visit: Open, tmp_path: Path, refusing: str) -> None:
    with interface(tmp_path, refusing) as ui:
        for language in LANGUAGES:
            page, texts = visit(language, ui.url), Texts(language)
            page.wait_for_selector(f"#banner >> text={texts('banner.unavailable')[:30]}")
            page.click("#example")
            page.wait_for_function("document.querySelector('#field-age textarea').value === '17'")
            page.click("#predict")
            page.wait_for_selector(f"#answer >> text={texts('error.model_unavailable')}")
            assert "r-503" in page.locator("#answer").inner_text()
