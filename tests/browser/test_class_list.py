from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

import pytest
from openpyxl import load_workbook

from gradio_ui.texts import Language, Texts
from student_success.domain.students import FEATURE_NAMES
from tests.browser.conftest import Open, in_window, open_tab, ready, see, write_class

pytestmark = pytest.mark.browser


def test_class_list_is_checked_predicted_filtered_and_saved(
    visit: Open, language: Language, tmp_path: Path
) -> None:
    page, texts = visit(language), Texts(language)
    open_tab(page, 1)
    page.set_input_files(
        "#class-upload input", write_class(tmp_path / "c.csv", 60, age="quinze", famsup="?")
    )
    page.wait_for_selector(f"text={texts('bad.caption')}")
    table = page.locator(".sheet").first.inner_text()
    assert "quinze" in table
    assert texts("problem.whole", low=15, high=22) in table
    with page.expect_download() as download:
        page.click("#bad-cells")
    assert download.value.suggested_filename == f"{texts('file.bad_cells')}.csv"

    page.click("#score")
    page.wait_for_selector("#ranking table")
    assert page.locator("#ranking tbody tr").count() == 50
    assert texts.count("class.scored", 59) in page.locator("#tab-class").inner_text()
    page.click("#filter input[value=act]")
    page.wait_for_function("document.querySelectorAll('#ranking tbody tr').length < 50")
    shown = page.locator("#ranking").inner_text()
    assert texts("priority.none") not in shown
    page.fill("#search textarea, #search input", "P004")
    page.wait_for_function("document.querySelectorAll('#ranking tbody tr').length === 1")

    for button, kind in (("#save-csv", "csv"), ("#save-xlsx", "xlsx")):
        with page.expect_download() as download:
            page.click(button)
        saved = tmp_path / download.value.suggested_filename
        download.value.save_as(saved)
        if kind == "csv":
            text = saved.read_text("utf-8-sig")
            rows = list(csv.reader(text.splitlines(), delimiter=";" if language == "fr" else ","))
            assert rows[1][2] == "'=P004"
        else:
            book = load_workbook(saved)
            assert book.active is not None
            assert book.active["C2"].value == "'=P004"
            assert book.active["C2"].data_type == "s"


def test_template_is_a_valid_class_list(visit: Open, tmp_path: Path) -> None:
    page, texts = visit("fr"), Texts("fr")
    open_tab(page, 1)
    for button in ("#template-csv", "#template-xlsx"):
        with page.expect_download() as download:
            page.click(button)
        saved = tmp_path / download.value.suggested_filename
        download.value.save_as(saved)
        if saved.suffix == ".csv":
            # Its titles and values are words, not the codes of the profile.
            titles, values = saved.read_text("utf-8-sig").splitlines()[:2]
            assert not {*FEATURE_NAMES} & {*titles.split(";")}
            assert ";oui;" in values
        page.set_input_files("#class-upload input", saved)
        page.wait_for_selector(f"text={saved.name}")
        page.wait_for_selector(f"text={texts.count('class.score', 2)}")


def test_unreadable_file_is_explained(visit: Open, tmp_path: Path) -> None:
    page, texts = visit("en"), Texts("en")
    open_tab(page, 1)
    odd = tmp_path / "odd.csv"
    odd.write_bytes(b"\x00\x01\x02")
    page.set_input_files("#class-upload input", odd)
    page.wait_for_selector(f"text={texts('problem.not_a_table')}")
    large = tmp_path / "large.csv"
    large.write_bytes(b"x" * (6 << 20))
    page.set_input_files("#class-upload input", large)
    page.wait_for_selector(f"text={texts('problem.too_large')}")
    assert not page.is_visible("#score")


def test_ten_thousand_pupils_are_predicted(visit: Open, tmp_path: Path) -> None:
    page, texts = visit("en"), Texts("en")
    open_tab(page, 1)
    page.set_input_files("#class-upload input", write_class(tmp_path / "many.csv", 10_000))
    page.wait_for_selector(f"text={texts.count('class.score', 10_000)}")
    page.click("#score")
    page.wait_for_selector("progress")
    page.wait_for_selector(f"text={texts.count('class.scored', 10_000)}", timeout=90_000)
    assert page.locator("#ranking tbody tr").count() == 50


