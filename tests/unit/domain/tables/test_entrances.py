"""The same tables through each entrance: web page, training, bulk scoring.

Each kind of file has one treatment: it is read, its row, column or file is refused with a reason,
or something is asked or noted.
"""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings

from student_success.bulk.output import OUTPUT_COLUMNS
from student_success.bulk.reader import read_layout
from student_success.core.errors import DatasetError
from student_success.domain.students import GRADE_MAX, PERIODS, TARGET
from student_success.domain.tables import spreadsheet
from student_success.domain.tables.problems import TableError
from tests.unit.bulk.test_reader import parts_of
from tests.unit.domain.tables.files import (
    HEADER,
    ods,
    read_class_list,
    row,
    text,
    with_part,
    xls,
    xlsx,
)
from tests.unit.domain.tables.test_reader import (
    CLASS,
    PUPILS,
    READ_WHOLE,
    REFUSED_CELLS,
    REFUSED_COLUMNS,
    REFUSED_FILES,
    class_lists,
    codes,
    hide_column,
    hide_row,
    pupils,
)
from training.data import csv_table
from training.data.csv_table import PupilTable, read_pupil_table

HORIZONS = {2: "G1+G2", 1: "G1", 0: "none"}
ASKED = {
    "grades under other titles": (
        text([[*HEADER[:-2], "G1 (/20)", "Trimestre 2"], row("A-01", 4, 3), row("A-02", 18, 17)]),
        "grades_left_out",
    ),
    "no grades": (text([cells[:-2] for cells in CLASS]), "no_grades"),
}
NOTED = {
    "reference repeated": (
        text([HEADER, row("A-01", 5, 5), row("A-01", 18, 18)]),
        "reference_repeated",
    ),
    "names as references": (
        text([["Élève", *HEADER[1:]], row("Zoé Martin", 10)]),
        "names_left_out",
    ),
    "Western encoding": (text([HEADER, row("Zoé-1", 10)], encoding="cp1252"), "read_as"),
    "Latin-9": (text([HEADER, row("cœur-1", 10)], encoding="iso8859-15"), "read_as"),
    "Central European encoding": (text([HEADER, row("Łódź-1", 10)], encoding="cp1250"), "read_as"),
    "another sheet": (xlsx({"guide": [["Fill in"], ["a row"]], "3B": CLASS}), "sheet"),
    "XLSX, rows hidden by a filter": (xlsx({"1": CLASS}, hide_row), "hidden_lines"),
    "XLSX, hidden column": (xlsx({"1": CLASS}, hide_column), "hidden_lines"),
    "XLS, hidden row": (xls(CLASS, hidden_row=2), "hidden_lines"),
    "ODS, rows hidden by a filter": (
        with_part(
            ods(CLASS),
            "content.xml",
            lambda x: x.replace(
                b"<table:table-row>", b'<table:table-row table:visibility="filter">'
            ),
        ),
        "hidden_lines",
    ),
    "titles repeated": (text([*CLASS, HEADER, row("A-04", 9)]), "header_repeated"),
    "title rows": (text(CLASS, above="Classe 3B\r\n"), "lines_above"),
    "columns not used": (text([[*HEADER, "Nom"], [*row("A-01", 10), "x"]]), "left_out"),
}


@pytest.fixture(autouse=True)
def read_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spreadsheet, "_in_child", spreadsheet.parse)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return tmp_path / "pupils.csv"


def answers_of(path: Path) -> list[tuple[str, str]]:
    """Return reference and known grades of each pupil that bulk scoring has scored."""
    lines = b"".join(part.predictions for part in parts_of(path)).decode().splitlines()
    rows = [dict(zip(OUTPUT_COLUMNS, cells, strict=False)) for cells in csv.reader(lines)]
    return [(cells["reference"], cells["horizon"]) for cells in rows]


def training(data: bytes) -> PupilTable:
    """Read a class list as a training does; it has no final grade, so the age stands for one."""
    columns = [c for c in csv_table._training_columns() if c.name != TARGET]
    columns += [replace(c, name=TARGET) for c in columns if c.name == "age"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_table, "_training_columns", lambda: columns)
        patch.setattr(csv_table, "parse_final_grade", lambda _: GRADE_MAX)
        return read_pupil_table("class.csv", data)


