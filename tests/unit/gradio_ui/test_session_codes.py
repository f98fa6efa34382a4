"""Session codes of the interface: random, and the only ones that a visitor may open."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import httpx
import pytest
from gradio_client import Client

from gradio_ui.tabs.outcomes import OutcomeForm
from gradio_ui.texts import Texts
from gradio_ui.visitor_state import SessionCodes, Visit
from student_success.domain.students import EXAMPLE, SCALE, TARGET
from tests.server import serving
from tests.ui_server import UiServer, interface

EN = Texts("en")
TOKEN = "api-token-of-the-tests-0123456789abcdef"


def test_code_is_the_same_for_a_tab_after_a_restart_and_cannot_be_chosen() -> None:
    codes = SessionCodes(TOKEN)
    assert codes.of("tab") == SessionCodes(TOKEN).of("tab")
    assert codes.of("class-3a") != "class-3a"
    assert len({codes.new() for _ in range(100)}) == 100
    assert SessionCodes("another").of("tab") != codes.of("tab")


def test_only_codes_of_the_interface_may_be_opened_once_the_api_has_a_token() -> None:
    codes = SessionCodes(TOKEN)
    code = codes.new()
    assert codes.may_open(code)
    forged = SessionCodes("another").new()
    for name in ("class-3a", "class-3a.", ".", code[:-1], code + "x", forged, ""):
        assert not codes.may_open(name)
    assert SessionCodes(None).may_open("class-3a")


@pytest.fixture
def ui(tmp_path: Path) -> Iterator[UiServer]:
    with (
        serving(tmp_path / "api", API_TOKEN=TOKEN) as server,
        interface(tmp_path, server.url, API_TOKEN=TOKEN) as running,
    ):
        authorised = {"Authorization": f"Bearer {TOKEN}", "X-Session-Id": "class-3a"}
        body = {**EXAMPLE, "reference": "SECRET-PUPIL"}
        sent = httpx.post(f"{server.url}/predict", json=body, headers=authorised)
        assert sent.status_code == 200
        yield running


@pytest.mark.e2e
@pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
def test_visitor_cannot_open_a_session_of_another_client(ui: UiServer) -> None:
    client = Client(f"{ui.url}/en/", verbose=False, analytics_enabled=False)
    try:
        own = client.predict(api_name="/history")[1]
        shown = str(client.predict("class-3a", api_name="/reopen"))
        assert EN("history.foreign_code") in shown
        assert "SECRET-PUPIL" not in shown
        assert "SECRET-PUPIL" not in str(client.predict(api_name="/history"))
        assert EN("history.foreign_code") not in str(client.predict(own, api_name="/reopen"))
    finally:
        client.close()


def test_file_of_outcomes_names_no_session_that_the_visitor_may_not_open() -> None:
    sent: list[Any] = []
    api: Any = SimpleNamespace(call=lambda *_, body, **__: sent.append(body))
    with gr.Blocks():
        form = OutcomeForm(EN, api, megabytes=1)
    table = f"session;reference;{TARGET}\ntheirs;A-01;{SCALE.grade(1)}\n"
    upload = {"name": "a.csv", "data": base64.b64encode(table.encode()).decode()}
    shown = form.record_file(Visit("browser", "mine"), upload, lambda _: False)
    assert EN("history.foreign_code") in html.unescape(shown)
    assert sent == []


def test_reason_of_a_correction_counts_for_one_save_and_for_no_file() -> None:
    sent: list[Any] = []

    def call(*_: Any, body: Any, **__: Any) -> Any:
        sent.append(body)
        return {"accepted": 1, "rejected": []}

    api: Any = SimpleNamespace(call=call)
    with gr.Blocks():
        form = OutcomeForm(EN, api, megabytes=1)
    visit = Visit("browser", "mine")
    grade = SCALE.grade(1)
    form.record(visit, None, "", f"A-01;{grade}", "typo")
    assert form.offer([])[form.reason]["value"] == ""
    assert form.reason in form.outputs
    table = f"reference;{TARGET}\nA-01;{grade}\n"
    upload = {"name": "a.csv", "data": base64.b64encode(table.encode()).decode()}
    form.record_file(visit, upload, lambda _: False)
    assert ["correct" in body["outcomes"][0] for body in sent] == [True, False]


@pytest.mark.parametrize("written", ["1_0", "1 0", "０", "nan", "0x1", "1e400", ""])
def test_typed_text_that_is_no_plain_number_is_not_recorded_as_a_grade(written: str) -> None:
    sent: list[Any] = []
    api: Any = SimpleNamespace(call=lambda *_, body, **__: sent.append(body))
    with gr.Blocks():
        form = OutcomeForm(EN, api, megabytes=1)
    for fields in (("the-prediction", written, ""), (None, "", f"A-01;{written}")):
        shown = form.record(Visit("browser", "mine"), *fields, "")
        assert EN("outcome.nothing_saved") in html.unescape(shown)
    assert sent == []
