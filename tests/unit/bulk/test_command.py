"""The command scores a file, and never replaces or deletes an input."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from student_success.bulk.command import ScoreOptions, score
from student_success.bulk.executors import default_workers
from student_success.core.errors import ConflictError, DatasetError, InvalidInputError
from student_success.core.settings import Settings
from student_success.domain.students import EXAMPLE
from student_success.domain.tables.columns import Choices
from tests.unit.bulk.test_rows import TITLES, line_of

TABLE = ",".join(TITLES) + "\n" + line_of(EXAMPLE, "A")


def run(source: Path, target: Path, **options: Any) -> str:
    defaults: dict[str, Any] = {"workers": 1, "model": "seed", "overwrite": True}
    chosen = ScoreOptions(input=source, output=target, **{**defaults, **options})
    return score(Settings(database_url=None), chosen)


def content_of(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


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
        (".scores.csv.scoring/pupils.csv", "scores.csv"),
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
        ".scores.csv.scoring/pupils.csv",
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(TABLE)
    before = content_of(tmp_path)
    with pytest.raises(InvalidInputError, match="output"):
        run(root / source, root / target)
    assert content_of(tmp_path) == before


def test_score_refuses_input_that_is_a_link_to_its_rejects(tmp_path: Path) -> None:
    (tmp_path / "scores.bad.csv").write_text(TABLE)
    (tmp_path / "pupils.csv").symlink_to(tmp_path / "scores.bad.csv")
    with pytest.raises(InvalidInputError, match="Nothing was changed"):
        run(tmp_path / "pupils.csv", tmp_path / "scores.csv")
    assert (tmp_path / "scores.bad.csv").read_text() == TABLE


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
    assert "1 pupils" in run(source, target)
    assert target.read_text().splitlines()[1].startswith("2,A,")
    assert source.read_text() == TABLE
    assert not (tmp_path / ".scores.csv.scoring").exists()


def test_default_workers_counts_cores_when_affinity_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert default_workers() == os.cpu_count()
