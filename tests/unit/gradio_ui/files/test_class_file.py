from __future__ import annotations

import csv
import io
import zipfile
from pathlib import Path
from typing import Any

import pytest
from openpyxl import Workbook, load_workbook

from gradio_ui.files.class_file import template, understand
from gradio_ui.files.export import harmless, packed
from gradio_ui.files.spreadsheet import MAX_ROWS, UnreadableError, read
from gradio_ui.texts import Words
from student_success.domain.students import EXAMPLE, FEATURE_NAMES, StudentFeatures


def _csv(rows: list[list[Any]], delimiter: str = ",", encoding: str = "utf-8") -> bytes:
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter).writerows(rows)
    return text.getvalue().encode(encoding)


def _xlsx(rows: list[list[Any]]) -> bytes:
    book = Workbook()
    assert book.active is not None
    for row in rows:
        book.active.append(row)
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


def _bytes(file: dict[str, str]) -> bytes:
    import base64

    return base64.b64decode(file["data"])


HEADER = list(FEATURE_NAMES)
ROW = [EXAMPLE[name] for name in FEATURE_NAMES]


def test_a_csv_with_commas_is_read_as_pupils() -> None:
    found = understand(read(_csv([HEADER, ROW]), "class.csv"))
    assert found.bad == ()
    assert [pupil.features for pupil in found.pupils] == [EXAMPLE]
    assert found.pupils[0].line == 2


def test_semicolons_decimal_commas_any_order_and_french_words_are_understood() -> None:
    named = {**EXAMPLE, "G1": "10,0", "G2": "9,8", "famsup": "Oui", "paid": "NON", "school": "gp"}
    names = list(reversed(HEADER))
    header = ["Référence", *("Âge" if name == "age" else name.upper() for name in names)]
    rows = [header, ["é-1", *(named[name] for name in names)]]
    found = understand(read(_csv(rows, ";", "cp1252"), "classe.csv"))
    assert found.bad == ()
    assert found.pupils[0].features == EXAMPLE | {"reference": "é-1"}


@pytest.mark.parametrize("unknown", ["", "NA", "-", "null"])
def test_an_unknown_grade_is_null(unknown: str) -> None:
    row = [*ROW[:-2], unknown, unknown]
    found = understand(read(_csv([HEADER, row]), "class.csv"))
    assert found.pupils[0].features["G1"] is None
    assert found.pupils[0].features["G2"] is None


def test_absent_grade_columns_mean_that_no_grade_is_known() -> None:
    found = understand(read(_csv([HEADER[:-2], ROW[:-2]]), "class.csv"))
    assert found.bad == ()
    assert StudentFeatures.model_validate(found.pupils[0].features).horizon == "none"


def test_an_xlsx_is_read_whatever_its_name_says() -> None:
    found = understand(read(_xlsx([HEADER, ROW, [None] * 17, ROW]), "class.csv"))
    assert found.bad == ()
    assert [pupil.line for pupil in found.pupils] == [2, 4]


def test_every_bad_cell_is_named_with_line_column_and_value() -> None:
    bad = dict(zip(HEADER, ROW, strict=True)) | {"age": 99, "famsup": "maybe", "goout": ""}
    order = dict(zip(HEADER, ROW, strict=True)) | {"G1": ""}
    rows = [HEADER, ROW, [bad[n] for n in HEADER], [order[n] for n in HEADER]]
    found = understand(read(_csv(rows), "class.csv"))
    assert len(found.pupils) == 1
    named = {(one.line, one.column, one.value, one.key) for one in found.bad}
    assert named == {
        (3, "age", "99", "cell.whole"),
        (3, "famsup", "maybe", "cell.choice"),
        (3, "goout", "", "cell.missing"),
        (4, "G1", "", "cell.order"),
    }


def test_missing_and_repeated_columns_are_named() -> None:
    header = [name for name in HEADER if name != "age"] + ["G1"]
    found = understand(read(_csv([header, [*ROW[1:], 1]]), "class.csv"))
    assert {(one.column, one.key) for one in found.bad} == {
        ("age", "cell.no_column"),
        ("G1", "cell.twice"),
    }
    assert found.pupils == ()