def test_class_tab_comes_first_and_shows_an_example_with_one_click(
    visit: Open, language: Language
) -> None:
    page, texts = visit(language, tab=""), Texts(language)
    assert in_window(page, "#class-upload .drop")
    page.click("#example-class")
    page.wait_for_selector("#ranking tbody tr", timeout=60_000)
    see(page, "#ranking tbody tr:first-child")
    told = page.locator("#ranking [data-cell=reason]").all_inner_texts()
    assert "…" not in told
    # Beside a grade stands the strongest other reason with the same effect, where one counts.
    assert any(
        reason.startswith(texts("rank.last_grade")) and texts.listed(["", ""]) in reason
        for reason in told
    )
    with page.expect_download() as download:
        page.click("#save-csv")
    assert told[0] in download.value.path().read_text("utf-8-sig")
    # Nothing of the made-up class is stored.
    open_tab(page, 2)
    page.wait_for_selector(f"text={texts('history.empty')}")
    # The reasons are read again in the other language.
    other = Texts("en" if language == "fr" else "fr")
    page.click("#language")
    ready(page)
    open_tab(page, 1)
    page.wait_for_selector(f"#ranking tbody >> text={other('rank.last_grade')}")
    assert texts("rank.last_grade") not in page.locator("#ranking").inner_text()


@pytest.mark.parametrize("width", [1280, 400])
def test_row_opens_its_pupil_in_the_window(visit: Open, width: int) -> None:
    page, texts = visit("fr", width=width, tab="class"), Texts("fr")
    page.click("#example-class")
    page.wait_for_selector("#ranking tbody tr", timeout=60_000)
    name = page.locator("#ranking tbody tr:nth-child(2) button").inner_text()
    page.click("#ranking tbody tr:nth-child(2) [data-cell=priority]")
    page.wait_for_selector("#class-answer .reasons")
    assert name in page.locator("#class-answer .answer").inner_text()
    assert page.evaluate("document.activeElement.matches('#ranking [aria-current] button')")
    see(page, "#class-answer .verdict")
    see(page, "#class-answer svg.scale")
    assert texts("explain.what_if") in page.locator("#class-answer").inner_text()
    changed = page.locator("#class-answer .changed")
    assert texts("explain.now", grade="")[:10] in changed.inner_text()
    control = page.locator("#what-if-class-studytime label").last
    control.scroll_into_view_if_needed()
    place = control.bounding_box()
    control.click()
    page.wait_for_function(
        "(now) => !document.querySelector('#class-answer .changed').textContent.includes(now)",
        arg=texts("explain.now", grade="")[:10],
    )
    see(page, "#class-answer .changed")
    # The control is still under the pointer.
    assert control.bounding_box() == place
    _check_opened_row(page)
    if width == 400:
        _check_cards(page, texts)


def _check_opened_row(page: Any) -> None:
    """The opened row looks different from the row under the pointer; screen readers announce it."""
    opened = "#ranking tr[aria-current]"
    assert page.locator(opened).count() == 1
    assert page.locator(f"{opened} button[aria-current=true]").count() == 1
    page.hover("#ranking tbody tr:nth-child(3)")
    marks = page.evaluate(
        "[...document.querySelectorAll('#ranking tbody tr')].map((row) => {"
        " const name = getComputedStyle(row.querySelector('button'), '::before');"
        " const found = [getComputedStyle(row).boxShadow, name.content];"
        " return found.filter((each) => each !== 'none').length; })"
    )
    assert marks == [2 if place == 1 else 0 for place in range(len(marks))]


def _check_cards(page: Any, texts: Texts) -> None:
    """On a phone each value of a card has its name, and thirty cards are not endless."""
    tall = page.evaluate("document.querySelector('#ranking tbody').offsetHeight")
    assert tall / page.locator("#ranking tbody tr").count() * 30 < 6000
    for cell in ("[data-cell=grade]", "[data-cell=grade] small", "[data-cell=probability]"):
        name = page.evaluate(
            "(cell) => getComputedStyle(document.querySelector(cell), '::before').content",
            f"#ranking td{cell}",
        )
        assert name not in ("none", "normal"), cell
    shown = page.locator("#ranking tbody tr:first-child small[data-title]")
    assert shown.get_attribute("data-title") == texts("rank.interval")


