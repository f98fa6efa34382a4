"""OneRoster data sets, made by the published lists of fields of both versions."""

from __future__ import annotations

import csv
import io
import os
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import pytest

from student_success.cli.main import main
from student_success.domain.students import GRADE, PERIODS, TARGET
from student_success.domain.tables import spreadsheet
from student_success.domain.tables.columns import Choices, Column, reference_column
from student_success.domain.tables.oneroster import GRADED, write_oneroster
from student_success.domain.tables.outcomes import read_outcomes
from student_success.domain.tables.problems import TableError
from student_success.domain.tables.reader import MAX_ROWS, read_bytes, read_table
from tests.unit.domain.tables.files import read_class_list

FIELDS = {
    "1.1": {
        "users": "sourcedId status dateLastModified enabledUser orgSourcedIds role username "
        "userIds givenName familyName middleName identifier email sms phone agentSourcedIds grades "
        "password",
        "lineItems": "sourcedId status dateLastModified title description assignDate dueDate "
        "classSourcedId categorySourcedId gradingPeriodSourcedId resultValueMin resultValueMax",
        "results": "sourcedId status dateLastModified lineItemSourcedId studentSourcedId "
        "scoreStatus score scoreDate comment",
    },
    "1.2": {
        "users": "sourcedId status dateLastModified enabledUser username userIds givenName "
        "familyName middleName identifier email sms phone agentSourcedIds grades password "
        "userMasterIdentifier preferredGivenName preferredMiddleName preferredFamilyName "
        "primaryOrgSourcedId pronouns",
        "lineItems": "sourcedId status dateLastModified title description assignDate dueDate "
        "classSourcedId categorySourcedId academicSessionSourcedId resultValueMin resultValueMax "
        "schoolSourcedId",
        "results": "sourcedId status dateLastModified lineItemSourcedId studentSourcedId "
        "scoreStatus score scoreDate comment textScore classSourcedId inProgress incomplete late "
        "missing",
    },
}
FIRST, SECOND = PERIODS
SCALE = {"resultValueMin": f"{GRADE.minimum:g}", "resultValueMax": f"{GRADE.maximum:g}"}


def item(sourced_id: str, title: str, class_id: str = "c1", **fields: str) -> dict[str, str]:
    return {"sourcedId": sourced_id, "title": title, "classSourcedId": class_id, **SCALE, **fields}


def result(item_id: str, student: str, score: str, **fields: str) -> dict[str, str]:
    named = {"sourcedId": f"{item_id}-{student}", "lineItemSourcedId": item_id}
    graded = {"studentSourcedId": student, "score": score, "scoreStatus": GRADED}
    return {**named, **graded, **fields}


ITEMS = [item("i1", FIRST), item("i2", SECOND), item("i3", TARGET)]
USERS = [{"sourcedId": name, "givenName": "Zoé"} for name in ("p1", "p2")]
RESULTS = [
    *(result("i1", "p1", "10"), result("i2", "p1", "9.5"), result("i3", "p1", "11")),
    result("i1", "p2", "14.0"),
]


def data_set(
    version: str = "1.1",
    *,
    items: Any = ITEMS,
    users: Any = USERS,
    results: Any = RESULTS,
    without: str = "",
) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("manifest.csv", "propertyName,value\r\nmanifest.version,1.0\r\n")
        for name, rows in {"users": users, "lineItems": items, "results": results}.items():
            text = io.StringIO()
            fields = [field for field in FIELDS[version][name].split() if field != without]
            writer = csv.DictWriter(text, fields, restval="", extrasaction="ignore")
            writer.writeheader()
            writer.writerows(rows)
            archive.writestr(f"export/{name}.csv", text.getvalue())
    return out.getvalue()


def cells(data: bytes, choices: Choices | None = None) -> list[list[str]]:
    columns = [reference_column(), *(Column(name, (name,)) for name in (*PERIODS, TARGET))]
    return [row for _, row in read_table(data, columns, choices).rows]


