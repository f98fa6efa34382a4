"""The command scores a file, and never replaces or deletes an input."""

from __future__ import annotations

import csv
import fcntl
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import csv as pa_csv

from student_success.bulk import repeated
from student_success.bulk import run as bulk_run
from student_success.bulk.executors import default_workers
from student_success.bulk.files import JOURNAL, ScoreOptions
from student_success.bulk.output import OUTPUT_COLUMNS
from student_success.bulk.run import Result, score
from student_success.cli.main import main
from student_success.cli.output import ExitCode
from student_success.core.configuration.settings import Settings
from student_success.core.errors import (
    BusyError,
    ConflictError,
    DatasetError,
    InvalidInputError,
    StudentSuccessError,
)
from student_success.core.paths import ROOT
from student_success.domain.students import EXAMPLE, StudentFeatures
from student_success.domain.tables.columns import Choices
from student_success.storage.engine import connect
from student_success.storage.inference_log.history import History
from tests.unit.bulk.test_rows import SEED, TITLES, line_of

pytestmark = pytest.mark.usefixtures("own_process_state")

TABLE = ",".join(TITLES) + "\n" + line_of(EXAMPLE, "A")


def run(source: Path, target: Path, **options: Any) -> Result:
    defaults: dict[str, Any] = {"workers": 1, "model": "seed", "overwrite": True}
    chosen = ScoreOptions(input=source, output=target, **{**defaults, **options})
    return score(Settings(database_url=None, state_dir=target.parent / "state"), chosen)


def content_of(folder: Path) -> dict[str, bytes]:
    """Return the files of a folder, without the journals."""
    files = (path for path in folder.rglob("*") if path.is_file())
    files = (path for path in files if not path.name.endswith(JOURNAL))
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_score_names_references_that_are_repeated_anywhere_in_a_file(
    ending: str, tmp_path: Path
) -> None:
    references = [f"pupil {number}" for number in range(40_000)]
    references[5], references[6], references[-1] = "", "", "pupil 1"
    columns = {name: [value] * len(references) for name, value in EXAMPLE.items()}
    table = pa.table({"reference": references, **columns})
    source = tmp_path / f"pupils{ending}"
    (pq.write_table if ending == ".parquet" else pa_csv.write_csv)(table, source)
    at = "2, 40000" if ending == ".parquet" else "3, 40001"
    text = run(source, tmp_path / "scores.csv").text
    assert f"pupils{ending}: 1 repeated references, the first on lines {at}" in text


def test_score_says_how_many_references_were_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repeated, "MAX_COMPARED", 0)
    (source := tmp_path / "pupils.csv").write_text(TABLE)
    text = run(source, tmp_path / "scores.csv").text
    assert "only the first 0 references were compared" in text


def test_score_reads_titles_as_the_mapping_says(tmp_path: Path) -> None:
    source = tmp_path / "pupils.csv"
    source.write_text(TABLE.replace("G1", "Trimestre 1"))
    with pytest.raises(DatasetError, match="look like grades"):
        run(source, tmp_path / "scores.csv")
    assert not (tmp_path / "scores.csv").exists()
    run(source, tmp_path / "scores.csv", choices=Choices(columns={"Trimestre 1": "G1"}))
    mapped = (tmp_path / "scores.csv").read_text()
    source.write_text(TABLE)
    run(source, tmp_path / "scores.csv")
    assert (tmp_path / "scores.csv").read_text() == mapped


