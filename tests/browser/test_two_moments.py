"""The same class at two moments of the year: before and after a further grade."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from gradio_ui.texts import Language, Texts
from student_success.domain.students import EXAMPLE, FEATURE_NAMES
from tests.browser.conftest import Open, see

pytestmark = pytest.mark.browser

FIRST = {"A-1": 15, "A-2": 12, "A-3": 9}
SECOND = {"A-1": 15, "A-2": 5, "A-3": 13}


def _write(path: Path, rows: list[dict[str, Any]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return path


def _class(path: Path, *, second: bool) -> Path:
    known = {name: EXAMPLE[name] for name in FEATURE_NAMES}
    return _write(
        path,
        [
            {"reference": name, **known, "G1": grade, "G2": SECOND[name] if second else ""}
            for name, grade in FIRST.items()
        ],
    )


def _score(page: Any, path: Path) -> None:
    page.set_input_files("#class-upload input", path)
    page.wait_for_selector(f"#class-upload .chosen >> text={path.name}")
    page.wait_for_selector("#ranking tbody", state="hidden")
    page.click("#score")
    page.wait_for_selector("#ranking tbody tr:nth-child(3)")


def _check_change(page: Any, texts: Texts) -> None:
    page.click("#ranking [data-sort=change]")
    page.wait_for_selector("#ranking th[aria-sort=ascending] [data-sort=change]")
    assert texts("rank.caption_sorted") in page.locator("#ranking caption").inner_text()
    see(page, "#ranking tbody tr:first-child [data-cell=change]")
    rows = page.locator("#ranking tbody tr").all()
    shown = [row.locator("button").inner_text() for row in rows]
    assert shown[0] == "A-2"
    assert shown[-1] == "A-3"
    signs = [row.locator(".sign").get_attribute("aria-label") for row in (rows[0], rows[-1])]
    assert signs == [texts("rank.worse"), texts("rank.better")]
    change = rows[0].locator("[data-cell=change]").inner_text()
    assert "→" in change
    assert "G1" in change


def test_scoring_again_shows_what_changed_since_the_history(
    visit: Open, language: Language, tmp_path: Path
) -> None:
    page, texts = visit(language, tab="class"), Texts(language)
    _score(page, _class(tmp_path / "first.csv", second=False))
    assert page.locator("#ranking [data-cell=change]").count() == 0
    _score(page, _class(tmp_path / "second.csv", second=True))
    _check_change(page, texts)


@pytest.mark.parametrize("width", [1280, 400])
def test_saved_result_completed_with_new_grades_shows_what_changed(
    visit: Open, language: Language, tmp_path: Path, width: int
) -> None:
    texts = Texts(language)
    page = visit(language, tab="class")
    _score(page, _class(tmp_path / "first.csv", second=False))
    with page.expect_download() as download:
        page.click("#save-csv")
    delimiter = ";" if language == "fr" else ","
    text = download.value.path().read_text("utf-8-sig")
    rows = list(csv.DictReader(text.splitlines(), delimiter=delimiter))
    for row in rows:
        row["G2"] = str(SECOND[row[texts("file.reference")]])
    # Months later, in a new session.
    later = visit(language, width=width, tab="class")
    _score(later, _write(tmp_path / "completed.csv", rows))
    _check_change(later, texts)
