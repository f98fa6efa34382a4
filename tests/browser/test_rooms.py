from __future__ import annotations

import csv
import io

import pytest

from gradio_ui.texts import Language, Words
from tests.browser.conftest import Open, predict_example, tab
from tests.server import ADMIN_TOKEN
from tests.ui_server import UiServer

pytestmark = pytest.mark.browser


def test_the_history_shows_this_visitors_predictions_alone(visit: Open, language: Language) -> None:
    page, words = visit(language), Words(language)
    page.fill("#field-reference textarea", "")
    predict_example(page)
    page.fill("#field-reference textarea", "MINE")
    page.click("#predict")
    page.wait_for_timeout(500)
    tab(page, 2)
    page.wait_for_selector("#history-table tbody tr:nth-child(2)")
    assert "MINE" in page.locator("#history-table").inner_text()
    assert page.locator("#room-history svg.time").count() == 1
    with page.expect_download() as download:
        page.click("#history-csv")
    text = download.value.path().read_text("utf-8-sig")
    rows = list(csv.reader(io.StringIO(text), delimiter=";" if language == "fr" else ","))
    assert len(rows) == 3
    assert rows[1][1] == "MINE"

    other = visit(language)
    tab(other, 2)
    other.wait_for_selector(f"text={words('history.empty')}")
    assert "MINE" not in other.content()


def test_a_session_is_opened_again_by_its_code_and_erased_with_the_token(visit: Open) -> None:
    page, words = visit("en"), Words("en")
    predict_example(page)
    tab(page, 2)
    page.wait_for_selector("#history-table tbody tr")
    page.click(f"text={words('history.session')}")
    code = page.input_value("#code textarea, #code input")

    other = visit("en")
    tab(other, 2)
    other.click(f"text={words('history.session')}")
    other.fill("#code textarea, #code input", code)
    other.click("#reopen")
    other.wait_for_selector("#history-table tbody tr")
    other.check("#erase-sure input")
    other.click("#erase")
    other.wait_for_selector(f"text={words('history.erase_admin')}")
    tab(other, 3)
    other.fill("#token input", ADMIN_TOKEN)
    other.press("#token input", "Enter")
    other.wait_for_selector("#models-inside")
    tab(other, 2)
    other.click("#erase")
    other.wait_for_selector(f"text={words('history.erased', count=1)}")


def test_the_models_tab_opens_with_the_token_and_shuts_again(
    visit: Open, language: Language, ui: UiServer
) -> None:
    page, words = visit(language), Words(language)
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url))
    tab(page, 3)
    assert not page.is_visible("#train")
    page.fill("#token input", "not the token")
    page.click("#unlock")
    page.wait_for_selector(f"text={words('models.refused')}")
    page.fill("#token input", ADMIN_TOKEN)
    page.click("#unlock")
    page.wait_for_selector("#train")
    assert page.input_value("#token input") == "" if page.is_visible("#token") else True
    assert ADMIN_TOKEN not in page.content()
    assert not any(ADMIN_TOKEN in url for url in sent)
    page.click("#promote")
    page.wait_for_selector(f"text={words('models.no_version')}")
    page.fill("#version input", "999")
    page.keyboard.press("Enter")
    page.fill("#reason textarea, #reason input", "a try")
    page.click("#promote")
    # Choosing the version asked for its evidence, which is missing too and may say so first: the
    # promotion is over once its button can be pressed again.
    page.wait_for_selector("#promote:disabled")
    page.wait_for_selector("#promote:enabled", timeout=60_000)
    page.wait_for_selector(f"text={words('error.not_found')}", timeout=60_000)
    page.click("#roll-back")
    page.wait_for_selector(f"text={words('error.conflict')}", timeout=60_000)
    page.click("#lock")
    page.wait_for_selector("#train", state="hidden")
    assert ADMIN_TOKEN not in ui.log.read_text("utf-8")


def test_the_monitoring_tab_shows_the_state_of_the_service(visit: Open, language: Language) -> None:
    page, words = visit(language), Words(language)
    tab(page, 4)
    page.wait_for_selector("#health dl")
    shown = page.locator("#room-monitor").inner_text()
    assert words("state.ok") in shown
    assert words("quality.title") in shown
    assert words("model.seed") in shown


def test_a_training_is_started_followed_and_judged(visit: Open) -> None:
    page, words = visit("en"), Words("en")
    tab(page, 3)
    page.fill("#token input", ADMIN_TOKEN)
    page.click("#unlock")
    page.wait_for_selector("#train")
    page.fill("#budget textarea, #budget input", "0,5")
    page.fill("#family textarea, #family input", "linear")
    page.click("#train")
    page.wait_for_selector("#job progress", timeout=30_000)
    page.click("#promote")
    # It runs apart: the page answers meanwhile, and tells when it is over.
    page.wait_for_selector(f"text={words('models.no_version')}")
    page.wait_for_selector("#job .note", timeout=200_000)
    said = page.locator("#job").inner_text()
    assert "Version 1" in said, said
    page.fill("#version input", "1")
    page.keyboard.press("Enter")
    page.fill("#reason textarea, #reason input", "looked at in a browser")
    page.click("#promote")
    page.wait_for_selector("#evidence table", timeout=90_000)
    evidence = page.locator("#evidence").inner_text()
    assert words("condition.mae") in evidence
    verdict = {words("gate.passed", version=1), words("gate.failed", version=1)}
    assert any(text in evidence for text in verdict)
