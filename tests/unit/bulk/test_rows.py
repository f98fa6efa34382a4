"""Rows of a file are accepted, rejected and scored exactly as by the API."""

from __future__ import annotations

import csv
import io
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st
from pydantic import ValidationError

from student_success.bulk import reader as bulk_reader
from student_success.bulk import scoring
from student_success.bulk.model_choice import Model, load
from student_success.bulk.output import OUTPUT_COLUMNS, REJECT_COLUMNS, input_titles
from student_success.bulk.reader import read_layout, read_parts
from student_success.bulk.scoring import Scored, Task, score
from student_success.core.paths import ROOT
from student_success.domain.students import EXAMPLE, FEATURE_NAMES, FEATURES, StudentFeatures
from student_success.domain.tables.columns import find_columns, pupil_columns
from student_success.domain.tables.pupils import request_body_of
from student_success.domain.tables.reader import Table
from student_success.model.artefact import verify
from training.export.artefact import random_students

SEED = ROOT / "student_success" / "seed"
MODEL = Model("seed", verify(SEED), 0.9, SEED)
TITLES = ("reference", *FEATURE_NAMES)


def layout(titles: Sequence[str] = TITLES, delimiter: str = ",") -> Table:
    found = find_columns(titles, pupil_columns())
    return Table(
        tuple(titles), found, (), (), {}, (), "utf-8", "", 1, len(titles), delimiter=delimiter
    )


def scored(
    text: str | bytes,
    how: Table | None = None,
    *,
    reader: str = "arrow",
    with_inputs: bool = False,
) -> Scored:
    """Score text with the reader of plain text, or with the one that reads all text."""
    data = text.encode() if isinstance(text, str) else text
    how = how or layout()
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        if reader == "python":
            patch.setattr(bulk_reader, "_read_plain", lambda *_: None)
        path = Path(folder) / "pupils.csv"
        path.write_bytes(how.delimiter.join(how.titles).encode() + b"\n" + data)
        (part,) = read_parts(path, how)
    return score(part, Task(how, with_inputs=with_inputs), MODEL)


def rows_of(content: bytes, titles: Sequence[str]) -> list[dict[str, str]]:
    text = io.StringIO(content.decode("utf-8", "surrogateescape"), newline="")
    return [dict(zip(titles, row, strict=False)) for row in csv.reader(text)]


def answers(part: Scored) -> list[dict[str, str]]:
    return rows_of(part.predictions, OUTPUT_COLUMNS)


def refused(part: Scored) -> list[dict[str, str]]:
    return rows_of(part.rejects, (*REJECT_COLUMNS, "first"))


def line_of(student: dict[str, Any], reference: str = "") -> str:
    cells = ["" if student.get(name) is None else str(student[name]) for name in FEATURE_NAMES]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow([reference, *cells])
    return text.getvalue()


@pytest.mark.parametrize("reader", ["python", "arrow"])
def test_score_returns_predictions_of_the_model(reader: str) -> None:
    students = random_students(3000, seed=11)
    part = scored("".join(map(line_of, students)), reader=reader)
    assert (part.scored, part.rejected, part.blank) == (3000, 0, 0)
    predictor = load(MODEL)
    for number, (student, row) in enumerate(zip(students, answers(part), strict=True)):
        pupil = StudentFeatures.model_validate(student)
        said = predictor.predict(pupil)
        assert row == {
            "line": str(number + 2),
            "reference": "",
            "predicted_G3": repr(said.grade),
            "decision": said.decision.value,
            "pass_probability": repr(said.pass_probability),
            "interval_low": str(said.low),
            "interval_high": str(said.high),
            "horizon": said.horizon.value,
            "at_risk": str(said.at_risk).lower(),
            "model_version": "seed",
            "unusual": " ".join(predictor.training_range.unusual(pupil)),
        }


def _ways(name: str) -> st.SearchStrategy[str]:
    """Cells of a column: mostly right, now and then what people and programs write by mistake."""
    feature = next(f for f in FEATURES if f.name == name)
    if feature.kind == "category":
        right = st.sampled_from([*feature.categories, *(c.upper() for c in feature.categories)])
    elif feature.kind == "integer":
        assert feature.low is not None
        assert feature.high is not None
        right = st.integers(int(feature.low), int(feature.high)).map(str)
    else:
        right = st.one_of(
            st.just(""),
            st.integers(0, 40).map(lambda n: str(n / 2)),
            st.floats(0, 20).map(repr),
            st.integers(0, 200).map(lambda n: f"{n // 10},{n % 10}"),
        )
    odd = st.sampled_from(
        [
            *("", " ", "?", "NA", "nan", "inf", "-1", "21", "20.0", "3.5", "3,0", "1e1", "GP "),
            *("oui", "non", "yes", "1", "0", "true", "x", "0x3", "٣", "1_0", "-0.0", "5", "9" * 20),
        ]
    )
    return st.one_of(*[right] * 15, odd)


ROW = st.fixed_dictionaries({name: _ways(name) for name in FEATURE_NAMES})
REFERENCES = st.one_of(
    st.just(""),
    st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=70),
)


@limits(max_examples=300)
@given(st.lists(st.tuples(REFERENCES, ROW), min_size=1, max_size=8))
def test_row_is_rejected_exactly_when_the_api_refuses_it_with_its_message(
    rows: list[tuple[str, dict[str, str]]],
) -> None:
    part = scored("".join(line_of(row, reference) for reference, row in rows))
    expected_good, expected_bad = [], []
    for line, (reference, row) in enumerate(rows, start=2):
        texts = {name: text.strip() for name, text in row.items()}
        body = request_body_of({"reference": reference.strip()} | texts)
        try:
            student = StudentFeatures.model_validate(body)
        except ValidationError as error:
            words = [
                ": ".join([*map(str, problem["loc"]), problem["msg"]]) for problem in error.errors()
            ]
            expected_bad.append((str(line), "; ".join(words)))
        else:
            said = load(MODEL).predict(student)
            expected_good.append((str(line), repr(said.grade), repr(said.pass_probability)))
    found = answers(part)
    assert [
        (row["line"], row["predicted_G3"], row["pass_probability"]) for row in found
    ] == expected_good
    assert [(row["line"], row["problem"]) for row in refused(part)] == expected_bad


