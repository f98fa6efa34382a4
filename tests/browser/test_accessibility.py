from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from gradio_ui.texts import Language, Texts
from student_success.domain.students import EXAMPLE, FEATURE_NAMES
from tests.browser.conftest import Open, open_tab, predict_example, unfold
from tests.server import ADMIN_TOKEN

pytestmark = pytest.mark.browser

DESKTOP, PHONE = 1280, 400
NAMES = ("pupil", "class", "history", "models", "monitor")


def _class(folder: Path) -> Path:
    path = folder / "class.csv"
    grades = [4, 6, 7, 8, 8, 9, 9, 10, 10, 10, 11, 11, 12, 12, 13, 13, 14, 15, 16, 18]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["reference", *FEATURE_NAMES])
        for number, grade in enumerate(grades, 1):
            row = {**EXAMPLE, "G1": grade + number % 3 - 1, "G2": grade, "absences": number}
            writer.writerow([f"3B-{number:02}", *(row[name] for name in FEATURE_NAMES)])
    return path


def _fill(page: Any, name: str, folder: Path) -> None:
    """Fill a tab with content."""
    if name == "class":
        page.set_input_files("#class-upload input", _class(folder))
        page.wait_for_selector("#score")
        page.click("#score")
        page.wait_for_selector("#ranking table")
    elif name == "history":
        page.wait_for_selector("#history-table table")
    elif name == "models":
        page.fill("#token input", ADMIN_TOKEN)
        page.click("#unlock")
        page.wait_for_selector("#models-inside")
    elif name == "monitor":
        page.wait_for_selector("#conclusion .note")
        for part in ("health", "quality"):
            page.click(f"#{part} summary")
        page.wait_for_selector("#health dl")
    page.wait_for_timeout(300)


@pytest.mark.parametrize(
    ("language", "scheme", "width"),
    [
        ("fr", "light", DESKTOP),
        ("fr", "dark", PHONE),
        ("en", "light", PHONE),
        ("en", "dark", DESKTOP),
    ],
)
def test_tabs_are_accessible_and_fit_the_screen(
    visit: Open, language: Language, scheme: str, width: int, tmp_path: Path, pictures: Path
) -> None:
    axe_module = pytest.importorskip(
        "axe_playwright_python.sync_playwright",
        reason="axe-playwright-python is not installed: see the extra `dev`",
    )
    axe = axe_module.Axe()
    page = visit(language, width=width, scheme=scheme)
    size = "desktop" if width == DESKTOP else "phone"
    problems: list[str] = []

    def inspect(name: str) -> None:
        violations = axe.run(page).response["violations"]
        problems.extend(
            f"{name}: {v['impact']} {v['id']}: {v['nodes'][0]['html'][:160]}" for v in violations
        )
        wide = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        if wide > 0:
            problems.append(f"{name}: {wide} px too wide")
        page.screenshot(path=pictures / f"{name}-{language}-{scheme}-{size}.png", full_page=True)

    page.click("#predict")
    page.wait_for_selector(".field.bad")
    inspect("errors")
    predict_example(page)
    page.wait_for_timeout(400)
    for number, name in enumerate(NAMES):
        open_tab(page, number)
        _fill(page, name, tmp_path)
        inspect(name)
    assert problems == []


def test_answer_is_announced_and_focus_is_seen(visit: Open, language: Language) -> None:
    """What axe does not test: live regions, visible focus, lists left open, names of sliders."""
    page, texts = visit(language), Texts(language)
    predict_example(page)
    page.wait_for_selector(".announcer:not(:empty)", state="attached")
    assert texts("result.pass") in page.locator(".announcer").inner_text()
    sliders = page.evaluate(
        "[...document.querySelectorAll('#answer :is([type=range], [type=number])')].map((input) =>"
        " [input.ariaLabel, document.getElementById(input.getAttribute('aria-labelledby'))"
        ".textContent.trim()])"
    )
    assert sliders
    assert all(label is None and name for label, name in sliders)
    page.focus("#field-known input:checked")
    page.keyboard.press("ArrowDown")
    outline = "getComputedStyle(document.activeElement.closest('label')).outlineStyle"
    assert page.evaluate(outline) == "solid"
    unfold(page)
    page.focus("#field-goout input")
    page.keyboard.press("ArrowDown")
    page.wait_for_selector("[role=listbox]")
    page.keyboard.press("Tab")
    page.wait_for_selector("[role=listbox]", state="hidden")
    assert page.evaluate("document.activeElement.closest('.field').id") != "field-goout"
