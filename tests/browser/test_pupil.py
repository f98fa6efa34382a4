from __future__ import annotations

import time
from typing import Any

import pytest

from gradio_ui.html.labels import PERIOD_FEATURES, PRIORITIES, horizon_sentence
from gradio_ui.texts import Language, Texts
from student_success.domain.students import EXAMPLE, PASS_GRADE
from student_success.domain.tables.cells import feature_of
from tests.browser.conftest import Open, predict_example, ready, see, unfold

pytestmark = pytest.mark.browser

PAINT_SECONDS = 3.0
ANSWER_SECONDS = 0.3


def test_predict_shows_prediction(visit: Open, language: Language) -> None:
    page, texts = visit(language), Texts(language)
    assert page.url.endswith(f"/{language}/#pupil")
    assert page.locator("html").get_attribute("lang") == language
    predict_example(page)
    answer = page.locator("#answer").inner_text()
    for key in ("result.pass", "priority.none", "model.seed", "result.not_for"):
        assert texts(key) in answer
    assert horizon_sentence(texts, "G1+G2") in answer
    assert "/ 20" in answer
    assert page.locator("#answer svg.scale").first.get_attribute("aria-label")
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
    assert texts("problem.whole", low=15, high=22) in page.locator("#field-age").inner_text()
    assert texts("cell.choose") in page.locator("#field-school").inner_text()
    assert texts("cell.give_grade", low=0, high=20) in page.locator("#field-G1").inner_text()
    age = page.locator("#field-age textarea")
    assert age.get_attribute("aria-invalid") == "true"
    described = age.get_attribute("aria-describedby")
    assert texts("problem.whole", low=15, high=22) in page.locator(f"#{described}").inner_text()
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
    page.click("#field-known input[value=G1]")
    page.wait_for_selector("#field-G1")
    page.fill("#field-G1 textarea", "12,5")
    page.press("#field-G1 textarea", "Enter")
    page.wait_for_selector(f"text={horizon_sentence(texts, 'G1')}")


@pytest.mark.parametrize("button", ["empty", "example"])
def test_slow_answer_does_not_replace_what_is_entered(visit: Open, button: str) -> None:
    page, texts = visit("en"), Texts("en")
    predict_example(page)
    page.evaluate(
        """() => {
          const { fetch } = window;
          window.fetch = async (...what) => {
            window.fetch = fetch;
            await new Promise((resolve) => setTimeout(resolve, 1500));
            window.answered = true;
            return fetch(...what);
          };
        }"""
    )
    page.click(f"#{button}")
    page.click(f"#field-known >> text={texts('known.none')}")
    assert page.evaluate("window.answered")
    page.wait_for_selector("#field-G1", state="hidden")
    assert page.is_checked("#field-known input[value=none]")
    assert not page.is_visible("#field-G1")
    # The button keeps the focus of the keyboard.
    page.focus(f"#{button}")
    page.keyboard.press("Enter")
    page.wait_for_function("!document.querySelector('#form .group').inert")
    assert page.evaluate("document.activeElement.id") == button


def test_form_works_with_keyboard_only(visit: Open) -> None:
    page = visit("en")
    predict_example(page)
    unfold(page)
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
    page.wait_for_url("**/en/#pupil")
    ready(page)
    page.wait_for_selector("#answer svg.scale")
    assert Texts("en")("result.pass") in page.locator("#answer").inner_text()
    assert page.input_value("#field-absences textarea") == "7"
    assert page.locator("#field-school input:checked").get_attribute("value") == "GP"
    assert "?" not in page.url
    # The browser keeps a random code alone, and only for this tab.
    assert page.evaluate("localStorage.length") == 0
    assert page.evaluate("Object.keys(sessionStorage)") == ["visit"]


def test_reasons_and_sliders_are_shown(visit: Open) -> None:
    page, texts = visit("fr"), Texts("fr")
    predict_example(page)
    page.wait_for_selector(f"text={texts('explain.title')}")
    # Each control has the words of the form, and its answer stands above all of them.
    assert texts("explain.now", grade="")[:10] in page.locator("#answer .changed").inner_text()
    page.locator("#what-if-pupil-studytime label").last.click()
    page.wait_for_selector(f"#answer .changed >> text={texts('explain.same', grade='')[:11]}")
    see(page, "#answer .changed")
    see(page, "#what-if-pupil-studytime label:last-child")
    words = feature_of("studytime").about.choices
    assert words is not None
    shown = page.locator("#what-if-pupil-studytime").inner_text()
    offered = {value for value, word in words.items() if texts.choose(word) in shown}
    # Less work is no idea to give.
    assert offered == {value for value in words if value >= EXAMPLE["studytime"]}
    page.focus("#what-if-pupil-absences input[type=range]")
    page.keyboard.press("ArrowRight")
    page.wait_for_timeout(600)
    see(page, "#answer .changed")


def test_answer_does_not_contradict_itself(visit: Open, language: Language) -> None:
    """The grade shown decides; a pass to be watched says why; dots have names."""
    page, texts = visit(language), Texts(language)
    predict_example(page)
    seen = set()
    for grade in ("8", "9", "10", "11", "14"):
        page.fill("#field-G2 textarea", grade)
        page.click("#predict")
        page.wait_for_selector("#answer .outdated:empty", state="attached")
        page.wait_for_selector("#answer .reasons")
        verdict = page.locator("#answer .verdict").inner_text()
        passes = texts("result.pass") in verdict
        shown = int(page.locator("#answer .big").inner_text().split("/")[0])
        assert passes == (shown >= PASS_GRADE), verdict
        priority = page.locator("#answer .priority").inner_text()
        name = next(name for name in PRIORITIES if texts(f"priority.{name}_why") in priority)
        assert passes == (name != "act")
        seen.add(name)
        known = page.locator("#answer .known-grades").inner_text()
        assert all(texts.choose(period.about.label) in known for period in PERIOD_FEATURES)
    assert {"act", "none"} <= seen
