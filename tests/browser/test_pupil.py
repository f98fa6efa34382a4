from __future__ import annotations

import time
from typing import Any

import pytest

from gradio_ui.texts import Language, Texts
from tests.browser.conftest import Open, predict_example, ready

pytestmark = pytest.mark.browser

PAINT_SECONDS = 3.0
ANSWER_SECONDS = 0.3


def test_predict_shows_prediction(visit: Open, language: Language) -> None:
    page, texts = visit(language), Texts(language)
    assert page.url.endswith(f"/{language}/")
    assert page.locator("html").get_attribute("lang") == language
    predict_example(page)
    answer = page.locator("#answer").inner_text()
    for key in ("result.pass", "horizon.g1_g2", "model.seed", "result.not_for"):
        assert texts(key) in answer
    assert "/ 20" in answer
    assert page.locator("#answer svg.scale").get_attribute("aria-label")
    # The script of the page has written the time in the reader's time zone.
    page.wait_for_selector("#answer time[data-local]")


def test_page_and_prediction_are_fast(visit: Open) -> None:
    page = visit("fr")
    paints, answers = [], []
    for _ in range(4):
        started = time.monotonic()
        page.reload()
        ready(page)
        paints.append(time.monotonic() - started)
    predict_example(page)
    for grade in range(5, 11):
        page.fill("#field-G2 textarea", str(grade))
        # Measured in the page itself: from the click to the new answer in the document.
        answers.append(
            page.evaluate(
                """async () => {
                  const answer = document.querySelector("#answer");
                  const shown = () => answer.querySelector(".big")?.closest(".html-container");
                  const before = answer.querySelector("time").dateTime;
                  const started = performance.now();
                  document.querySelector("#predict").click();
                  while (true) {
                    const now = answer.querySelector("time");
                    if (now && now.dateTime !== before && shown()) break;
                    await new Promise(requestAnimationFrame);
                  }
                  return (performance.now() - started) / 1000;
                }"""
            )
        )
    # The best of several: other tests may be using the machine.
    assert min(paints) < PAINT_SECONDS, paints
    assert min(answers) < ANSWER_SECONDS, answers


def test_invalid_field_shows_its_problem(visit: Open, language: Language) -> None:
    page, texts = visit(language), Texts(language)
    page.fill("#field-age textarea", "99")
    page.click("#predict")
    page.wait_for_selector(".field.bad")
    assert texts("cell.whole", low=15, high=22) in page.locator("#field-age").inner_text()
    assert texts("cell.choose") in page.locator("#field-reason").inner_text()
    assert texts("cell.give_grade") in page.locator("#field-G1").inner_text()
    age = page.locator("#field-age textarea")
    assert age.get_attribute("aria-invalid") == "true"
    described = age.get_attribute("aria-describedby")
    assert texts("cell.whole", low=15, high=22) in page.locator(f"#{described}").inner_text()
    assert page.locator("#answer svg.scale").count() == 0
    page.wait_for_function("document.activeElement.closest('.field.bad') !== null")
    # After a correction the message disappears.
    predict_example(page)
    assert page.locator(".field.bad").count() == 0


def test_form_hides_unknown_grades(visit: Open) -> None:
    page, texts = visit("en"), Texts("en")
    predict_example(page)
    page.click(f"#field-known >> text={texts('known.none')}")
    page.wait_for_selector("#field-G1", state="hidden")
    assert not page.is_visible("#field-G2")
    page.click("#predict")
    page.wait_for_selector(f"text={texts('horizon.none')}")
    page.click(f"#field-known >> text={texts('known.g1')}")
    page.wait_for_selector("#field-G1")
    page.fill("#field-G1 textarea", "12,5")
    page.press("#field-G1 textarea", "Enter")
    page.wait_for_selector(f"text={texts('horizon.g1')}")


def test_form_works_with_keyboard_only(visit: Open) -> None:
    page = visit("en")
    predict_example(page)
    page.focus("#field-known input")
    reached: list[Any] = []
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate(
                "document.activeElement.closest('.field')?.id || document.activeElement.id"
            )
        )
        if reached[-1] == "predict":
            break
    for name in ("G1", "school", "age", "reason", "nursery", "famsup", "goout", "reference"):
        assert f"field-{name}" in reached
    page.keyboard.press("Enter")
    page.wait_for_selector("#answer svg.scale")
    page.focus("#field-school input:checked")
    page.keyboard.press("ArrowDown")
    checked = page.locator("#field-school input:checked").get_attribute("value")
    assert checked == "MS"


def test_language_switch_keeps_the_visit(visit: Open) -> None:
    page = visit("fr")
    predict_example(page)
    page.fill("#field-absences textarea", "7")
    page.click("#language")
    page.wait_for_url("**/en/")
    ready(page)
    page.wait_for_selector("#answer svg.scale")
    assert Texts("en")("result.pass") in page.locator("#answer").inner_text()
    assert page.input_value("#field-absences textarea") == "7"
    assert page.locator("#field-school input:checked").get_attribute("value") == "GP"
    assert "?" not in page.url
    assert page.evaluate("localStorage.length + sessionStorage.length") == 0
    page.reload()
    ready(page)
    assert page.locator("#answer svg.scale").count() == 0


def test_reasons_and_sliders_are_shown(visit: Open) -> None:
    page, texts = visit("fr"), Texts("fr")
    predict_example(page)
    page.wait_for_selector(f"text={texts('explain.title')}")
    page.focus("#what-if-studytime input[type=range]")
    page.keyboard.press("ArrowRight")
    page.wait_for_selector(".changed")