def test_titles_sort_the_class(visit: Open, language: Language) -> None:
    page = visit(language, tab="class")
    page.click("#example-class")
    page.wait_for_selector("#ranking tbody tr", timeout=60_000)
    names = "#ranking tbody [data-cell=pupil] button"
    ranked = page.locator(names).all_inner_texts()
    page.focus("#ranking [data-sort=pupil]")
    page.keyboard.press("Enter")
    page.wait_for_selector("#ranking th[aria-sort=ascending] [data-sort=pupil]")
    assert page.locator(names).all_inner_texts() == sorted(ranked)
    # The table was written anew: the focus is still where the reader left it.
    assert page.evaluate("document.activeElement.dataset.sort") == "pupil"
    page.click("#ranking [data-sort=pupil]")
    page.wait_for_selector("#ranking th[aria-sort=descending] [data-sort=pupil]")
    assert page.locator(names).all_inner_texts() == sorted(ranked, reverse=True)


def test_print_shows_the_whole_table_without_controls(visit: Open) -> None:
    page = visit("en", width=760, tab="class")
    page.click("#example-class")
    page.wait_for_selector("#ranking tbody tr", timeout=60_000)
    page.click("#ranking tbody tr:first-child")
    page.wait_for_selector("#class-answer .reasons")
    assert not page.is_visible(".side .printed")
    page.emulate_media(media="print")
    for control in ("#class-upload", "#language", "#filter", "#save-csv", "#back-to-list"):
        assert not page.is_visible(control), control
    # The head of a table is repeated on each sheet; it names the class and the day.
    printed = "#ranking thead .printed"
    assert page.evaluate(f"getComputedStyle(document.querySelector('{printed}')).display") == (
        "table-row"
    )
    title = page.locator(printed).inner_text()
    assert page.locator("#class-answer .block.printed").inner_text() == title
    assert title.startswith(Texts("en")("class.example_name"))
    assert re.search(r"\b20\d\d\b", title)
    # Between two sheets of paper a browser cuts what clips or stretches: the last pupil was lost.
    cut = page.evaluate(
        "() => { const found = [];"
        " for (let e = document.querySelector('#ranking table').parentElement;"
        "      e.id !== 'tab-class'; e = e.parentElement) {"
        "  const style = getComputedStyle(e);"
        "  if (style.overflowY !== 'visible' || style.display !== 'block') found.push(e.className);"
        " }"
        " const page = getComputedStyle(document.querySelector('.gradio-container'));"
        " return page.overflowY === 'visible' ? found : [...found, 'page']; }"
    )
    assert cut == []
    # A button in a title that is repeated on the next sheet is not drawn there.
    assert (
        page.evaluate("getComputedStyle(document.querySelector('#ranking th button')).display")
        == "contents"
    )
    overflow = page.evaluate(
        "[...document.querySelectorAll('#ranking td')].filter((cell) => {"
        " const box = cell.getBoundingClientRect();"
        " return box.right > innerWidth + 1 || cell.scrollWidth > cell.clientWidth + 1; }).length"
    )
    assert overflow == 0


def test_scoring_survives_a_lost_connection(visit: Open, tmp_path: Path) -> None:
    page, texts = visit("fr", tab="class"), Texts("fr")
    page.set_input_files("#class-upload input", write_class(tmp_path / "many.csv", 10_000))
    page.click("#score")
    page.wait_for_selector("#class-progress progress")
    page.context.set_offline(True)
    page.wait_for_selector(f"text={texts('lost.text')}", timeout=20_000)
    page.context.set_offline(False)
    scored = texts.count("class.scored", 10_000)
    page.wait_for_selector("#ranking tbody tr", timeout=90_000)
    assert scored in page.locator("#tab-class").inner_text() or page.is_visible("#class-overview")


def test_scoring_is_followed_after_a_reload(visit: Open, tmp_path: Path) -> None:
    page = visit("en", tab="class")
    page.set_input_files("#class-upload input", write_class(tmp_path / "many.csv", 10_000))
    page.click("#score")
    page.wait_for_selector("#class-progress progress")
    page.reload()
    ready(page)
    page.wait_for_selector("#ranking tbody tr", timeout=90_000)
    page.wait_for_selector("#ranking td[data-cell=reason] >> text=…", state="detached")