@pytest.mark.parametrize(
    ("source", "target"),
    [
        # The corrected rejects of an earlier run: their name is that of the new rejects.
        ("scores.bad.csv", "scores.csv"),
        ("pupils.csv", "pupils.csv"),
        ("district", "district"),
        ("district", "district/scores"),
        ("district", "."),
    ],
)
def test_score_changes_nothing_when_output_would_replace_an_input(
    tmp_path: Path, source: str, target: str
) -> None:
    root = tmp_path / "root"
    for name in (
        "pupils.csv",
        "scores.bad.csv",
        "district/north.csv",
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(TABLE)
    before = content_of(tmp_path)
    with pytest.raises(InvalidInputError, match="output"):
        run(root / source, root / target)
    assert content_of(tmp_path) == before


@pytest.mark.parametrize(
    "name", ["scores.bad.csv", "scores.csv", ".scores.csv.part", ".scores.bad.csv.part"]
)
def test_score_refuses_input_that_is_a_link_to_what_it_would_write(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / name).write_text(TABLE)
    (tmp_path / "pupils.csv").symlink_to(tmp_path / name)
    with pytest.raises(InvalidInputError, match="Nothing was changed"):
        run(tmp_path / "pupils.csv", tmp_path / "scores.csv")
    assert (tmp_path / name).read_text() == TABLE


def test_score_replaces_output_only_when_overwrite_is_set(tmp_path: Path) -> None:
    source, target = tmp_path / "pupils.csv", tmp_path / "scores.csv"
    source.write_text(TABLE)
    target.write_text("something else")
    with pytest.raises(ConflictError, match="--overwrite"):
        run(source, target, overwrite=False)
    assert content_of(tmp_path) == {
        "pupils.csv": TABLE.encode(),
        "scores.csv": b"something else",
    }
    assert "1 pupils" in run(source, target).text
    assert target.read_text().splitlines()[1].startswith("2,A,")
    assert source.read_text() == TABLE
    assert set(content_of(tmp_path)) == {"pupils.csv", "scores.csv"}


def test_score_does_not_replace_rejects_that_a_person_may_be_correcting(tmp_path: Path) -> None:
    source, rejects = tmp_path / "pupils.csv", tmp_path / "scores.bad.csv"
    source.write_text(TABLE + line_of({**EXAMPLE, "age": 99}, "B"))
    rejects.write_text("corrected by hand")
    with pytest.raises(ConflictError, match=r"scores\.bad\.csv of another run"):
        run(source, tmp_path / "scores.csv", overwrite=False)
    assert rejects.read_text() == "corrected by hand"
    assert not (tmp_path / "scores.csv").exists()
    result = run(source, tmp_path / "scores.csv")
    assert (result.scored, result.rejected) == (1, 1)
    assert rejects.read_text().splitlines()[1].startswith("3,age,age: Input should be less than")


def test_score_names_columns_that_it_leaves_out(tmp_path: Path) -> None:
    source = tmp_path / "pupils.csv"
    source.write_text(TABLE.replace("\n", ",teacher\n", 1).rstrip("\n") + ",Ann\n")
    assert "Columns not used: teacher." in run(source, tmp_path / "scores.csv").text


@pytest.mark.parametrize("ending", [".csv", ".csv.gz", ".csv.zst", ".parquet"])
def test_score_writes_the_format_that_the_name_says(tmp_path: Path, ending: str) -> None:
    from pyarrow import csv, parquet

    source, target = tmp_path / "pupils.csv", tmp_path / f"scores{ending}"
    source.write_text(TABLE + line_of(EXAMPLE, "B"))
    run(source, target)
    found = parquet.read_table(target) if ending == ".parquet" else csv.read_csv(target)
    assert found.column("reference").to_pylist() == ["A", "B"]
    assert found.column_names == list(OUTPUT_COLUMNS)


@pytest.mark.parametrize(
    ("source", "target", "words"),
    [("pupils.txt", "out.csv", "ends in none of"), ("pupils.csv", "out.xlsx", "must be a .csv")],
)
def test_score_refuses_other_formats(tmp_path: Path, source: str, target: str, words: str) -> None:
    (tmp_path / source).write_text(TABLE)
    with pytest.raises(StudentSuccessError, match=words):
        run(tmp_path / source, tmp_path / target)


@pytest.fixture
def district(tmp_path: Path) -> Path:
    folder = tmp_path / "district"
    (folder / "north").mkdir(parents=True)
    for number, name in enumerate(("a.csv", "b.csv", "north/c.csv")):
        (folder / name).write_text(TABLE + line_of(EXAMPLE, f"P{number}") * number)
    return folder


def test_score_skips_finished_files_of_a_folder_when_run_again(
    district: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    assert run(district, out, overwrite=False).scored == 6
    expected = content_of(out)
    read: list[str] = []
    read_parts = bulk_run.read_parts

    def watched(path: Path, *arguments: Any) -> Any:
        read.append(path.name)
        return read_parts(path, *arguments)

    monkeypatch.setattr(bulk_run, "read_parts", watched)
    again = run(district, out, overwrite=False)
    assert (again.scored, read) == (6, [])
    assert "3 of 3 files were scored before" in again.text
    (district / "d.csv").write_text(TABLE)
    assert run(district, out, overwrite=False).scored == 7
    assert read == ["d.csv"]
    # Of a kill before a file is moved to its place, and while its end is noted.
    (out / "north" / "c.csv").rename(out / "north" / ".c.csv.part")
    with (out / JOURNAL).open("a") as journal:
        journal.write('{"output": "')
    (out / "a.csv").write_text("changed by hand")
    (out / "d.csv").unlink()
    (district / "d.csv").unlink()
    assert run(district, out, overwrite=True).scored == 6
    assert read == ["d.csv", "a.csv", "c.csv"]
    assert content_of(out) == expected
    run(district, out, overwrite=False)
    assert read == ["d.csv", "a.csv", "c.csv"]


@pytest.mark.parametrize("change", ["input", "model", "options"])
def test_score_does_not_mix_results_of_another_input_model_or_options(
    district: Path, tmp_path: Path, change: str
) -> None:
    out = tmp_path / "out"
    run(district, out, overwrite=False)
    before = content_of(out)
    options: dict[str, Any] = {"overwrite": False}
    if change == "input":
        (district / "a.csv").write_text(TABLE * 1 + line_of(EXAMPLE, "changed"))
    elif change == "model":
        options["model"] = str(SEED)
    else:
        options["with_inputs"] = True
    with pytest.raises(ConflictError, match="--overwrite"):
        run(district, out, **options)
    assert content_of(out) == before
    assert run(district, out, **{**options, "overwrite": True}).scored >= 6
    assert content_of(out) != before


def test_score_leaves_nothing_of_a_file_that_cannot_be_finished(
    district: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    read_parts = bulk_run.read_parts

    def changing(path: Path, *arguments: Any) -> Any:
        yield from read_parts(path, *arguments)
        if path.name == "b.csv":
            with path.open("a") as file:
                file.write(line_of(EXAMPLE, "late"))

    monkeypatch.setattr(bulk_run, "read_parts", changing)
    with pytest.raises(ConflictError, match=r"b\.csv changed while it was read"):
        run(district, out, overwrite=False)
    assert set(content_of(out)) == {"a.csv"}
    monkeypatch.undo()
    assert run(district, out, overwrite=False).scored == 7


def test_score_finishes_the_files_before_one_that_cannot_be_read(
    district: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_parts = bulk_run.read_parts

    def damaged(path: Path, *arguments: Any) -> Any:
        if path.name == "b.csv":
            raise DatasetError("b.csv cannot be read.")
        yield from read_parts(path, *arguments)

    monkeypatch.setattr(bulk_run, "read_parts", damaged)
    with pytest.raises(DatasetError, match=r"b\.csv"):
        run(district, tmp_path / "out")
    assert set(content_of(tmp_path / "out")) == {"a.csv"}


def test_score_refuses_output_that_another_run_writes(district: Path, tmp_path: Path) -> None:
    for source, target, journal in (
        (district, tmp_path / "out", tmp_path / "out" / JOURNAL),
        (district / "a.csv", tmp_path / "a.csv", tmp_path / f".a.csv{JOURNAL}"),
    ):
        journal.parent.mkdir(exist_ok=True)
        with journal.open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            with pytest.raises(BusyError, match="Another run"):
                run(source, target)
    assert content_of(tmp_path).keys() == {f"district/{name}" for name in content_of(district)}


def test_score_records_each_prediction_in_the_history_once(tmp_path: Path) -> None:
    source, target = tmp_path / "pupils.csv", tmp_path / "scores.csv"
    source.write_text(
        TABLE + line_of({**EXAMPLE, "G1": None, "G2": None}, "Élodie") + line_of({"age": 1}, "bad")
    )
    run(source, target, record="night-1")
    run(source, target, record="night-1", with_inputs=True)
    engine = connect(Settings(database_url=None, state_dir=tmp_path / "state").database)
    rows = History(engine).page(limit=10, session_id="night-1")
    engine.dispose()
    assert [row["reference"] for row in rows] == ["Élodie", "A"]
    with target.open(newline="") as file:
        written = list(csv.DictReader(file))
    for row, line in zip(reversed(rows), written, strict=True):
        assert line["session_id"] == row["session_id"]
        assert line["prediction_id"] == row["prediction_id"]
        assert float(line["predicted_G3"]) == row["predicted_G3"]
        assert line["model_version"] == row["model_version"] == "seed"
        assert (int(line["interval_low"]), line["horizon"]) == (
            row["interval"]["low"],
            row["horizon"],
        )
    pupil = StudentFeatures.model_validate(EXAMPLE)
    assert rows[1]["inputs_json"] == pupil.model_dump(mode="json", exclude={"reference"})
    assert rows[0]["inputs_json"] | {"G1": 10.0, "G2": 9.8} == rows[1]["inputs_json"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"record": "two words"}, "name of a session"),
        ({"record": "night", "model": str(SEED)}, "deployed version"),
    ],
)
def test_score_refuses_to_record_what_the_history_cannot_hold(
    tmp_path: Path, options: dict[str, str], words: str
) -> None:
    (tmp_path / "pupils.csv").write_text(TABLE)
    with pytest.raises(InvalidInputError, match=words):
        run(tmp_path / "pupils.csv", tmp_path / "scores.csv", **options)
    assert not (tmp_path / "scores.csv").exists()


@pytest.mark.parametrize(
    ("table", "options", "code"),
    [
        (TABLE, ["--strict"], ExitCode.DONE),
        (TABLE + line_of({"age": 1}, "bad"), [], ExitCode.DONE),
        (TABLE + line_of({"age": 1}, "bad"), ["--strict"], ExitCode.FAILED),
        (TABLE.splitlines()[0] + "\n", [], ExitCode.USAGE),
        (TABLE.splitlines()[0] + "\n" + line_of({"age": 1}, "bad"), [], ExitCode.USAGE),
    ],
)
def test_exit_status_says_whether_all_some_or_no_rows_were_scored(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    table: str,
    options: list[str],
    code: ExitCode,
) -> None:
    monkeypatch.setenv("STATE_DIR", str(tmp_path / "state"))
    source, target = tmp_path / "pupils.csv", tmp_path / "scores.csv"
    source.write_text(table)
    for _ in range(2):
        # Also where the file was scored before.
        assert main(["score", str(source), str(target), *options]) == code
        assert target.exists()


def test_score_command_imports_no_pandas(tmp_path: Path) -> None:
    (tmp_path / "pupils.csv").write_text(TABLE + line_of(EXAMPLE, 'quoted "reference"'))
    code = (
        "import sys; from student_success.cli.main import main; status = main(sys.argv[1:]); "
        "assert 'pandas' not in sys.modules; import pandas; sys.exit(status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "score", tmp_path / "pupils.csv", tmp_path / "scores.csv"],
        cwd=ROOT,
        env={**os.environ, "STATE_DIR": str(tmp_path / "state")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "2 pupils" in done.stdout


def test_default_workers_counts_cores_when_affinity_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert default_workers() == os.cpu_count()
