from __future__ import annotations

import base64
import csv
import io
import zipfile
from pathlib import Path
from typing import Any

import pytest
from openpyxl import Workbook, load_workbook

from gradio_ui.files.class_file import parse_class_list, template
from gradio_ui.files.export import build_file, escape_formula
from gradio_ui.files.spreadsheet import MAX_ROWS, UnreadableError, read_sheet
from gradio_ui.texts import Texts
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
    return base64.b64decode(file["data"])


HEADER = list(FEATURE_NAMES)
ROW = [EXAMPLE[name] for name in FEATURE_NAMES]


def test_parse_class_list_reads_csv_with_commas() -> None:
    class_file = parse_class_list(read_sheet(_csv([HEADER, ROW]), "class.csv"))
    assert class_file.invalid == ()
    assert [pupil.features for pupil in class_file.pupils] == [EXAMPLE]
    assert class_file.pupils[0].line == 2


def test_parse_class_list_reads_french_csv_with_columns_in_any_order() -> None:
    named = {**EXAMPLE, "G1": "10,0", "G2": "9,8", "famsup": "Oui", "paid": "NON", "school": "gp"}
    names = list(reversed(HEADER))
    header = ["Référence", *("Âge" if name == "age" else name.upper() for name in names)]
    rows = [header, ["é-1", *(named[name] for name in names)]]
    class_file = parse_class_list(read_sheet(_csv(rows, ";", "cp1252"), "classe.csv"))
    assert class_file.invalid == ()
    assert class_file.pupils[0].features == EXAMPLE | {"reference": "é-1"}


@pytest.mark.parametrize("unknown", ["", "NA", "-", "null"])
def test_parse_class_list_returns_null_for_unknown_grade(unknown: str) -> None:
    row = [*ROW[:-2], unknown, unknown]
    class_file = parse_class_list(read_sheet(_csv([HEADER, row]), "class.csv"))
    assert class_file.pupils[0].features["G1"] is None
    assert class_file.pupils[0].features["G2"] is None


def test_parse_class_list_accepts_missing_grade_columns() -> None:
    class_file = parse_class_list(read_sheet(_csv([HEADER[:-2], ROW[:-2]]), "class.csv"))
    assert class_file.invalid == ()
    assert StudentFeatures.model_validate(class_file.pupils[0].features).horizon == "none"


def test_read_sheet_recognises_xlsx_by_content() -> None:
    class_file = parse_class_list(read_sheet(_xlsx([HEADER, ROW, [None] * 17, ROW]), "class.csv"))
    assert class_file.invalid == ()
    assert [pupil.line for pupil in class_file.pupils] == [2, 4]


def test_parse_class_list_reports_every_invalid_cell() -> None:
    bad = dict(zip(HEADER, ROW, strict=True)) | {"age": 99, "famsup": "maybe", "goout": ""}
    order = dict(zip(HEADER, ROW, strict=True)) | {"G1": ""}
    rows = [HEADER, ROW, [bad[n] for n in HEADER], [order[n] for n in HEADER]]
    class_file = parse_class_list(read_sheet(_csv(rows), "class.csv"))
    assert len(class_file.pupils) == 1
    named = {(cell.line, cell.column, cell.value, cell.key) for cell in class_file.invalid}
    assert named == {
        (3, "age", "99", "cell.whole"),
        (3, "famsup", "maybe", "cell.choice"),
        (3, "goout", "", "cell.missing"),
        (4, "G1", "", "cell.order"),
    }


def test_parse_class_list_reports_missing_and_repeated_columns() -> None:
    header = [name for name in HEADER if name != "age"] + ["G1"]
    class_file = parse_class_list(read_sheet(_csv([header, [*ROW[1:], 1]]), "class.csv"))
    assert {(cell.column, cell.key) for cell in class_file.invalid} == {
        ("age", "cell.no_column"),
        ("G1", "cell.twice"),
    }
    assert class_file.pupils == ()


def test_parse_class_list_accepts_uci_files(real_data_dir: Path) -> None:
    for name, rows in (("student-mat.csv", 395), ("student-por.csv", 649), ("final.csv", 662)):
        class_file = parse_class_list(read_sheet((real_data_dir / name).read_bytes(), name))
        assert class_file.invalid == ()
        assert len(class_file.pupils) == rows
        assert "sex" in class_file.ignored


def test_read_sheet_refuses_more_than_ten_thousand_rows() -> None:
    rows = [HEADER, *([ROW] * MAX_ROWS)]
    assert len(parse_class_list(read_sheet(_csv(rows), "class.csv")).pupils) == MAX_ROWS
    with pytest.raises(UnreadableError) as caught:
        read_sheet(_csv([*rows, ROW]), "class.csv")
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
def test_read_sheet_explains_why_a_file_is_unreadable(data: bytes, name: str, key: str) -> None:
    with pytest.raises(UnreadableError) as caught:
        read_sheet(data, name)
    assert caught.value.key == key
    assert Texts("fr").has(key)


def test_read_sheet_refuses_zip_bomb_without_unpacking() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as packed_file:
        packed_file.writestr("xl/worksheets/sheet1.xml", b"0" * (201 << 20))
    assert len(out.getvalue()) < 1 << 20
    with pytest.raises(UnreadableError) as caught:
        read_sheet(out.getvalue(), "bomb.xlsx")
    assert caught.value.key == "file.too_large"


def test_read_sheet_ignores_size_stated_by_xlsx() -> None:
    source = zipfile.ZipFile(io.BytesIO(_xlsx([HEADER, ROW])))
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as altered:
        for name in source.namelist():
            data = source.read(name)
            if name.endswith("sheet1.xml"):
                data = data.replace(b'ref="A1:Q2"', b'ref="A1:XFD1048576"')
            altered.writestr(name, data)
    assert len(parse_class_list(read_sheet(out.getvalue(), "a.xlsx")).pupils) == 1


@pytest.mark.parametrize("kind", ["csv", "xlsx"])
def test_template_is_a_valid_class_list(kind: Any) -> None:
    header, rows = template()
    for comma in (False, True):
        data = _bytes(build_file(kind, "t", header, rows, decimal_comma=comma))
        class_file = parse_class_list(read_sheet(data, f"t.{kind}"))
        assert class_file.invalid == ()
        assert [pupil.reference for pupil in class_file.pupils] == ["A-01", "A-02"]


@pytest.mark.parametrize(
    "text", ["=1+1", "+cmd", "-2+3", "@SUM(A1)", "\tx", "\r=1", "  =1", "\n=1"]
)
def test_build_file_escapes_formulas(text: str) -> None:
    assert escape_formula(text) == f"'{text}"
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