@pytest.mark.parametrize("kind", READ_WHOLE)
def test_table_is_read_alike_by_web_page_and_training(kind: str) -> None:
    assert pupils(read_class_list(READ_WHOLE[kind])) == PUPILS
    found = training(READ_WHOLE[kind])
    assert found.problems == ()
    table = found.frame[list(PERIODS)].to_numpy()
    grades = [[None if grade != grade else grade for grade in known] for known in table]
    assert grades == [list(known) for _, *known in PUPILS]


@pytest.mark.parametrize("kind", READ_WHOLE)
def test_table_is_read_alike_by_bulk_scoring(kind: str, saved: Path) -> None:
    saved.write_bytes(READ_WHOLE[kind])
    assert sum(part.rejected for part in parts_of(saved)) == 0
    assert answers_of(saved) == [("A-01", "G1+G2"), ("A-02", "G1"), ("A-03", "none")]


@settings(max_examples=30, deadline=None)
@given(written=class_lists())
def test_class_list_in_any_dialect_is_read_by_bulk_scoring(
    written: tuple[bytes, list[tuple[str, ...]]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("dialects") / "pupils.csv"
    path.write_bytes(written[0])
    assert answers_of(path) == [
        (reference, HORIZONS[sum(grade is not None for grade in known)])
        for reference, *known in written[1]
    ]


@pytest.mark.parametrize("kind", REFUSED_CELLS)
def test_cell_that_may_mean_another_value_is_refused_by_each_entrance(
    kind: str, saved: Path
) -> None:
    data, code = REFUSED_CELLS[kind]
    found = read_class_list(data)
    assert found.pupils == ()
    assert code in codes(found.invalid)
    if "reference" not in kind:
        # Training does not read references.
        assert code in codes(training(data).problems)
    saved.write_bytes(data)
    assert [(part.scored, part.rejected) for part in parts_of(saved)] == [(0, 1)]


@pytest.mark.parametrize("kind", REFUSED_FILES)
def test_file_that_cannot_be_read_with_certainty_is_refused_by_each_entrance(
    kind: str, saved: Path
) -> None:
    data, code = REFUSED_FILES[kind]
    with pytest.raises(TableError) as caught:
        read_class_list(data)
    assert caught.value.problem.code == code
    with pytest.raises(DatasetError):
        training(data)
    saved.write_bytes(data)
    if kind == "header only":
        assert answers_of(saved) == []
    elif kind == "quote that is not closed":
        # In a file of any length, the rows that can be read are scored.
        parts = parts_of(saved)
        assert sum(part.scored for part in parts) == 3
        assert sum(part.rejected for part in parts) == 1
    else:
        with pytest.raises(DatasetError):
            parts_of(saved)


@pytest.mark.parametrize("kind", REFUSED_COLUMNS)
def test_table_with_a_column_that_cannot_be_used_is_refused_by_each_entrance(
    kind: str, saved: Path
) -> None:
    data, code = REFUSED_COLUMNS[kind]
    found = read_class_list(data)
    assert found.pupils == ()
    assert code in codes(found.invalid)
    with pytest.raises(DatasetError, match=r"columns of class\.csv are not right"):
        training(data)
    saved.write_bytes(data)
    with pytest.raises(DatasetError, match="cannot be used"):
        parts_of(saved)


@pytest.mark.parametrize("kind", ASKED)
def test_grades_are_not_left_out_without_a_yes_by_any_entrance(kind: str, saved: Path) -> None:
    data, code = ASKED[kind]
    assert codes(read_class_list(data).questions) == [code]
    saved.write_bytes(data)
    with pytest.raises(DatasetError, match="--mapping FILE"):
        parts_of(saved)


@pytest.mark.parametrize("kind", NOTED)
def test_what_a_person_should_know_is_noted_by_each_entrance(kind: str, saved: Path) -> None:
    data, code = NOTED[kind]
    found = read_class_list(data)
    assert code in codes(found.notes)
    saved.write_bytes(data)
    # Bulk scoring compares the references of the whole file, see `bulk.repeated`.
    expected = [note for note in found.notes if note.code != "reference_repeated"]
    assert expected == list(read_layout(saved).notes)
