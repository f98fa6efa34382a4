"""`profile draft` and `profile check`, as a school runs them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from student_success.cli.main import main
from student_success.core.paths import ROOT
from tests.schools import write_profile, write_pupils
from training.data.dataset import SAMPLE

SHIPPED = str(ROOT / "student_success" / "profiles" / "uci.toml")
pytestmark = pytest.mark.usefixtures("own_state")


@pytest.fixture
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATE_DIR", str(tmp_path / "state"))
    # The profile that is checked is the one that is named.
    monkeypatch.setenv("PROFILE_PATH", str(tmp_path / "absent.toml"))
    monkeypatch.chdir(tmp_path)


def test_check_describes_a_good_profile(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profile", "check", SHIPPED]) == 0
    output = capsys.readouterr()
    assert output.out == (
        "uci.toml: uci predicts G3 (0 to 20 in steps of 1, pass mark 10) from 15 features and 2 "
        "earlier grades.\n"
    )
    assert output.err == ""


def test_check_names_every_mistake_of_a_profile(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = Path(SHIPPED).read_text("utf-8").replace("pass_mark = 10", "pass_mark = 10.5")
    bad = tmp_path / "bad.toml"
    bad.write_text(text.replace("minimum = 15", "minimun = 15").replace("max_mae", "max_mea"))
    assert main(["profile", "check", str(bad)]) == 2
    error = capsys.readouterr().err
    assert "pass_mark is 10.5, which is no grade of this scale" in error
    assert "minimun: there is no such key" in error
    assert "max_mea: there is no such key" in error
    assert len([line for line in error.splitlines() if "there is no such key" in line]) == 2


def test_check_warns_of_a_sensitive_feature(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = Path(SHIPPED).read_text("utf-8").replace('"sex"', '"form"')
    profile = tmp_path / "school.toml"
    profile.write_text(text.replace("nursery", "gender"))
    assert main(["profile", "check", str(profile)]) == 0
    assert capsys.readouterr().err.startswith("Warning: gender looks sensitive")


def test_check_names_every_bad_cell_of_a_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    profile = write_profile(tmp_path / "school.toml", "lower-is-better")
    table = write_pupils(tmp_path / "pupils.csv", profile, pupils=60)
    header, first, second, *rest = table.read_text().splitlines()
    columns = header.split(",")

    def changed(line: str, **cells: str) -> str:
        return ",".join(
            cells.get(column, cell) for column, cell in zip(columns, line.split(","), strict=True)
        )

    first = changed(first, final="6.5", n0="31", track="other")
    second = changed(second, final="2.25", autumn="")
    table.write_text("\n".join([header, first, second, *rest]))
    assert main(["profile", "check", "school.toml", "pupils.csv"]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "Error: pupils.csv has 5 bad cells in 2 rows; nothing was read.",
        "  row 2, column final: Enter a possible final grade: from 1 to 6, in steps of 0.5.",
        "  row 2, column n0: Enter a whole number from 0 to 30.",
        "  row 2, column track: Enter one of these values: track-0, track-1, track-2.",
        "  row 3, column autumn: A grade is given without the one before it. Enter both, the first "
        "only, or neither.",
        "  row 3, column final: Enter a possible final grade: from 1 to 6, in steps of 0.5.",
    ]


def test_check_refuses_the_table_of_another_school(capsys: pytest.CaptureFixture[str]) -> None:
    write_profile(Path("school.toml"), "points")
    assert main(["profile", "check", "school.toml", str(SAMPLE)]) == 2
    assert "Most columns of the profile points are missing" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "pupils"), [("points", 300), ("many-schools", 3000), ("wide", 1000)]
)
def test_table_of_a_made_up_school_fits_its_profile(
    name: str, pupils: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    profile = write_profile(tmp_path / "school.toml", name)
    write_pupils(tmp_path / "pupils.csv", profile, pupils=pupils)
    assert main(["profile", "check", "school.toml", "pupils.csv", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["table"] == {"name": "pupils.csv", "rows": pupils}
    assert facts["warnings"] == []


@pytest.mark.parametrize("name", ["lower-is-better", "wide"])
def test_drafted_profile_fits_its_table(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    profile = write_profile(tmp_path / "true.toml", name)
    table = write_pupils(tmp_path / "pupils.csv", profile, pupils=600)
    text = (
        table.read_text()
        .replace("final", "Final grade (points)", 1)
        .replace("n0", "Heures à 8 h", 1)
    )
    table.write_text(text)
    draft = ["profile", "draft", "pupils.csv", "--target", "Final grade (points)", "-o", "a.toml"]
    assert main([*draft, f"--better={profile.grade.better}"]) == 0
    output = capsys.readouterr().out
    assert "a.toml: written. Read it, and correct the guesses that are wrong." in output
    assert "pupils.csv: 600 pupils can be trained on." in output


def test_draft_says_when_the_table_is_not_suitable_yet(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    profile = write_profile(tmp_path / "true.toml", "points")
    write_pupils(tmp_path / "pupils.csv", profile, pupils=30)
    assert main(["profile", "draft", "pupils.csv", "--target=final", "-o", "school.toml"]) == 2
    assert (tmp_path / "school.toml").exists()
    error = capsys.readouterr().err
    assert "The profile was written, but the table does not fit it yet." in error
    assert "It has 30 pupils with a final; a training needs 50 or more." in error