@limits(max_examples=150)
@given(
    st.lists(st.tuples(REFERENCES, ROW), min_size=1, max_size=8),
    st.sampled_from(["\n", "\r\n"]),
    st.lists(st.sampled_from(["", ",,", "a,b\r", "\x00", '"', "," * 17, " " * 3]), max_size=2),
    st.booleans(),
)
def test_arrow_and_python_readers_return_same_rows(
    rows: list[tuple[str, dict[str, str]]], end: str, between: list[str], with_inputs: bool
) -> None:
    lines = [line_of(row, reference)[:-1] for reference, row in rows]
    text = end.join([*lines[:1], *between, *lines[1:]])
    quick = scored(text, with_inputs=with_inputs)
    assert quick == scored(text, reader="python", with_inputs=with_inputs)


def test_csv_accepts_semicolons_decimal_commas_and_french_words() -> None:
    how = layout(["Référence", "Âge", *(n for n in FEATURE_NAMES if n != "age")], delimiter=";")
    cells = {name: str(EXAMPLE[name]) for name in FEATURE_NAMES}
    cells |= {"G1": "10,0", "G2": "9,8", "famsup": "Oui", "paid": "NON", "school": "gp"}
    row = ["é-1", cells["age"], *(cells[n] for n in FEATURE_NAMES if n != "age")]
    expected = scored(line_of(EXAMPLE, "é-1")).predictions
    for reader in ("arrow", "python"):
        assert scored(";".join(row) + "\n", how, reader=reader).predictions == expected


def test_csv_accepts_unchanged_uci_file(tmp_path: Any) -> None:
    file = tmp_path / "student-mat.csv"
    names = ["school", "sex", *FEATURE_NAMES[1:], "G3"]
    values = {**EXAMPLE, "sex": "F", "G3": 11, "G1": "10", "G2": "9"}
    quoted = [f'"{v}"' if isinstance(v, str) else str(v) for v in (values[n] for n in names)]
    file.write_text(";".join(names) + "\n" + ";".join(quoted) + "\n")
    how = read_layout(file)
    (row,) = [
        row for part in read_parts(file, how) for row in answers(score(part, Task(how), MODEL))
    ]
    said = load(MODEL).predict(StudentFeatures.model_validate({**EXAMPLE, "G1": 10, "G2": 9}))
    assert row["predicted_G3"] == repr(said.grade)


def test_csv_reference_keeps_delimiter_quote_and_line_end() -> None:
    reference = 'room 5", "blue"\nsecond line'
    part = scored(line_of(EXAMPLE, reference) + line_of(EXAMPLE, "next"))
    assert [row["reference"] for row in answers(part)] == [reference, "next"]
    assert [row["line"] for row in answers(part)] == ["2", "4"]


def test_csv_rejects_rows_of_another_width() -> None:
    good = line_of(EXAMPLE, "A")
    part = scored(good + "B,GP,17\n" + good[:-1] + ",9\n" + "\n" + "," * 17 + "\n" + good)
    assert (part.scored, part.rejected, part.blank) == (2, 2, 2)
    assert [(row["line"], row["problem"]) for row in refused(part)] == [
        ("3", "has 3 cells where the header has 18"),
        ("4", "has 19 cells where the header has 18"),
    ]
    assert b"B,GP,17" in part.rejects


@pytest.mark.parametrize("reader", ["arrow", "python"])
def test_csv_empty_line_is_no_pupil_where_every_value_may_be_unknown(
    monkeypatch: pytest.MonkeyPatch, reader: str
) -> None:
    monkeypatch.setattr(scoring, "_feature", lambda *_: None)
    part = scored("," * 17 + "\n\n" + " ," * 17 + "\n", reader=reader)
    assert (part.scored, part.rejected, part.blank) == (0, 0, 3)


def test_csv_rejects_and_keeps_undecodable_bytes() -> None:
    good = line_of(EXAMPLE, "A").encode()
    odd = line_of(EXAMPLE, "M").encode().replace(b"M,", b"M\xfcller,", 1)
    part = scored(good + odd + good)
    assert (part.scored, part.rejected) == (2, 1)
    assert refused(part)[0]["problem"] == "is not utf-8"
    assert b"M\xfcller" in part.rejects


def test_csv_rejects_few_rows_when_a_quote_is_never_closed() -> None:
    good = line_of(EXAMPLE, "A")
    many = good * 4000
    part = scored('"open,GP\n' + many)
    assert part.scored + part.rejected == 4001
    assert part.scored > 1500
    assert "is not CSV" in refused(part)[0]["problem"]


def test_csv_repeats_input_columns_when_with_inputs_is_set() -> None:
    titles = [*TITLES, "teacher", "decision"]
    how = layout(titles)
    part = scored(line_of(EXAMPLE, "A")[:-1] + ',"Ann, B",keep\n', how, with_inputs=True)
    names = list(input_titles(how))
    assert names == [*FEATURE_NAMES, "teacher", "decision_input"]
    (row,) = rows_of(part.predictions, [*OUTPUT_COLUMNS, *names])
    assert (row["reference"], row["teacher"], row["decision_input"]) == ("A", "Ann, B", "keep")
    assert row["school"] == "GP"
