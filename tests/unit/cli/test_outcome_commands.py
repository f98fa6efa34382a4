"""Recording final grades from a file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sqlalchemy import select

from student_success.cli.main import main
from student_success.core.configuration.settings import Settings
from student_success.storage.engine import connect
from student_success.storage.migrate import migrate
from student_success.storage.tables import outcomes
from tests.unit.domain.tables.files import text, xlsx
from tests.unit.storage.test_outcomes import add

ROWS = [
    ["reference", "session", "prediction id", "Final grade"],
    ["A-01", "class", None, 12],
    ["A-02", None, None, 9],
    [None, None, "c", 11],
    ["A-04", "class", None, None],
    ["A-05", "class", None, 25],
    ["A-06", "class", None, 10.5],
    ["A-07", "class", None, 10],
]


@pytest.mark.parametrize("kind", ["csv", "xlsx"])
def test_import_records_grades_and_names_each_rejected_row(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STATE_DIR", str(tmp_path / "state"))
    settings = Settings()
    migrate(settings.database, state_dir=settings.state_dir)
    engine = connect(settings.database)
    for name, reference in (("a", "A-01"), ("b", "A-02"), ("c", "A-03")):
        add(engine, name, reference=reference)
    path = tmp_path / f"grades.{kind}"
    path.write_bytes(text(ROWS) if kind == "csv" else xlsx({"1": ROWS}))
    command = ["outcomes", "import", str(path), "--session", "class", "--json"]
    assert main(command) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["accepted"], answer["without_grade"]) == (3, 1)
    reasons = {entry["line"]: entry["error"] for entry in answer["rejected"]}
    assert reasons == {6: "outcome", 7: "outcome", 8: "not_found"}
    with engine.connect() as connection:
        recorded = dict(
            connection.execute(select(outcomes.c.prediction_id, outcomes.c.actual_grade)).all()
        )
    assert recorded == {"a": 12, "b": 9, "c": 11}
    engine.dispose()
    assert main(command) == 2
    assert "repeated" in capsys.readouterr().out
    path.write_bytes(text([ROWS[0], ["A-01", "class", None, 13]]))
    assert main(command) == 2
    assert "conflict" in capsys.readouterr().out
    assert main([*command, "--correct", "typo"]) == 0
