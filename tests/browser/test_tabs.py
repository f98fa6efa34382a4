from __future__ import annotations

import csv
import io

import pytest

from gradio_ui.texts import Language, Texts
from tests.browser.conftest import (
    Open,
    open_models,
    open_tab,
    predict_example,
    see,
    start_training,
)
from tests.server import ADMIN_TOKEN
from tests.ui_server import UiServer

pytestmark = pytest.mark.browser


def test_history_shows_only_own_predictions(visit: Open, language: Language) -> None:
    page, texts = visit(language), Texts(language)
    page.fill("#field-reference textarea", "")
    predict_example(page)
    page.fill("#field-reference textarea", "MINE")
    page.click("#predict")
    page.wait_for_timeout(500)
    open_tab(page, 2)
    page.wait_for_selector("#history-table tbody tr:nth-child(2)")
    assert "MINE" in page.locator("#history-table").inner_text()
    # No picture joins different pupils as if they were a trend.
    assert page.locator("#tab-history svg[role=img]").count() == 0
    with page.expect_download() as download:
        page.click("#history-csv")
    text = download.value.path().read_text("utf-8-sig")
    rows = list(csv.reader(io.StringIO(text), delimiter=";" if language == "fr" else ","))
    assert len(rows) == 3
    assert rows[1][1] == "MINE"

    other = visit(language)
    open_tab(other, 2)
    other.wait_for_selector(f"text={texts('history.empty')}")
    assert "MINE" not in other.content()


def test_session_is_reopened_by_code_and_erased_with_token(visit: Open) -> None:
    page, texts = visit("en"), Texts("en")
    predict_example(page)
    open_tab(page, 2)
    page.wait_for_selector("#history-table tbody tr")
    page.click(f"text={texts('history.session')}")
    code = page.input_value("#code textarea, #code input")

    other = visit("en")
    open_tab(other, 2)
    other.click(f"text={texts('history.session')}")
    other.fill("#code textarea, #code input", code)
    other.click("#reopen")
    other.wait_for_selector("#history-table tbody tr")
    other.check("#erase-sure input")
    other.click("#erase")
    other.wait_for_selector(f"text={texts('history.erase_admin')}")
    open_tab(other, 3)
    other.fill("#token input", ADMIN_TOKEN)
    other.press("#token input", "Enter")
    other.wait_for_selector("#models-inside")
    open_tab(other, 2)
    other.click("#erase")
    other.wait_for_selector(f"text={texts.count('history.erased', 1)}")


def test_models_tab_opens_with_token_and_locks_again(
    visit: Open, language: Language, ui: UiServer
) -> None:
    page, texts = visit(language), Texts(language)
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url))
    open_tab(page, 3)
    assert not page.is_visible("#train")
    page.fill("#token input", "not the token")
    page.click("#unlock")
    page.wait_for_selector(f"text={texts('models.refused')}")
    page.fill("#token input", ADMIN_TOKEN)
    page.click("#unlock")
    page.wait_for_selector("#train")
    # The page names the data of a training before it starts.
    data = (texts("models.made_up"), texts("models.will_use", name="final.csv"))
    assert any(text in page.locator("#models-inside").inner_text() for text in data)
    assert page.input_value("#token input") == "" if page.is_visible("#token") else True
    assert ADMIN_TOKEN not in page.content()
    assert not any(ADMIN_TOKEN in url for url in sent)
    page.click("#promote")
    page.wait_for_selector(f"text={texts('models.no_version')}")
    page.fill("#version input", "999")
    page.keyboard.press("Enter")
    page.fill("#reason textarea, #reason input", "a try")
    page.click("#promote")
    # Choosing the version also requests its evidence, which is missing as well. The promotion has
    # finished when its button is enabled again.
    page.wait_for_selector("#promote:disabled")
    page.wait_for_selector("#promote:enabled", timeout=60_000)
    page.wait_for_selector(f"text={texts('error.not_found')}", timeout=60_000)
    page.click("#roll-back")
    page.wait_for_selector(f"text={texts('error.conflict')}", timeout=60_000)
    page.click("#lock")
    page.wait_for_selector("#train", state="hidden")
    assert ADMIN_TOKEN not in ui.log.read_text("utf-8")


def test_monitoring_tab_shows_state_of_service(visit: Open, language: Language) -> None:
    page, texts = visit(language), Texts(language)
    open_tab(page, 4)
    # One sentence comes first; the details are folded.
    see(page, "#conclusion .note")
    assert not page.is_visible("#health dl")
    page.click("#health summary")
    page.wait_for_selector("#health dl")
    page.click("#quality summary")
    shown = page.locator("#tab-monitor").inner_text()
    assert texts("state.ok") in shown
    assert texts("quality.title") in shown
    assert texts("model.seed") in shown


def test_training_is_started_followed_and_evaluated(visit: Open) -> None:
    page, texts = visit("en"), Texts("en")
    open_models(page)
    start_training(page)
    page.click("#promote")
    # The training runs in the background: the page still answers, and reports the end.
    page.wait_for_selector(f"text={texts('models.no_version')}")
    page.wait_for_selector("#job .note", timeout=200_000)
    result = page.locator("#job").inner_text()
    assert "Version 1" in result, result
    # The new version is chosen and its conditions are read without a further step.
    page.wait_for_selector("#evidence table", timeout=90_000)
    assert page.input_value("#version input") == texts("model.version", version=1)
    assert texts("gate.synthetic", version=1) in page.locator("#evidence").inner_text()
    page.wait_for_selector("#versions table", timeout=60_000)
    assert texts("models.no_versions") not in page.locator("#versions").inner_text()
    page.fill("#reason textarea, #reason input", "looked at in a browser")
    page.click("#promote")
    page.wait_for_selector("#promote:disabled")
    page.wait_for_selector("#promote:enabled", timeout=90_000)
    evidence = page.locator("#evidence").inner_text()
    assert texts("condition.mae") in evidence
    verdict = {texts("gate.passed", version=1), texts("gate.failed", version=1)}
    assert any(text in evidence for text in verdict)
    # After a refusal the page says what to do next.
    assert (texts("gate.failed", version=1) in evidence) == (texts("gate.next") in evidence)
