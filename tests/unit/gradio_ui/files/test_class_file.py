from __future__ import annotations

import base64
import csv
import io
import zipfile
from html import escape
from pathlib import Path
from typing import Any

import pytest
from openpyxl import Workbook, load_workbook

from gradio_ui.files.class_file import template
from gradio_ui.files.export import build_file
from gradio_ui.html.class_list import summary
from gradio_ui.texts import LANGUAGES, Language, Texts
from student_success.domain.students import EXAMPLE, FEATURE_NAMES, FEATURES, StudentFeatures
from student_success.domain.tables.cells import escape_formula, unescape_formula
from student_success.domain.tables.columns import Choices
from student_success.domain.tables.problems import TableError
from student_success.domain.tables.reader import MAX_ROWS
from tests.unit.domain.tables.files import read_class_list


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
    return base64.b64decode(file["data"])


HEADER = list(FEATURE_NAMES)
ROW = [EXAMPLE[name] for name in FEATURE_NAMES]


def test_read_class_list_reads_csv_with_commas() -> None:
    class_file = read_class_list(_csv([HEADER, ROW]))
    assert class_file.invalid == ()
    assert [pupil.features for pupil in class_file.pupils] == [EXAMPLE]
    assert class_file.pupils[0].line == 2


def test_read_class_list_reads_french_csv_with_columns_in_any_order() -> None:
    named = {**EXAMPLE, "G1": "10,0", "G2": "9,8", "famsup": "Oui", "paid": "NON", "school": "gp"}
    names = list(reversed(HEADER))
    header = ["Référence", *("Âge" if name == "age" else name.upper() for name in names)]
    rows = [header, ["é-1", *(named[name] for name in names)]]
    class_file = read_class_list(_csv(rows, ";", "cp1252"))
    assert class_file.invalid == ()
    assert class_file.pupils[0].features == EXAMPLE | {"reference": "é-1"}


@pytest.mark.parametrize("unknown", ["", "NA", "-", "null"])
def test_read_class_list_returns_null_for_unknown_grade(unknown: str) -> None:
    row = [*ROW[:-2], unknown, unknown]
    class_file = read_class_list(_csv([HEADER, row]))
    assert class_file.pupils[0].features["G1"] is None
    assert class_file.pupils[0].features["G2"] is None


def test_read_class_list_asks_before_pupils_are_estimated_without_grade_columns() -> None:
    data = _csv([HEADER[:-2], ROW[:-2]])
    assert [question.code for question in read_class_list(data).questions] == ["no_grades"]
    class_file = read_class_list(data, Choices(without_grades=True))
    assert (class_file.invalid, class_file.questions) == ((), ())
    assert StudentFeatures.model_validate(class_file.pupils[0].features).horizon == "none"


def test_read_class_list_recognises_xlsx_by_content() -> None:
    class_file = read_class_list(_xlsx([HEADER, ROW, [None] * 17, ROW]))
    assert class_file.invalid == ()
    assert [pupil.line for pupil in class_file.pupils] == [2, 4]


@pytest.mark.parametrize("language", LANGUAGES)
def test_summary_says_no_estimate_is_possible_if_every_row_is_invalid(language: Language) -> None:
    texts = Texts(language)
    bad = ["" if name == "school" else value for name, value in zip(HEADER, ROW, strict=True)]
    none = escape(texts("class.usable_none"))
    assert none in summary(texts, read_class_list(_csv([HEADER, bad])))
    assert none not in summary(texts, read_class_list(_csv([HEADER, bad, ROW])))


def test_read_class_list_reports_every_invalid_cell() -> None:
    bad = dict(zip(HEADER, ROW, strict=True)) | {"age": 99, "famsup": "maybe", "school": ""}
    order = dict(zip(HEADER, ROW, strict=True)) | {"G1": ""}
    rows = [HEADER, ROW, [bad[n] for n in HEADER], [order[n] for n in HEADER]]
    class_file = read_class_list(_csv(rows))
    assert len(class_file.pupils) == 1
    named = {(cell.line, cell.column, cell.value, cell.code) for cell in class_file.invalid}
    assert named == {
        (3, "age", "99", "whole"),
        (3, "famsup", "maybe", "choice"),
        (3, "school", "", "missing"),
        (4, "G1", "", "order"),
    }


def test_read_class_list_reports_missing_and_repeated_columns() -> None:
    header = [name for name in HEADER if name != "age"] + ["G1"]
    class_file = read_class_list(_csv([header, [*ROW[1:], 1]]))
    assert {(cell.column, cell.code) for cell in class_file.invalid} == {
        ("age", "no_column"),
        ("G1", "twice"),
    }
    assert class_file.pupils == ()


