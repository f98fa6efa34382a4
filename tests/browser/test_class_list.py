from __future__ import annotations

import csv
from pathlib import Path

import pytest
from openpyxl import load_workbook

from gradio_ui.texts import Language, Texts
from student_success.domain.students import EXAMPLE, FEATURE_NAMES
from tests.browser.conftest import Open, open_tab

pytestmark = pytest.mark.browser


def _list(path: Path, count: int, **bad: str) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=";")
        writer.writerow(["référence", *FEATURE_NAMES])
        for number in range(count):
            row = {**EXAMPLE, "G1": f"{number % 20},5", "G2": str(number % 20)}
            if number == 1:
                row |= bad
            writer.writerow([f"=P{number:03}", *(row[name] for name in FEATURE_NAMES)])
    return path


def test_class_list_is_checked_predicted_filtered_and_saved(
    visit: Open, language: Language, tmp_path: Path
) -> None:
    page, texts = visit(language), Texts(language)
    open_tab(page, 1)
    page.set_input_files("#upload input", _list(tmp_path / "c.csv", 60, age="quinze", famsup="?"))
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
    assert texts("class.scored", count=59) in page.locator("#tab-class").inner_text()
    page.click(f"#filter >> text={texts('filter.fail')}")
    page.wait_for_function("document.querySelectorAll('#ranking tbody tr').length < 50")
    shown = page.locator("#ranking").inner_text()
    assert texts("rank.pass") not in shown.replace(texts("rank.probability"), "")
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
        page.set_input_files("#upload input", saved)
        page.wait_for_selector(f"text={saved.name}")
        page.wait_for_selector(f"text={texts('class.score', count=2)}")


def test_unreadable_file_is_explained(visit: Open, tmp_path: Path) -> None:
    page, texts = visit("en"), Texts("en")
    open_tab(page, 1)
    odd = tmp_path / "odd.csv"
    odd.write_bytes(b"\x00\x01\x02")
    page.set_input_files("#upload input", odd)
    page.wait_for_selector(f"text={texts('problem.not_a_table')}")
    large = tmp_path / "large.csv"
    large.write_bytes(b"x" * (6 << 20))
    page.set_input_files("#upload input", large)
    page.wait_for_selector(f"text={texts('problem.too_large')}")
    assert not page.is_visible("#score")


def test_ten_thousand_pupils_are_predicted(visit: Open, tmp_path: Path) -> None:
    page, texts = visit("en"), Texts("en")
    open_tab(page, 1)
    page.set_input_files("#upload input", _list(tmp_path / "many.csv", 10_000))
    page.wait_for_selector(f"text={texts('class.score', count='10,000')}")
    page.click("#score")
    page.wait_for_selector("progress")
    page.wait_for_selector(f"text={texts('class.scored', count='10,000')}", timeout=90_000)
    assert page.locator("#ranking tbody tr").count() == 50
