"""Every kind of file is read correctly, or refused with a reason; no grade becomes another one."""

from __future__ import annotations

import csv
import time
import unicodedata
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from student_success.core.errors import InvalidInputError
from student_success.domain.students import FEATURES, PERIODS
from student_success.domain.tables import spreadsheet
from student_success.domain.tables.columns import Choices, pupil_columns
from student_success.domain.tables.problems import TableError
from student_success.domain.tables.pupils import PupilList, read_pupils
from student_success.domain.tables.reader import read_table
from student_success.domain.tables.spreadsheet import OLE_START
from tests.unit.domain.tables.files import FIRST_GRADE, HEADER, ods, row, text, with_part, xls, xlsx

CLASS = [HEADER, row("A-01", 10, 9.5), row("A-02", 14), row("A-03")]
PUPILS = [("A-01", 10, 9.5), ("A-02", 14, None), ("A-03", None, None)]
GRADE_CELL = (1, FIRST_GRADE)


@pytest.fixture(autouse=True)
def read_in_this_process(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read spreadsheets without a child process, unless the test is about the child."""
    if "child" not in request.node.name:
        monkeypatch.setattr(spreadsheet, "_in_child", spreadsheet.parse)


def read(data: bytes, choices: Choices | None = None) -> PupilList:
    return read_pupils(read_table(data, pupil_columns(), choices))


def pupils(found: PupilList) -> list[tuple[Any, ...]]:
    return [
        (pupil.reference, *(pupil.features.get(name) for name in PERIODS)) for pupil in found.pupils
    ]


def codes(problems: Any) -> list[str]:
    return [problem.code for problem in problems]


def set_format(number_format: str, value: Any, column: int = FIRST_GRADE) -> Any:
    def change(book: Any, sheet: Any) -> None:
        cell = sheet.cell(2, column + 1, value)
        cell.number_format = number_format

    return change


def merge(first_row: int, last_row: int, first_column: int, last_column: int) -> Any:
    def change(book: Any, sheet: Any) -> None:
        sheet.merge_cells(
            start_row=first_row,
            end_row=last_row,
            start_column=first_column + 1,
            end_column=last_column + 1,
        )

    return change


def hide_zeros(book: Any, sheet: Any) -> None:
    sheet.sheet_view.showZeros = False


def style_blank_cells(book: Any, sheet: Any) -> None:
    for line in range(5, 60):
        sheet.cell(line, 40).number_format = "0.00"


def in_words(language: str, rows: Any = CLASS) -> list[list[Any]]:
    """Return a class with titles and choices in the words of a language."""
    labels = {f.name: getattr(f.about.label, language) for f in FEATURES}
    choices = {f.name: f.about.choices or {} for f in FEATURES}

    def written(name: str, value: Any) -> Any:
        words = choices.get(name, {}).get(value)
        return value if words is None else getattr(words, language)

    lines = [list(map(written, HEADER, cells)) for cells in rows[1:]]
    return [[labels.get(name, name) for name in HEADER], *lines]


def with_answers(*answers: Any) -> list[list[Any]]:
    """Return the class with other ways to write a yes and a no."""
    yes_or_no = [f.name for f in FEATURES if set(f.categories) == {"yes", "no"}]
    changes = dict(zip(yes_or_no, answers * len(yes_or_no), strict=False))
    return [HEADER, row("A-01", 10, 9.5, **changes), row("A-02", 14), row("A-03")]


def hide_first(book: Any, sheet: Any) -> None:
    sheet.sheet_state = "hidden"


def hide_row(book: Any, sheet: Any) -> None:
    sheet.row_dimensions[3].hidden = True


def hide_what_is_empty(book: Any, sheet: Any) -> None:
    sheet.row_dimensions[90].hidden = sheet.column_dimensions["ZZ"].hidden = True


def hide_column(book: Any, sheet: Any) -> None:
    sheet.column_dimensions["C"].hidden = True


def strict(data: bytes) -> bytes:
    names = (
        (b"http://schemas.openxmlformats.org/spreadsheetml/2006/main", b"spreadsheetml/main"),
        (
            b"http://schemas.openxmlformats.org/officeDocument/2006/relationships",
            b"officeDocument/relationships",
        ),
    )
    for part in ("xl/workbook.xml", "xl/worksheets/sheet1.xml", "xl/styles.xml"):
        for old, new in names:
            data = with_part(
                data, part, lambda x, a=old, b=new: x.replace(a, b"http://purl.oclc.org/ooxml/" + b)
            )
    return data


READ_WHOLE = {
    "commas": text(CLASS),
    "semicolons, decimal commas, byte order mark": text(
        CLASS, delimiter=";", comma=True, encoding="utf-8-sig"
    ),
    "quoted decimal commas": text(CLASS, comma=True),
    "all quoted": text(CLASS, quoting=csv.QUOTE_ALL),
    "tabs": text(CLASS, delimiter="\t", end="\n"),
    "vertical bars": text(CLASS, delimiter="|"),
    "carriage returns": text(CLASS, end="\r"),
    "UTF-16": text(CLASS, delimiter="\t", encoding="utf-16"),
    "UTF-16 without byte order mark": text(CLASS, encoding="utf-16-le"),
    "sep= line": text(CLASS, delimiter=";", above="sep=;\r\n"),
    "title rows": text(CLASS, delimiter=";", above="Class 3B;2025\r\nExported\r\n\r\n"),
    "comment": text(CLASS, delimiter=";", above="# exported\r\n"),
    "blank lines": text([*CLASS[:2], [], *CLASS[2:]], above="\n\n"),
    "byte order mark inside": text(
        [HEADER, row("\ufeffA-01", 10, 9.5), row("A-02\u200b", 14), row(" A-03 ")]
    ),
    "titles repeated on each page": text([*CLASS[:3], HEADER, *CLASS[3:]], delimiter=";"),
    "one file below another": text(CLASS[:3], encoding="utf-8-sig")
    + text([HEADER, *CLASS[3:]], encoding="utf-8-sig"),
    "grades between invisible marks": text(
        [HEADER, row("A-01", "\u200e10\u200e", "\ufeff9.5"), *CLASS[2:]]
    ),
    "a pupil called Max": text([["Prénom", *HEADER], *(["Max", *cells] for cells in CLASS[1:])]),
    "row numbers without a title": text(
        [["", *HEADER], *([index, *cells] for index, cells in enumerate(CLASS[1:]))]
    ),
    "a student ID": text([["Student ID", *HEADER[1:]], *CLASS[1:]]),
    "an id beside the reference": text([["ID", *HEADER], *([12, *cells] for cells in CLASS[1:])]),
    "French titles and labels": text(in_words("fr"), delimiter=";", comma=True),
    "English titles and labels": text(in_words("en")),
    "answers in many words": text(with_answers("Oui", "x", "✓", "VRAI", "o", "NON", "0", "faux")),
    "exponents": text([HEADER, row("A-01", "1e1", "95e-1"), *CLASS[2:]]),
    "XLSX": xlsx({"1": CLASS}),
    "XLSX, styled blank cells": xlsx({"1": CLASS}, style_blank_cells),
    "XLSX, merged title": xlsx({"1": [["Classe 3B"], [], *CLASS]}, merge(1, 1, 0, 8)),
    "XLSX, whole number shown": xlsx({"1": CLASS}, set_format("0", 10)),
    "XLSX, zeros hidden in columns that are no grades": xlsx({"1": CLASS}, hide_zeros),
    "strict XLSX": strict(xlsx({"1": CLASS})),
    "XLSX with titles above": xlsx({"1": [["Classe 3B"], [], *CLASS]}),
    "XLSX, hidden sheet first": xlsx({"old": [HEADER, row("X", 1, 1)], "1": CLASS}, hide_first),
    "XLSX, guide first": xlsx({"guide": [["How to fill this in"], ["one row"]], "1": CLASS}),
    "XLSX, numbers as text": xlsx(
        {"1": [HEADER, row("A-01", "10", "9,5"), row("A-02", "14"), row("A-03")]}
    ),
    "XLS": xls(CLASS),
    "ODS": ods(CLASS),
}


@pytest.mark.parametrize("kind", READ_WHOLE)
def test_read_table_reads_each_format_and_dialect(kind: str) -> None:
    found = read(READ_WHOLE[kind])
    assert pupils(found) == PUPILS
    assert (found.invalid, found.questions) == ((), ())


def _cell(column: str, value: Any, *, delimiter: str = ";") -> bytes:
    return text(
        [HEADER, row("A-01", 10, 9) if column == "" else _with(column, value)], delimiter=delimiter
    )


def _with(column: str, value: Any) -> list[Any]:
    cells = row("A-01", 10, 9)
    cells[HEADER.index(column)] = value
    return cells


def _cover_last_cell(content: bytes) -> bytes:
    """Cover the last cell of an ODS sheet by the one before."""
    before, _, last = content.rpartition(b"<table:table-cell")
    return (
        before
        + b"<table:covered-table-cell"
        + last.replace(b"</table:table-cell>", b"</table:covered-table-cell>", 1)
    )


G1, G2 = PERIODS
REFUSED_CELLS = {
    "percent sign": (_cell(G1, "60%"), "percent"),
    "grade with its scale": (_cell(G1, "12/20"), "grade"),
    "above the scale": (_cell(G1, "65"), "grade"),
    "negative": (_cell(G1, "-1"), "grade"),
    "a date": (_cell(G1, "10-May"), "grade"),
    "other digits": (_cell(G1, "١٠"), "grade"),
    "blank inside": (_cell(G1, "1 0"), "grade"),
    "no-break space inside": (_cell(G1, "1\u202f0"), "grade"),
    "underscore": (_cell(G1, "1_0"), "grade"),
    "infinity": (_cell(G1, "inf"), "grade"),
    "two commas": (_cell(G1, "1,0,5"), "grade"),
    "thousands": (_cell("absences", "1.000"), "whole"),
    "half an absence": (_cell("absences", "4,5"), "whole"),
    "too young": (_cell("age", 14), "whole"),
    "later grade alone": (_cell(G1, ""), "order"),
    "another school": (_cell("school", "Lycée Voltaire"), "choice"),
    "missing answer": (_cell("school", ""), "missing"),
    "short row": (text([HEADER, row("A-01", 10, 9)[:-2]]), "width"),
    "unquoted decimal comma": (
        text([HEADER, [*row("A-01", 10, 5)[:-2], "10,5", "9"]], delimiter=";").replace(b";", b","),
        "width",
    ),
    "unquoted decimal comma before an empty cell": (
        text([HEADER, [*row("A-01")[:-2], 10, 5, ""]]),
        "width",
    ),
    "reference shortened by a spreadsheet": (_cell("reference", "1,23457E+11"), "shortened"),
    "long reference": (_cell("reference", "x" * 65), "reference"),
    "XLSX percentage": (xlsx({"1": CLASS[:2]}, set_format("0%", 0.6)), "percent"),
    "XLSX percentage with decimals": (xlsx({"1": CLASS[:2]}, set_format("0.00%", 0.6)), "percent"),
    "XLSX date": (xlsx({"1": CLASS[:2]}, set_format("d-mmm", 45787)), "date"),
    "XLSX formula without result": (
        xlsx({"1": CLASS[:2]}, set_format("General", "=5+5")),
        "formula",
    ),
    "XLSX error": (xlsx({"1": CLASS[:2]}, set_format("General", "#N/A")), "error"),
    "XLSX reference shown otherwise": (
        xlsx({"1": CLASS[:2]}, set_format('"A-"000', 12, 0)),
        "shown_otherwise",
    ),
    **{
        f"XLSX number shown by the format {format_}": (
            xlsx({"1": CLASS[:2]}, set_format(format_, value)),
            code,
        )
        for format_, value, code in (
            ("?/20", 0.6, "unit"),
            ('"Disp"', 8, "hidden"),
            ('[<10]"Abs";0', 8, "hidden"),
            ("0.0,", 15, "hidden"),
            ("0.0‰", 0.012, "percent"),
            ('0;-0;"-"', 0, "hidden"),
            ('_-* #,##0.00_-;-* #,##0.00_-;_-* "-"??_-;_-@_-', 0, "hidden"),
            ("#", 0, "hidden"),
            ('_(* #,##0_);_(* \\(#,##0\\);_(* "-"_);_(@_)', 0, "hidden"),
        )
    },
    "XLS number shown by another text": (xls(CLASS[:2], {GRADE_CELL: '"Disp"'}), "hidden"),
    "ODS number shown by another text": (
        with_part(
            ods(CLASS[:2]), "content.xml", lambda x: x.replace(b"<text:p>10<", b"<text:p>Disp<")
        ),
        "hidden",
    ),
    "XLSX scale in the format": (xlsx({"1": CLASS[:2]}, set_format('0"/10"', 8)), "unit"),
    "XLSX percent sign in the format": (
        xlsx({"1": CLASS[:2]}, set_format('0.0"%"', 15)),
        "percent",
    ),
    "XLSX zero that the format hides": (
        xlsx({"1": [HEADER, row("A-01", 10, 9)]}, set_format("0;-0;;@", 0)),
        "hidden",
    ),
    "XLSX zero that the sheet hides": (
        xlsx({"1": [HEADER, row("A-01", 0, 9)]}, hide_zeros),
        "hidden",
    ),
    "XLSX number that the format hides": (
        xlsx({"1": CLASS[:2]}, set_format(";;;", 10)),
        "hidden",
    ),
    "XLS zero that the format hides": (
        xls([HEADER, row("A-01", 0, 9)], {GRADE_CELL: "0;-0;"}),
        "hidden",
    ),
    "ODS zero that is not shown": (
        with_part(
            ods([HEADER, row("A-01", 10, 0)]),
            "content.xml",
            lambda x: x.replace(
                b"<text:p>0</text:p></table:table-cell></table:table-row>",
                b"<text:p/></table:table-cell></table:table-row>",
            ),
        ),
        "hidden",
    ),
    "XLSX merged grades": (
        xlsx({"1": CLASS[:2]}, merge(2, 2, FIRST_GRADE, FIRST_GRADE + 1)),
        "merged",
    ),
    "XLSX reference longer than a spreadsheet keeps": (
        xlsx({"1": [HEADER, row(1234567890123456789, 10)]}),
        "shown_otherwise",
    ),
    "XLS scale in the format": (xls(CLASS[:2], {GRADE_CELL: '0"/10"'}), "unit"),
    "XLS merged grades": (
        xls([HEADER, row("A-01", 10)], merged=(1, 1, FIRST_GRADE, FIRST_GRADE + 1)),
        "merged",
    ),
    "ODS scale in the format": (
        with_part(
            ods(CLASS[:2]), "content.xml", lambda x: x.replace(b"<text:p>10<", b"<text:p>10/10<")
        ),
        "unit",
    ),
    "ODS merged grades": (
        with_part(ods(CLASS[:2]), "content.xml", lambda x: _cover_last_cell(x)),
        "merged",
    ),
    "XLS percentage": (xls(CLASS[:2], {GRADE_CELL: "0%"}), "percent"),
    "XLS date": (xls(CLASS[:2], {GRADE_CELL: "D-MMM"}), "date"),
    "ODS percentage": (
        ods(CLASS[:2], {GRADE_CELL: 'office:value-type="percentage" office:value="0.6"'}),
        "percent",
    ),
    "ODS formula without result": (
        ods(CLASS[:2], {GRADE_CELL: 'table:formula="of:=5+5"'}),
        "formula",
    ),
    "ODS date": (
        ods(CLASS[:2], {GRADE_CELL: 'office:value-type="date" office:date-value="2025-05-10"'}),
        "date",
    ),
}


@pytest.mark.parametrize("kind", REFUSED_CELLS)
def test_read_pupils_refuses_cell_that_may_mean_another_value(kind: str) -> None:
    data, code = REFUSED_CELLS[kind]
    found = read(data)
    assert found.pupils == ()
    assert code in codes(found.invalid)
    assert {problem.line for problem in found.invalid} == {2}


@pytest.mark.parametrize(("short", "grade", "delimiter"), [(2, 9, ","), (3, 9.5, ","), (3, 9, ";")])
def test_rows_beside_short_lines_are_read_where_no_decimal_comma_can_have_shifted_them(
    short: int, grade: float, delimiter: str
) -> None:
    lines = [row(f"A-{n}", grade, 8) for n in range(9)]
    cut = [row(f"B-{n}", 9)[:-1] for n in range(short)]
    found = read(text([HEADER, *lines, *cut], delimiter=delimiter))
    assert len(found.pupils) == 9
    assert codes(found.invalid) == ["width"] * short


def test_read_pupils_takes_empty_cell_for_unknown() -> None:
    [pupil] = read(_cell("paid", "")).pupils
    assert pupil.features["paid"] is None


REFUSED_FILES = {
    "header only": (text([HEADER]), "no_rows"),
    "quoted lines": (
        b"\n".join(b'"' + line + b'"' for line in text(CLASS, end="\n").splitlines()),
        "quoted_lines",
    ),
    "quote that is not closed": (text(CLASS) + b'"A-04,', "broken_quotes"),
    "encodings mixed": (
        text([HEADER, row("Œil")]) + text([row("café")], encoding="cp1252"),
        "mixed_encodings",
    ),
    "no sheet": (
        with_part(ods([]), "content.xml", lambda x: x.replace(b"table:table", b"table:other")),
        "empty",
    ),
    **{
        f"{name} in place of a table": (content, "format")
        for name, content in {
            "HTML": b"\r\n<html><table><tr><td>reference</td></tr></table></html>",
            "XML": b'<?xml version="1.0"?>\n<Workbook></Workbook>',
            "SYLK": b'ID;PWXL;N;E\r\nP;PGeneral\r\nC;Y1;X1;K"reference"\r\nE\r\n',
            "PDF": b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n1 0 obj\nendobj\n",
            "RTF": b"{\\rtf1\\ansi reference\\par}",
            "JSON": b'[{"reference": "A-01", "age": 16}]',
        }.items()
    },
    "decimal commas beside lines whose last cells are cut off": (
        text(
            [
                HEADER,
                *(row(f"A-{n}", 9)[:-1] for n in range(3)),
                *([*row(f"B-{n}", "10")[:-1], "5"] for n in range(20)),
            ]
        ),
        "cut_off",
    ),
    "titles in another order below": (
        text([*CLASS, [*HEADER[:-2], *HEADER[:-3:-1]], row("A-04", 9, 8)]),
        "several_headers",
    ),
    "password": (OLE_START + bytes(2048), "password"),
    "several classes": (xlsx({"3A": CLASS, "3B": CLASS}), "choose_sheet"),
    "row number without end": (
        with_part(
            xlsx({"1": CLASS}),
            "xl/worksheets/sheet1.xml",
            lambda x: x.replace(b'r="4"', b'r="10000000"').replace(b'4"', b'10000000"'),
        ),
        "too_long",
    ),
    "entities": (
        with_part(
            xlsx({"1": CLASS}),
            "xl/worksheets/sheet1.xml",
            lambda x: b'<!DOCTYPE a [<!ENTITY b "c">]>' + x[x.index(b"<worksheet") :],
        ),
        "not_a_table",
    ),
    "binary workbook": (
        with_part(xlsx({"1": CLASS}), "xl/workbook.xml", lambda x: x, name="xl/workbook.bin"),
        "format",
    ),
}


@pytest.mark.parametrize("kind", REFUSED_FILES)
def test_read_table_refuses_file_that_cannot_be_read_with_certainty(kind: str) -> None:
    data, code = REFUSED_FILES[kind]
    with pytest.raises(TableError) as caught:
        read(data)
    assert caught.value.problem.code == code


def _beside(first: str, grade: str) -> list[str]:
    """Return a line that is no pupil: a text, and the same cell below each grade."""
    return [first, *[""] * (FIRST_GRADE - 1), *[grade] * len(PERIODS)]


REFUSED_COLUMNS = {
    "grades on another scale": (
        text([HEADER, row("A-01", 60, 65), row("A-02", 20, 20), row("A-03", 45, 40)]),
        "other_scale",
    ),
    "grades as parts of one": (
        text([HEADER, row("A-01", 0.6, 0.65), row("A-02", 1, 0.2), row("A-03", 0.5)]),
        "other_scale",
    ),
    "grades in a column twice": (
        text([[*HEADER, G1], *([*cells, 5] for cells in CLASS[1:])]),
        "twice",
    ),
    "another scale below the titles": (
        text([HEADER, _beside("", "/10"), *CLASS[1:]]),
        "other_scale",
    ),
    "another scale above the titles": (
        text([_beside("Barème", "10"), HEADER, *CLASS[1:]]),
        "other_scale",
    ),
    "another scale in a row of maxima": (
        text([HEADER, _beside("    Points Possible", "10"), *CLASS[1:]]),
        "other_scale",
    ),
    "numbers without a title beside a grade": (
        text([[*HEADER, ""], *([*cells, 2] for cells in CLASS[1:])]),
        "no_title",
    ),
    "XLSX, one title above coefficient and grade": (
        xlsx({"1": [HEADER, *([*cells, 2] for cells in CLASS[1:])]}),
        "no_title",
    ),
    "no school": (
        text([[title for title in HEADER if title != "school"], row("A-01", 10, 9)[1:]]),
        "no_column",
    ),
}


@pytest.mark.parametrize("kind", REFUSED_COLUMNS)
def test_read_pupils_reads_no_row_where_a_column_cannot_be_used(kind: str) -> None:
    data, code = REFUSED_COLUMNS[kind]
    found = read(data)
    assert found.pupils == ()
    assert code in codes(found.invalid)


def test_cells_below_a_merged_one_are_refused_and_the_first_is_read() -> None:
    found = read(xlsx({"1": CLASS}, merge(2, 4, FIRST_GRADE, FIRST_GRADE)))
    assert pupils(found) == [("A-01", 10, 9.5)]
    assert [(p.line, p.column, p.code) for p in found.invalid] == [
        (3, G1, "merged"),
        (4, G1, "merged"),
    ]


def test_read_table_reads_spreadsheet_in_a_child_with_limits() -> None:
    assert pupils(read(xlsx({"1": CLASS}))) == PUPILS
    with pytest.raises(TableError) as caught:
        read(b"PK\x03\x04 damaged")
    assert caught.value.problem.code == "not_a_table"


def test_read_table_ends_child_that_takes_too_long_or_too_much(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(spreadsheet, "_SECONDS", 0.01)
    with pytest.raises(TableError) as caught:
        read(xlsx({"1": CLASS}))
    assert caught.value.problem.code == "too_large"


@pytest.mark.parametrize(
    "titles", [("G1 (/20)", "Trimestre 2"), ("Note 1", "Note 2"), ("Maths", "Histoire")]
)
def test_read_table_asks_before_columns_that_look_like_grades_are_left_out(
    titles: tuple[str, str],
) -> None:
    data = text([[*HEADER[:-2], *titles], row("A-01", 4, 3), row("A-02", 18, 17)])
    (question,) = read(data).questions
    assert question.code == "grades_left_out"
    assert all(title in question.values["columns"] for title in titles)
    said = Choices(columns=dict(zip(titles, PERIODS, strict=True)))
    assert pupils(read(data, said)) == [("A-01", 4, 3), ("A-02", 18, 17)]
    left_out = Choices(columns=dict.fromkeys(titles, ""), without_grades=True)
    assert read(data, left_out).questions == ()


def test_read_table_asks_where_the_known_grade_columns_are_empty() -> None:
    data = text([[*HEADER, "Moyenne"], [*row("A-01"), 4], [*row("A-02"), 18]])
    assert codes(read(data).questions) == ["grades_left_out"]


def test_read_table_does_not_ask_about_row_numbers_or_where_all_grades_are_known() -> None:
    numbered = [[*HEADER, "No"], *([*row(f"A-{n}", 10), n] for n in (1, 2, 3))]
    assert read(text(numbered)).questions == ()
    known = [[*HEADER, "Moyenne"], [*row("A-01", 10, 11), 4]]
    assert read(text(known)).questions == ()


@pytest.mark.parametrize("title", ["Élève", "pupil", "reference", "ID", "code"])
@pytest.mark.parametrize("name", ["Marie Dupont", "Dupont, Marie", "O'Neil Zoë", "J. Martin"])
def test_names_are_never_taken_for_references(title: str, name: str) -> None:
    found = read(text([[title, *HEADER[1:]], row(name, 10), row("Łukasz Nowak", 9)]))
    assert [pupil.reference for pupil in found.pupils] == ["", ""]
    assert "names_left_out" in codes(found.notes)


@pytest.mark.parametrize("cell", ["x" * 900, "a b " * 220 + "1", "-" * 900, "é, " * 300])
def test_long_text_takes_no_long_time(cell: str) -> None:
    started = time.process_time()
    read(text([HEADER, *([row(cell)] * 20)]))
    assert time.process_time() - started < 2


def test_pupil_title_is_a_reference_above_codes() -> None:
    found = read(text([["Élève", *HEADER[1:]], row("A-01", 10)]))
    assert [pupil.reference for pupil in found.pupils] == ["A-01"]


@pytest.mark.parametrize(
    ("encoding", "reference"),
    [
        ("utf-8", "Łódź-1"),
        ("cp1252", "Zoë-1"),
        ("cp1250", "Łódź-1"),
        ("iso8859-15", "cœur-1"),
        ("cp1251", "Иванов-1"),
        ("mac-roman", "Andrés-1"),
        ("cp850", "André-1"),
    ],
)
def test_encoding_is_recognised_shown_and_can_be_chosen(encoding: str, reference: str) -> None:
    data = text([HEADER, row(reference, 10)], encoding=encoding)
    found = read(data)
    assert [pupil.reference for pupil in found.pupils] == [reference]
    shown = [note.values for note in found.notes if note.code == "read_as"]
    if encoding != "utf-8":
        assert shown == [{"encoding": encoding, "words": reference}]
    chosen = read(data, Choices(encoding=encoding))
    assert [pupil.reference for pupil in chosen.pupils] == [reference]
    if encoding != "utf-8":
        with pytest.raises(TableError, match="not in utf-8"):
            read(data, Choices(encoding="utf-8"))


def test_references_are_read_as_shown_in_one_unicode_form() -> None:
    for data in (
        xlsx({"1": CLASS[:2]}, set_format("00000", 123, 0)),
        xls([HEADER, row(123, 10)], {(1, 0): "00000"}),
        ods([HEADER, row("00123", 10)], {(1, 0): 'office:value-type="float" office:value="123"'}),
        text([HEADER, row("00123", 10)]),
    ):
        assert [pupil.reference for pupil in read(data).pupils] == ["00123"]
    apart = unicodedata.normalize("NFD", "é-1")
    assert [p.reference for p in read(text([HEADER, row(apart, 10)])).pupils] == ["é-1"]
    assert [p.reference for p in read(text([HEADER, row("1e5", 10)])).pupils] == ["1e5"]


@pytest.mark.parametrize(
    "number_format",
    [
        *("0", "0.0", "#,##0.00", "# ?/?", "0.00E+00", "0;[Red]-0", "[>=10]0;[Red]0", "0.00_)"),
        *('#,##0.00 "€"', '_-* #,##0.00_-;-* #,##0.00_-;_-* "-"??_-;_-@_-', "[$-40C]0.0", "@"),
    ],
)
def test_number_format_that_shows_the_number_does_not_matter(number_format: str) -> None:
    assert pupils(read(xlsx({"1": CLASS[:2]}, set_format(number_format, 8.5)))) == [
        ("A-01", 8.5, 9.5)
    ]


def test_number_format_of_zeros_does_not_round_a_grade() -> None:
    kinds = {GRADE_CELL: 'office:value-type="float" office:value="8.5"'}
    for data in (
        xlsx({"1": CLASS[:2]}, set_format("00", 8.5)),
        xls([HEADER, row("A-01", 8.5, 9.5)], {GRADE_CELL: "00"}),
        ods([HEADER, row("A-01", "09", 9.5)], kinds),
    ):
        assert pupils(read(data)) == [("A-01", 8.5, 9.5)]


@pytest.mark.parametrize(
    ("titles", "code"),
    [
        (("Note (/10)", "Note 2 /10"), "other_scale"),
        (("Note sur 10", "Test out of 10"), "other_scale"),
        (("Quiz (Percentage)", "Test (0–100)"), "other_scale"),
        (("Note", "Note"), "twice"),
    ],
)
def test_chosen_column_is_refused_if_its_title_means_another_value(
    titles: tuple[str, str], code: str
) -> None:
    data = text([[*HEADER[:-2], *titles], row("A-01", 4, 3)])
    found = read(data, Choices(columns=dict(zip(titles, PERIODS, strict=True))))
    assert found.pupils == ()
    assert code in codes(found.invalid)


@pytest.mark.parametrize(
    "titles", [("Note 2024/2025", "Term 2024/25"), ("Test /20", "Note (0-20)")]
)
def test_chosen_column_is_read_if_its_title_states_a_year_or_the_same_scale(
    titles: tuple[str, str],
) -> None:
    data = text([[*HEADER[:-2], *titles], row("A-01", 4, 3)])
    choices = Choices(columns=dict(zip(titles, PERIODS, strict=True)))
    assert pupils(read(data, choices)) == [("A-01", 4, 3)]


def test_grades_without_a_title_are_not_left_out_without_a_question() -> None:
    without = [*HEADER[:-2], "", HEADER[-1]]
    rows = [without, row("A-01", 8), row("A-02", 14), row("A-03", 3)]
    for data in (text(rows), xlsx({"1": rows})):
        assert codes(read(data).questions) == ["grades_left_out"]


def test_hidden_rows_and_columns_without_content_are_not_mentioned() -> None:
    assert read(xlsx({"1": CLASS}, hide_what_is_empty)).notes == ()


def test_repeated_references_are_named_with_their_lines() -> None:
    found = read(text([HEADER, row("A-01", 5, 5), row("A-01", 18, 18)]))
    (note,) = [note for note in found.notes if note.code == "reference_repeated"]
    assert note.values == {"reference": "A-01", "lines": "2, 3"}
    assert len(found.pupils) == 2


def test_sheet_is_chosen_by_name_and_named() -> None:
    data = xlsx({"3A": CLASS, "3B": [HEADER, row("B-01", 8)]})
    with pytest.raises(TableError) as caught:
        read(data)
    assert caught.value.sheets == ("3A", "3B")
    found = read(data, Choices(sheet="3B"))
    assert pupils(found) == [("B-01", 8, None)]
    assert [note.values["sheet"] for note in found.notes if note.code == "sheet"] == ["3B"]


def test_mapping_file_says_what_columns_hold() -> None:
    choices = Choices.from_toml('without_grades = true\n[columns]\n"Trim. 1" = "G1"\nNom = ""\n')
    assert choices == Choices(columns={"Trim. 1": "G1", "Nom": ""}, without_grades=True)
    for wrong in ("columns = 1", "other = 1", "[columns]\na = 1", "sheet ="):
        with pytest.raises(InvalidInputError, match=r"mapping file|Each entry"):
            Choices.from_toml(wrong)
    unknown = Choices(columns={"Trim. 9": "G1"})
    assert codes(read(text(CLASS), unknown).invalid) == ["unknown_title"]


_references = st.from_regex(r"[A-Z]{1,3}-[0-9]{1,4}é?", fullmatch=True)
_grades = st.one_of(st.integers(0, 20), st.floats(0, 20).map(lambda grade: round(grade, 2)))
_known = st.one_of(st.just(()), st.tuples(_grades), st.tuples(_grades, _grades))


@st.composite
def class_lists(draw: Any) -> tuple[bytes, list[tuple[Any, ...]]]:
    """Draw a class list in any dialect, and the pupils in it."""
    members = draw(st.lists(st.tuples(_references, _known), min_size=1, max_size=6))
    rows = [HEADER, *(row(reference, *known) for reference, known in members)]
    if language := draw(st.sampled_from(["", "fr", "en"])):
        rows = in_words(language, rows)
    order = draw(st.permutations(range(len(HEADER))))
    delimiter = draw(st.sampled_from(";,\t|"))
    data = text(
        [[cells[i] for i in order] for cells in rows],
        delimiter=delimiter,
        encoding=draw(st.sampled_from(["utf-8", "utf-8-sig", "cp1252", "utf-16"])),
        end=draw(st.sampled_from(["\r\n", "\n", "\r"])),
        comma=draw(st.booleans()),
        quoting=draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])),
        above=draw(st.sampled_from(["", "Classe 3B\n", "\n\n", f"sep={delimiter}\n"])),
    )
    unknown = [None] * len(PERIODS)
    return data, [(reference, *[*known, *unknown][: len(PERIODS)]) for reference, known in members]


@settings(max_examples=80, deadline=None)
@given(class_lists(), st.none() | st.integers(0, 400))
def test_class_list_in_any_dialect_is_read_back_or_refused(
    written: tuple[bytes, list[tuple[Any, ...]]], damage: int | None
) -> None:
    data, expected = written
    if damage is not None:
        # A byte is lost: the other rows are still read as they are, or the file is refused.
        data = data[:damage] + data[damage + 1 :]
    try:
        found = read(data)
    except TableError:
        assert damage is not None
        return
    if damage is None:
        assert found.invalid == ()
        assert pupils(found) == expected
    elif not found.questions:
        if not any(pupil.reference for pupil in found.pupils):
            # The title of the references was damaged: they are left out, and that is noted.
            expected = [("", *known) for _, *known in expected]
        wrong = [pupil for pupil in pupils(found) if pupil not in expected]
        assert len(wrong) <= 1, "a lost byte changed another row than its own"