@pytest.mark.parametrize("version", FIELDS)
def test_results_are_read_as_grades_and_outcomes_by_sourced_id(version: str) -> None:
    data = data_set(version)
    assert cells(data) == [["p1", "10", "9.5", "11"], ["p2", "14.0", "", ""]]
    found = read_outcomes(data, session="class")
    assert [(o.session_id, o.reference, o.obtained) for _, o in found.outcomes] == [
        ("class", "p1", 11)
    ]
    assert (found.invalid, found.without_grade) == ((), 1)
    # The other answers of a pupil are not in a OneRoster data set.
    assert "no_column" in {problem.code for problem in read_class_list(data).invalid}


def test_each_class_is_a_sheet_to_choose() -> None:
    items = [*ITEMS, item("j1", FIRST, "c2")]
    data = data_set(items=items, results=[*RESULTS, result("j1", "p1", "3")])
    with pytest.raises(TableError) as caught:
        cells(data)
    assert caught.value.sheets == ("c1", "c2")
    assert cells(data, Choices(sheet="c2")) == [["p1", "3"]]


@pytest.mark.parametrize(
    "changed",
    [
        {"status": "tobedeleted"},
        {"status": "ToBeDeleted"},
        {"scoreStatus": "partially graded"},
        {"scoreStatus": "exempt"},
        {"score": ""},
    ],
)
def test_result_that_is_no_grade_is_not_read(changed: dict[str, str]) -> None:
    data = data_set(results=[*RESULTS[:-1], {**RESULTS[-1], **changed}])
    assert cells(data) == [["p1", "10", "9.5", "11"]]


@pytest.mark.parametrize("field", ["inProgress", "incomplete"])
def test_result_that_is_not_finished_is_not_read(field: str) -> None:
    data = data_set("1.2", results=[*RESULTS[:-1], {**RESULTS[-1], field: "true"}])
    assert cells(data) == [["p1", "10", "9.5", "11"]]


def test_pupil_who_is_deleted_is_not_read() -> None:
    users = [USERS[0], {**USERS[1], "status": "tobedeleted"}]
    assert [row[0] for row in cells(data_set(users=users))] == ["p1"]


def test_two_results_of_a_line_item_are_refused_and_neither_is_read() -> None:
    found = read_outcomes(data_set(results=[*RESULTS, result("i3", "p1", "12")]), session="class")
    assert found.outcomes == ()
    assert [problem.code for problem in found.invalid] == ["outcome"]


def test_line_item_of_another_scale_is_not_read_as_a_grade() -> None:
    items = [*ITEMS[:2], item("i3", TARGET, resultValueMax="100")]
    found = read_outcomes(data_set(items=items), session="class")
    assert found.outcomes == ()
    assert [problem.code for problem in found.invalid] == ["no_column"]


@pytest.mark.parametrize(
    "data",
    [
        data_set(results=[*RESULTS, result("i1", "nobody", "3")]),
        data_set(results=[*RESULTS, result("nothing", "p1", "3")]),
        data_set().replace(b"users.csv", b"other.csv"),
        data_set(without="score"),
    ],
    ids=["pupil", "line item", "table", "field"],
)
def test_data_set_that_is_not_complete_is_refused(data: bytes) -> None:
    with pytest.raises(TableError) as caught:
        cells(data)
    assert caught.value.problem.code == "oneroster"


def test_folder_is_read_as_a_zip_file(tmp_path: Path) -> None:
    with zipfile.ZipFile(io.BytesIO(data_set())) as archive:
        archive.extractall(tmp_path)
    # Some programs write files without a date; ZIP files begin with 1980.
    os.utime(tmp_path / "export" / "users.csv", (0, 0))
    assert cells(read_bytes(tmp_path / "export")) == cells(data_set())


def test_data_set_is_read_in_the_child_with_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spreadsheet, "_SECONDS", 0.01)
    with pytest.raises(TableError) as caught:
        cells(data_set())
    assert caught.value.problem.code == "too_large"