def test_the_uci_files_are_accepted_as_they_are(real_data_dir: Path) -> None:
    for name, rows in (("student-mat.csv", 395), ("student-por.csv", 649), ("final.csv", 662)):
        found = understand(read((real_data_dir / name).read_bytes(), name))
        assert found.bad == ()
        assert len(found.pupils) == rows
        assert "sex" in found.ignored


def test_ten_thousand_rows_are_read_and_one_more_is_refused() -> None:
    rows = [HEADER, *([ROW] * MAX_ROWS)]
    assert len(understand(read(_csv(rows), "class.csv")).pupils) == MAX_ROWS
    with pytest.raises(UnreadableError) as caught:
        read(_csv([*rows, ROW]), "class.csv")
    assert caught.value.key == "file.too_long"


@pytest.mark.parametrize(
    ("data", "name", "key"),
    [
        (b"", "a.csv", "file.empty"),
        (b"age;school\n", "a.csv", "file.no_rows"),
        (b"\xd0\xcf\x11\xe0....", "a.xls", "file.old_excel"),
        (b"PK\x03\x04 not a zip", "a.xlsx", "file.not_a_table"),
        (b"\x00\x01\x02\xff\x00", "a.csv", "file.not_a_table"),
        (b"a," * 300 + b"\n1", "a.csv", "file.too_wide"),
    ],
)
def test_what_is_no_table_is_refused_in_words(data: bytes, name: str, key: str) -> None:
    with pytest.raises(UnreadableError) as caught:
        read(data, name)
    assert caught.value.key == key
    assert Words("fr").has(key)


def test_a_zip_that_unpacks_to_too_much_is_refused_unread() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as packed_file:
        packed_file.writestr("xl/worksheets/sheet1.xml", b"0" * (201 << 20))
    assert len(out.getvalue()) < 1 << 20
    with pytest.raises(UnreadableError) as caught:
        read(out.getvalue(), "bomb.xlsx")
    assert caught.value.key == "file.too_large"


def test_an_xlsx_that_lies_about_its_size_is_read_as_it_is() -> None:
    source = zipfile.ZipFile(io.BytesIO(_xlsx([HEADER, ROW])))
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as lying:
        for name in source.namelist():
            data = source.read(name)
            if name.endswith("sheet1.xml"):
                data = data.replace(b'ref="A1:Q2"', b'ref="A1:XFD1048576"')
            lying.writestr(name, data)
    assert len(understand(read(out.getvalue(), "a.xlsx")).pupils) == 1


@pytest.mark.parametrize("kind", ["csv", "xlsx"])
def test_the_template_is_accepted_as_it_is(kind: Any) -> None:
    header, rows = template()
    for comma in (False, True):
        data = _bytes(packed(kind, "t", header, rows, decimal_comma=comma))
        found = understand(read(data, f"t.{kind}"))
        assert found.bad == ()
        assert [pupil.reference for pupil in found.pupils] == ["A-01", "A-02"]


@pytest.mark.parametrize(
    "text", ["=1+1", "+cmd", "-2+3", "@SUM(A1)", "\tx", "\r=1", "  =1", "\n=1"]
)
def test_no_cell_of_a_saved_file_is_a_formula(text: str) -> None:
    assert harmless(text) == f"'{text}"
    rows = csv.reader(io.StringIO(_bytes(packed("csv", "f", ["a"], [[text]])).decode("utf-8-sig")))
    assert list(rows)[1][0].startswith("'")
    book = load_workbook(io.BytesIO(_bytes(packed("xlsx", "f", [text], [[text]]))))
    assert book.active is not None
    assert {cell.data_type for row in book.active.iter_rows() for cell in row} == {"s"}


def test_numbers_stay_numbers_in_a_saved_file() -> None:
    french = _bytes(packed("csv", "f", ["a"], [[-1.5, 2, None]], decimal_comma=True))
    assert french.decode("utf-8-sig").splitlines()[1] == "-1,5;2;"
    book = load_workbook(io.BytesIO(_bytes(packed("xlsx", "f", ["a"], [[-1.5]]))))
    assert book.active is not None
    assert book.active["A2"].value == -1.5


def test_a_control_character_does_not_break_an_xlsx() -> None:
    book = load_workbook(io.BytesIO(_bytes(packed("xlsx", "f", ["a"], [["x\x07y"]]))))
    assert book.active is not None
    assert book.active["A2"].value == "xy"
