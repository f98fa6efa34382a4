"""The same tables through each entrance: web page, training, bulk scoring."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from gradio_ui.files.class_file import read_class_list
from student_success.bulk.reader import OUTPUT_COLUMNS
from student_success.domain.students import GRADE_MAX, PERIODS, TARGET
from student_success.domain.tables import spreadsheet
from tests.unit.bulk.test_reader import parts_of
from tests.unit.domain.tables.test_reader import PUPILS, READ_WHOLE, REFUSED_CELLS, pupils
from training.data.cell_check import check_cells
from training.data.csv_table import parse, training_columns


@pytest.fixture(autouse=True)
def read_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spreadsheet, "_in_child", spreadsheet.parse)


@pytest.mark.parametrize("kind", READ_WHOLE)
def test_table_is_read_alike_by_web_page_and_training(kind: str) -> None:
    assert pupils(read_class_list(READ_WHOLE[kind])) == PUPILS
    found = parse(kind, READ_WHOLE[kind], training_columns())
    assert found.ragged == {}
    typed, problems = check_cells(found.cells.assign(**{TARGET: str(GRADE_MAX)}))
    assert problems == {}
    grades = [[None if g != g else g for g in row] for row in typed[list(PERIODS)].to_numpy()]
    assert grades == [list(known) for _, *known in PUPILS]


@pytest.mark.parametrize("kind", READ_WHOLE)
def test_table_is_read_alike_by_bulk_scoring(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "pupils.csv"
    path.write_bytes(READ_WHOLE[kind])
    parts = parts_of(path)
    assert sum(part.rejected for part in parts) == 0
    lines = b"".join(part.predictions for part in parts).decode().splitlines()
    rows = [dict(zip(OUTPUT_COLUMNS, row, strict=False)) for row in csv.reader(lines)]
    assert [(row["reference"], row["horizon"]) for row in rows] == [
        ("A-01", "G1+G2"),
        ("A-02", "G1"),
        ("A-03", "none"),
    ]


@pytest.mark.parametrize("kind", REFUSED_CELLS)
def test_cell_that_may_mean_another_value_is_refused_by_each_entrance(
    kind: str, tmp_path: Path
) -> None:
    data, _ = REFUSED_CELLS[kind]
    assert read_class_list(data).pupils == ()
    if "reference" not in kind:
        # Training does not read references.
        found = parse(kind, data, training_columns())
        _, problems = check_cells(found.cells.assign(**{TARGET: str(GRADE_MAX)}))
        assert problems or found.ragged
    path = tmp_path / "pupils.csv"
    path.write_bytes(data)
    assert [(part.scored, part.rejected) for part in parts_of(path)] == [(0, 1)]
