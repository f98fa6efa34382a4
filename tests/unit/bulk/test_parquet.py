"""Parquet files give the same result as the same pupils in a CSV file or in a request."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from student_success.bulk.model_choice import load
from student_success.bulk.output import OUTPUT_COLUMNS, open_output
from student_success.bulk.scoring import Scored
from student_success.domain.students import EXAMPLE, FEATURE_NAMES, StudentFeatures
from tests.unit.bulk.test_reader import parts_of
from tests.unit.bulk.test_rows import MODEL, TITLES, line_of, refused, scored
from training.export.artefact import random_students

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


def table_of(students: list[dict[str, Any]]) -> Any:
    columns = {name: [student.get(name) for student in students] for name in FEATURE_NAMES}
    return pa.table({"reference": [f"P{n}" for n in range(len(students))], **columns})


def answers_of(path: Path, **options: Any) -> bytes:
    return b"".join(part.predictions for part in parts_of(path, **options))


def written(path: Path, parts: list[Scored]) -> Any:
    """Write parts into a Parquet file; return it as a table."""
    file = open_output(path, path.name, ())
    for part in parts:
        file.write(part.predictions)
    file.close()
    return pq.read_table(path)


def test_score_returns_same_predictions_for_parquet_and_csv(tmp_path: Path) -> None:
    students = random_students(700, seed=21)
    text = "".join(line_of(student, f"P{n}") for n, student in enumerate(students))
    expected = [line.split(b",", 1)[1] for line in scored(text).predictions.splitlines()]
    table = table_of(students)
    yes = {"yes": True, "no": False}
    variants = {
        "plain": table,
        "categories": pa.table({n: _coded(table.column(n)) for n in table.column_names}),
        "floats": table.set_column(2, "age", table.column("age").cast(pa.float64())),
        "half": table.set_column(2, "age", table.column("age").cast(pa.float16())),
        "bools": table.set_column(
            4, "nursery", pa.array([yes.get(student["nursery"]) for student in students])
        ),
    }
    for name, variant in variants.items():
        path = tmp_path / f"{name}.parquet"
        pq.write_table(variant, path, row_group_size=128)
        assert parts_of(path)[0].rejected == 0
        lines = answers_of(path, size=100).splitlines()
        assert [line.split(b",", 1)[1] for line in lines] == expected, name
        assert [int(line.split(b",")[0]) for line in lines] == list(range(1, 701))


def _coded(column: Any) -> Any:
    return column.dictionary_encode() if pa.types.is_string(column.type) else column


def test_parquet_gives_the_same_rows_for_any_part_size(tmp_path: Path) -> None:
    path = tmp_path / "pupils.parquet"
    pq.write_table(table_of(random_students(50, seed=22)), path, row_group_size=16)
    expected = answers_of(path)
    for size in (1, 7, 16, 49, 50):
        assert answers_of(path, size=size) == expected


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("age", 99, "age: Input should be less than or equal to 22"),
        ("age", 17.5, "age: Input should be a valid integer"),
        ("age", None, "age: Field required"),
        ("age", "old", "age: Input should be a valid integer"),
        ("school", "XX", "school: Input should be 'GP' or 'MS'"),
        ("school", None, "school: Field required"),
        ("G1", None, "G2 is given but G1 is not: give both, G1 alone, or neither"),
        ("G2", float("inf"), "G2: Input should be a finite number"),
        ("G2", 20.5, "G2: Input should be less than or equal to 20"),
        ("reference", "x" * 65, "reference: String should have at most 64 characters"),
    ],
)
def test_parquet_row_is_rejected_with_message_of_the_api(
    tmp_path: Path, name: str, value: Any, words: str
) -> None:
    good = {"reference": "A", **EXAMPLE}
    table = pa.Table.from_pylist([{**good, name: value}])
    path = tmp_path / "pupils.parquet"
    pq.write_table(table, path)
    (part,) = parts_of(path)
    assert (part.scored, part.rejected) == (0, 1)
    assert refused(part)[0]["problem"] == words


def test_parquet_accepts_other_number_types_and_missing_grades(tmp_path: Path) -> None:
    rows = 4
    columns: dict[str, Any] = {n: pa.array([EXAMPLE[n]] * rows) for n in FEATURE_NAMES}
    columns["age"] = pa.array([Decimal("17")] * rows, pa.decimal128(5, 2))
    columns["absences"] = pa.array([2] * rows, pa.uint64())
    columns["G1"] = pa.array([10.0, 10.0, None, np.nan])
    columns["G2"] = pa.array([9.8, np.nan, None, None], from_pandas=False)
    path = tmp_path / "pupils.parquet"
    pq.write_table(pa.table(columns), path)
    (part,) = parts_of(path)
    assert part.rejected == 0
    seen = [line.split(b",")[7] for line in part.predictions.splitlines()]
    assert seen == [b"G1+G2", b"G1", b"none", b"none"]


def test_parquet_output_has_types_and_rows_in_order(tmp_path: Path) -> None:
    students = random_students(90, seed=23)
    table = table_of(students).append_column("teacher", pa.array(["Ann"] * 90))
    path = tmp_path / "pupils.parquet"
    pq.write_table(table, path)
    found, other = (
        written(
            tmp_path / f"{size}.parquet",
            parts_of(path, to_parquet=True, with_inputs=True, size=size),
        )
        for size in (90, 7)
    )
    assert found.equals(other)
    assert found.column_names == [*OUTPUT_COLUMNS, *FEATURE_NAMES, "teacher"]
    assert found.column("age").to_pylist() == [student["age"] for student in students]
    first = found.slice(0, 1).to_pylist()[0]
    pupil = StudentFeatures.model_validate(students[0])
    said = _predictor().predict(pupil)
    assert {name: first[name] for name in OUTPUT_COLUMNS} == {
        "line": 1,
        "reference": "P0",
        "predicted_G3": said.grade,
        "decision": said.decision.value,
        "pass_probability": said.pass_probability,
        "interval_low": said.low,
        "interval_high": said.high,
        "horizon": said.horizon.value,
        "at_risk": said.at_risk,
        "model_version": "seed",
        "unusual": " ".join(_predictor().training_range.unusual(pupil)) or None,
    }


def test_parquet_output_is_empty_when_input_has_no_rows(tmp_path: Path) -> None:
    path = tmp_path / "pupils.parquet"
    pq.write_table(table_of(random_students(3, seed=1)).slice(0, 0), path)
    found = written(tmp_path / "0.parquet", parts_of(path, to_parquet=True))
    assert (found.num_rows, found.column_names) == (0, [*OUTPUT_COLUMNS])


def _predictor() -> Any:
    return load(MODEL)


def test_csv_input_is_written_as_parquet(tmp_path: Path) -> None:
    path = tmp_path / "pupils.csv"
    for end in ("", line_of(EXAMPLE, 'quoted "reference"')):
        path.write_text(",".join(TITLES) + "\n" + line_of(EXAMPLE, "A") + line_of(EXAMPLE) + end)
        parts = parts_of(path, to_parquet=True, with_inputs=True)
        rows = written(tmp_path / "a.parquet", parts).to_pylist()
        assert [row["reference"] for row in rows][:2] == ["A", None]
        assert rows[0]["G2"] == "9.8"