def _large(method: int = zipfile.ZIP_DEFLATED, *, stated: int | None = None) -> bytes:
    """Return a data set with too many pupils in 50 MB, perhaps with a false size stated."""
    out, pupils = io.BytesIO(), range(MAX_ROWS + 1)
    users = "sourcedId\n" + "".join(f"p{n}\n" for n in pupils)
    results = "".join(f"i1,p{n},10\n" for n in pupils) + "\n" * (50 << 20)
    with zipfile.ZipFile(out, "w", method) as archive:
        archive.writestr("users.csv", users)
        archive.writestr("lineItems.csv", f"sourcedId,title,classSourcedId\ni1,{FIRST},c1\n")
        archive.writestr("results.csv", f"lineItemSourcedId,studentSourcedId,score\n{results}")
        if stated is not None:
            archive.getinfo("results.csv").file_size = stated
    return out.getvalue()


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (_large(), "too_long"),
        (_large(stated=100), "not_a_table"),
        (_large(zipfile.ZIP_LZMA), "not_a_table"),
        (_large(stated=1 << 30), "too_large"),
    ],
    ids=["rows", "size stated too small", "compression", "size stated too large"],
)
def test_large_data_set_is_refused_before_it_is_unpacked(data: bytes, code: str) -> None:
    spreadsheet.parse(data_set(), MAX_ROWS)
    tracemalloc.start()
    found = spreadsheet.parse(data, MAX_ROWS)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found["problem"] == code
    assert most < 20 << 20


def test_predictions_are_written_with_the_published_fields_and_not_read_as_grades() -> None:
    data = write_oneroster(
        [("p1", "9.62"), ("p2", "15.0")],
        line_item="predicted",
        title=TARGET,
        class_id="c1",
        category="k1",
        period="t1",
    )
    tables = {}
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for name in archive.namelist():
            tables[name] = list(csv.reader(io.StringIO(archive.read(name).decode(), newline="")))
    for name in ("lineItems", "results"):
        assert tables[f"{name}.csv"][0] == FIELDS["1.1"][name].split()
    scores = [
        dict(zip(*pair, strict=True))
        for pair in zip([tables["results.csv"][0]] * 2, tables["results.csv"][1:], strict=True)
    ]
    assert [(row["studentSourcedId"], row["score"]) for row in scores] == [
        ("p1", "9.62"),
        ("p2", "15.0"),
    ]
    assert {row["lineItemSourcedId"] for row in scores} == {tables["lineItems.csv"][1][0]}
    assert ["file.results", "bulk"] in tables["manifest.csv"]
    whole = data_set(
        items=[*ITEMS[:2], dict(zip(*tables["lineItems.csv"], strict=True))],
        results=[*RESULTS[:2], *scores],
    )
    assert read_outcomes(whole, session="class").outcomes == ()


@pytest.mark.usefixtures("own_process_state")
def test_command_writes_predictions_of_a_scored_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STATE_DIR", str(tmp_path / "state"))
    scored, out = tmp_path / "out.csv", tmp_path / "out.zip"
    scored.write_text(f"line,reference,predicted_{TARGET}\n2,p1,9.62\n3,,15.0\n")
    options = ["--line-item=l", "--class=c", "--category=k", "--period=t"]
    assert main(["oneroster", str(scored), str(out), *options]) == 0
    assert "1 results; 1 rows have no reference" in capsys.readouterr().out
    with zipfile.ZipFile(out) as archive:
        assert "l-p1" in archive.read("results.csv").decode()
    before = out.read_bytes()
    assert main(["oneroster", str(scored), str(out), *options]) != 0
    assert out.read_bytes() == before


@pytest.mark.usefixtures("own_process_state")
def test_command_refuses_two_predictions_of_a_reference(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STATE_DIR", str(tmp_path / "state"))
    scored, out = tmp_path / "out.csv", tmp_path / "out.zip"
    scored.write_text(f"reference,predicted_{TARGET}\np1,9.62\np2,15.0\n p1 ,3\n")
    options = ["--line-item=l", "--class=c", "--category=k", "--period=t"]
    assert main(["oneroster", str(scored), str(out), *options]) == 2
    assert "line 4 of out.csv has the reference of a row above it" in capsys.readouterr().err
    assert not out.exists()
