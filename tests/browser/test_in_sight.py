"""What a reader does and what comes of it is in the window, not merely in the page."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from gradio_ui.texts import Language, Texts
from student_success.domain.students import EXAMPLE, FEATURE_NAMES
from tests.browser.conftest import (
    Open,
    in_window,
    open_models,
    predict_example,
    see,
    start_training,
    unfold,
)
from tests.server import serving
from tests.ui_server import interface

pytestmark = pytest.mark.browser

DESKTOP, PHONE = 1280, 400


def _scroll_to_end(page: Any) -> None:
    page.evaluate("window.scrollTo(0, document.documentElement.scrollHeight)")


@pytest.mark.parametrize("width", [DESKTOP, PHONE])
def test_first_screen_shows_the_action(visit: Open, language: Language, width: int) -> None:
    page = visit(language, width=width)
    assert in_window(page, "#predict")
    assert in_window(page, "#example")
    # What may stay unknown is folded.
    assert not page.is_visible("#more")


@pytest.mark.parametrize("width", [DESKTOP, PHONE])
def test_answer_appears_in_window_from_the_end_of_the_form(visit: Open, width: int) -> None:
    page = visit("fr", width=width)
    predict_example(page)
    _scroll_to_end(page)
    page.fill("#field-reference textarea", "A-1")
    page.locator("#field-reference").scroll_into_view_if_needed()
    page.click("#predict")
    see(page, "#answer .verdict")
    see(page, "#answer svg.scale")


def test_error_appears_in_window_from_the_end_of_the_form(visit: Open) -> None:
    page = visit("en")
    predict_example(page)
    _scroll_to_end(page)
    page.click("#empty")
    page.wait_for_selector("#answer .empty")
    _scroll_to_end(page)
    page.click("#predict")
    # The first invalid field takes the focus, and the number of problems stands beside it.
    see(page, ".field.bad")
    see(page, "#answer [role=alert]")


@pytest.mark.parametrize("action", ["promote", "roll-back", "train"])
def test_refusal_in_models_tab_appears_in_window(visit: Open, action: str) -> None:
    page, texts = visit("en", width=DESKTOP), Texts("en")
    open_models(page)
    page.wait_for_timeout(800)
    page.fill("#budget textarea, #budget input", "soon")
    page.locator(f"#{action}").scroll_into_view_if_needed()
    page.click(f"#{action}")
    message = {"promote": "no_version", "roll-back": "no_reason", "train": "bad_budget"}[action]
    page.wait_for_selector(f"text={texts(f'models.{message}')}")
    see(page, "#tab-models .notice .note")


def test_message_in_models_tab_stays_while_a_training_is_followed(
    visit: Open, tmp_path: Path
) -> None:
    texts = Texts("en")
    # An API of its own: the training would be in the way of the other tests.
    with serving(tmp_path / "api") as api, interface(tmp_path / "ui", api.url) as ui:
        page = visit("en", ui.url)
        open_models(page)
        start_training(page)
        page.click("#promote")
        page.wait_for_selector(f"text={texts('models.no_version')}")
        page.wait_for_timeout(2500)
        assert page.is_visible("#job progress"), "the training ended before the test did"
        assert in_window(page, "#tab-models .notice .note")


@pytest.mark.parametrize("change", ["type", "choose", "tick"])
def test_answer_is_marked_as_outdated_at_once(visit: Open, language: Language, change: str) -> None:
    page, texts = visit(language), Texts(language)
    predict_example(page)
    unfold(page)
    assert not page.is_visible("#answer .outdated")
    if change == "type":
        page.fill("#field-absences textarea", "31")
    elif change == "choose":
        page.focus("#field-goout input")
        page.keyboard.press("ArrowDown")
        page.keyboard.press("Enter")
    else:
        page.locator("#field-paid label:not(.selected)").first.click()
    page.wait_for_selector("#answer .outdated:not(:empty)", timeout=300)
    assert texts("result.outdated") in page.locator("#answer .outdated").inner_text()
    see(page, "#answer .outdated")
    page.click("#predict")
    page.wait_for_selector("#answer .outdated:empty", state="attached")
    see(page, "#answer .verdict")


@pytest.mark.parametrize("width", [DESKTOP, PHONE])
def test_message_about_recorded_grades_appears_in_window(
    visit: Open, language: Language, width: int
) -> None:
    page, texts = visit(language, width=width), Texts(language)
    predict_example(page)
    page.evaluate("window.scrollTo(0, 0)")
    page.click("#tab-history-button")
    page.wait_for_selector("#history-table table")
    page.click("#tab-history .fold > button >> nth=0")
    page.fill("#outcome-many textarea", "A-1;99")
    page.click("#outcome-save")
    page.wait_for_selector(f"text={texts('outcome.nothing_saved')}")
    see(page, "#tab-history .notice .note")


def test_question_about_columns_is_answered_in_the_same_window(
    visit: Open, language: Language, tmp_path: Path
) -> None:
    names = [{"G1": "Trimestre 1", "G2": "Trimestre 2"}.get(name, name) for name in FEATURE_NAMES]
    path = tmp_path / "titles.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerows([names, [EXAMPLE[name] for name in FEATURE_NAMES]])
    page = visit(language, tab="class")
    page.set_input_files("#class-upload input", path)
    for part in ("#columns-title", "#columns-holds", "#read-again"):
        see(page, part)
