"""What a reader entered survives a reload, a lost connection and a restart of the interface."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gradio_ui.texts import Language, Texts
from tests.browser.conftest import Open, open_tab, predict_example, ready, unfold
from tests.server import Server
from tests.ui_server import interface

pytestmark = pytest.mark.browser


def _change_entries(page: Any) -> None:
    unfold(page)
    page.fill("#field-absences textarea", "7")
    page.focus("#field-goout input")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.locator("#field-paid label:not(.selected)").first.click()


def _entries(page: Any) -> list[str]:
    paid = page.locator("#field-paid input:checked").get_attribute("value")
    fields = ("#field-absences textarea", "#field-goout input", "#field-reason input")
    return [paid, *(page.input_value(field) for field in fields)]


def test_tabs_have_addresses_that_reload_and_back_follow(visit: Open, language: Language) -> None:
    page = visit(language)
    start = page.url
    for name in ("monitor", "history"):
        page.click(f"#tab-{name}-button")
        page.wait_for_url(f"**/{language}/#{name}")
    page.reload()
    ready(page)
    page.wait_for_selector("#history-refresh")
    page.go_back()
    page.wait_for_selector("#monitor-refresh")
    assert page.url.endswith("#monitor")
    page.go_back()
    page.wait_for_selector("#predict")
    assert page.url == start
    page.goto(f"{start.split('#')[0]}#monitor")
    page.wait_for_selector("#conclusion .note")


def test_arrow_keys_move_between_tabs(visit: Open) -> None:
    page = visit("en")
    page.focus("#tab-history-button")
    page.keyboard.press("ArrowRight")
    page.wait_for_selector("#token")
    page.keyboard.press("ArrowLeft")
    page.wait_for_selector("#history-refresh")
    assert page.evaluate("document.activeElement.id") == "tab-history-button"


def test_reload_keeps_entries_and_answer(visit: Open, language: Language) -> None:
    page, texts = visit(language), Texts(language)
    predict_example(page)
    page.reload()
    ready(page)
    page.wait_for_selector("#answer svg.scale")
    assert not page.is_visible("#answer .outdated")
    _change_entries(page)
    before = _entries(page)
    page.reload()
    ready(page)
    page.wait_for_selector("#answer .outdated:not(:empty)")
    assert _entries(page) == before
    assert texts("result.outdated") in page.locator("#answer .outdated").inner_text()


def test_page_recovers_from_a_lost_connection(visit: Open, language: Language) -> None:
    page, texts = visit(language), Texts(language)
    predict_example(page)
    page.context.set_offline(True)
    page.wait_for_selector(f"text={texts('lost.text')}", timeout=20_000)
    _change_entries(page)
    before = _entries(page)
    page.context.set_offline(False)
    page.wait_for_selector(f"text={texts('lost.text')}", state="detached", timeout=20_000)
    ready(page)
    page.wait_for_selector("#answer .outdated:not(:empty)")
    assert _entries(page) == before
    page.click("#predict")
    page.wait_for_selector("#answer .outdated:empty", state="attached")


def test_page_recovers_from_a_restart_of_the_interface(
    visit: Open, api: Server, language: Language, tmp_path: Path
) -> None:
    texts = Texts(language)
    with interface(tmp_path, api.url) as ui:
        page = visit(language, ui.url)
        predict_example(page)
        page.fill("#field-reference textarea", "KEPT")
        page.click("#predict")
        page.wait_for_selector("#answer .outdated:empty", state="attached")
        _change_entries(page)
        before = _entries(page)
        ui.stop()
        ui.start()
        page.wait_for_selector(f"#banner >> text={texts('lost.forgotten')[:40]}", timeout=30_000)
        assert _entries(page) == before
        page.click("#predict")
        page.wait_for_selector("#answer svg.scale")
        # The session is the same one: what was predicted before is still in its history.
        open_tab(page, 2)
        page.wait_for_selector("#history-table tbody tr:nth-child(2)")
        assert "KEPT" in page.locator("#history-table").inner_text()
