"""Nothing is cramped, cut off or pushed out of the first screen."""

from __future__ import annotations

from typing import Any

import pytest

from gradio_ui.texts import Language, Texts
from tests.browser.conftest import Open, open_models, open_tab, predict_example, see

pytestmark = pytest.mark.browser

DESKTOP, PHONE = 1280, 400

_CRAMPED = """() => {
  const boxes = document.querySelectorAll(".group, .facts > div, .fold, .answer");
  return [...boxes].filter((box) => box.offsetParent).flatMap((box) => {
    const outer = box.getBoundingClientRect();
    return [...box.querySelectorAll("button, dd, .badge, .facts > div, table, summary, input")]
      .filter((inner) => inner.offsetParent && inner.getBoundingClientRect().width > 1)
      .filter((inner) => {
        const place = inner.getBoundingClientRect();
        return [place.left - outer.left, outer.right - place.right, outer.bottom - place.bottom]
          .some((space) => space < 6);
      })
      .map((inner) => [inner.tagName, inner.textContent.trim().slice(0, 40), box.className]);
  });
}"""


@pytest.mark.parametrize(("width", "count"), [(DESKTOP, 6), (PHONE, 2)])
def test_ranked_pupils_are_in_the_window_at_once(
    visit: Open, language: Language, width: int, count: int
) -> None:
    page = visit(language, width=width, tab="class")
    page.click("#example-class")
    page.wait_for_selector("#ranking tbody tr")
    see(page, f"#ranking tbody tr:nth-child({count})")


@pytest.mark.parametrize("width", [DESKTOP, PHONE])
def test_boxes_leave_room_around_their_content(visit: Open, language: Language, width: int) -> None:
    page = visit(language, width=width)
    cramped: list[Any] = []
    predict_example(page)
    cramped += page.evaluate(_CRAMPED)
    open_tab(page, 2)
    page.wait_for_selector("#history-table table")
    for fold in page.locator("#tab-history .fold > button").all():
        fold.click()
    page.wait_for_selector("#outcome-save")
    cramped += page.evaluate(_CRAMPED)
    assert page.locator("#tab-history .fold").count() == 2
    open_models(page)
    page.click("#models-inside .fold > button")
    page.wait_for_selector("#allow-synthetic")
    cramped += page.evaluate(_CRAMPED)
    open_tab(page, 4)
    page.wait_for_selector("#conclusion .note")
    for fold in page.locator("#tab-monitor summary").all():
        fold.click()
    cramped += page.evaluate(_CRAMPED)
    assert cramped == []


def test_opened_pupil_leads_back_to_its_row_on_a_phone(visit: Open, language: Language) -> None:
    page = visit(language, width=PHONE, tab="class")
    page.click("#example-class")
    page.wait_for_selector("#ranking tbody tr")
    page.click("#ranking tbody tr:nth-child(5)")
    page.wait_for_selector("#class-answer .reasons")
    see(page, "#class-answer .verdict")
    see(page, "#back-to-list")
    page.click("#back-to-list")
    see(page, "#ranking tbody tr:nth-child(5)")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_models_tab_draws_calibration_and_error_by_group(
    visit: Open, language: Language, scheme: str
) -> None:
    page, texts = visit(language, scheme=scheme), Texts(language)
    open_models(page)
    for name in ("calibration", "errors"):
        page.locator(f"figure:has(svg.{name})").scroll_into_view_if_needed()
        see(page, f"figure:has(svg.{name})")
        # Nothing that is written is cut off, and a screen reader gets the figures.
        cut = page.evaluate(
            """(name) => {
              const picture = document.querySelector(`svg.${name}`);
              const outer = picture.getBoundingClientRect();
              return [...picture.querySelectorAll("text")].filter((text) => {
                const place = text.getBoundingClientRect();
                return place.left < outer.left - 1 || place.right > outer.right + 1;
              }).map((text) => text.textContent);
            }""",
            name,
        )
        assert cut == []
    assert "398" in page.get_attribute("svg.calibration", "aria-label")
    assert texts("chart.fairness") in page.locator("figure:has(svg.errors)").inner_text()
    # Groups have the words of the profile, not its codes.
    groups = page.get_attribute("svg.errors", "aria-label")
    assert {"fr": "garçons", "en": "boys"}[language] in groups
    assert "sex" not in groups
    assert "(434)" in page.get_attribute("svg.errors", "aria-label")
    assert "NaN" not in page.locator("#served").inner_html()
    served = page.locator("#served").inner_text()
    for name in ("errs", "explains", "covers"):
        # Each figure has its sentence.
        sentence = texts(f"models.{name}", mae="|", baseline="|", share="|")
        assert sentence.split("|")[0].strip() in served