def test_read_class_list_accepts_uci_files(real_data_dir: Path) -> None:
    for name, rows in (("student-mat.csv", 395), ("student-por.csv", 649), ("final.csv", 662)):
        class_file = read_class_list((real_data_dir / name).read_bytes())
        assert class_file.invalid == ()
        assert len(class_file.pupils) == rows
        assert "sex" in class_file.titles
        assert class_file.questions == ()


def test_read_class_list_refuses_more_than_ten_thousand_rows() -> None:
    rows = [HEADER, *([ROW] * MAX_ROWS)]
    assert len(read_class_list(_csv(rows)).pupils) == MAX_ROWS
    with pytest.raises(TableError) as caught:
        read_class_list(_csv([*rows, ROW]))
    assert caught.value.problem.code == "too_long"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "empty"),
        (b"age;school\n", "no_rows"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1....", "password"),
        (b"PK\x03\x04 not a zip", "not_a_table"),
        (b"\x00\x01\x02", "not_a_table"),
        (b"\x00\x01\x02\x81\x8d\xff\x00", "not_a_table"),
        (b"age;G1\n\x00;1", "not_a_table"),
        (b"a," * 300 + b"b\n1", "too_wide"),
    ],
)
def test_read_class_list_explains_why_a_file_is_unreadable(data: bytes, code: str) -> None:
    with pytest.raises(TableError) as caught:
        read_class_list(data)
    assert caught.value.problem.code == code


def test_read_class_list_refuses_zip_bomb_without_unpacking() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as packed_file:
        packed_file.writestr("xl/worksheets/sheet1.xml", b"0" * (201 << 20))
    assert len(out.getvalue()) < 1 << 20
    with pytest.raises(TableError) as caught:
        read_class_list(out.getvalue())
    assert caught.value.problem.code == "too_large"


def test_read_class_list_ignores_size_stated_by_xlsx() -> None:
    source = zipfile.ZipFile(io.BytesIO(_xlsx([HEADER, ROW])))
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as altered:
        for name in source.namelist():
            data = source.read(name)
            if name.endswith("sheet1.xml"):
                data = data.replace(b'ref="A1:Q2"', b'ref="A1:XFD1048576"')
            altered.writestr(name, data)
    assert len(read_class_list(out.getvalue()).pupils) == 1


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("kind", ["csv", "xlsx"])
def test_template_in_words_of_the_reader_is_a_valid_class_list(
    kind: Any, language: Language
) -> None:
    texts = Texts(language)
    header, rows = template(texts)
    assert header[1:] == [texts.choose(feature.about.label) for feature in FEATURES]
    for comma in (False, True):
        data = _bytes(build_file(kind, "t", header, rows, decimal_comma=comma))
        class_file = read_class_list(data)
        assert class_file.invalid == ()
        assert [pupil.reference for pupil in class_file.pupils] == ["A-01", "A-02"]


@pytest.mark.parametrize(
    "text", ["=1+1", "+cmd", "-2+3", "@SUM(A1)", "\tx", "\r=1", "  =1", "\n=1"]
)
def test_build_file_escapes_formulas(text: str) -> None:
    assert escape_formula(text) == f"'{text}"
    assert unescape_formula(escape_formula(text)) == text
    assert unescape_formula(escape_formula(f"'{text}")) == f"'{text}"
    rows = csv.reader(
        io.StringIO(_bytes(build_file("csv", "f", ["a"], [[text]])).decode("utf-8-sig"))
    )
    assert list(rows)[1][0].startswith("'")
    book = load_workbook(io.BytesIO(_bytes(build_file("xlsx", "f", [text], [[text]]))))
    assert book.active is not None
    assert {cell.data_type for row in book.active.iter_rows() for cell in row} == {"s"}


def test_build_file_keeps_numbers() -> None:
    french = _bytes(build_file("csv", "f", ["a"], [[-1.5, 2, None]], decimal_comma=True))
    assert french.decode("utf-8-sig").splitlines()[1] == "-1,5;2;"
    book = load_workbook(io.BytesIO(_bytes(build_file("xlsx", "f", ["a"], [[-1.5]]))))
    assert book.active is not None
    assert book.active["A2"].value == -1.5


def test_build_file_drops_control_characters_from_xlsx() -> None:
    book = load_workbook(io.BytesIO(_bytes(build_file("xlsx", "f", ["a"], [["x\x07y"]]))))
    assert book.active is not None
    assert book.active["A2"].value == "xy"
