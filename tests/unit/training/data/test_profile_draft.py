"""The drafted profile: what it makes of each kind of column, and that it says why."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from student_success.core.errors import ConfigurationError, DatasetError
from student_success.domain.profile import FeatureSpec, Profile
from tests.schools import SCHOOLS, write_profile, write_pupils
from training.data.profile_draft import draft

PUPILS = 400
Column = Callable[[int, float, Random], Any]
"""Called with the number of a pupil, the merit from 0 to 1, and a source of randomness."""


def write(path: Path, columns: dict[str, Column], *, separator: str = ",") -> Path:
    random = Random(3)
    with path.open("w", encoding="utf-8", newline="") as file:
        out = csv.writer(file, delimiter=separator)
        out.writerow(columns)
        for number in range(PUPILS):
            merit = random.random()
            out.writerow([make(number, merit, random) for make in columns.values()])
    return path


def final(number: int, merit: float, random: Random) -> Any:
    return round(20 * merit)


def hours(number: int, merit: float, random: Random) -> Any:
    return random.randint(2, 11)


def drafted(tmp_path: Path, columns: dict[str, Column], **options: Any) -> tuple[Profile, str]:
    table = write(tmp_path / "our school 2025.csv", columns)
    target = next(iter(columns))
    profile = draft(table, target, tmp_path / "school.toml", **options)
    return profile, (tmp_path / "school.toml").read_text("utf-8")


def feature(profile: Profile, column: str) -> FeatureSpec:
    return next(feature for feature in profile.feature if feature.column == column)


def test_draft_names_the_profile_after_the_file_and_the_target(tmp_path: Path) -> None:
    profile, text = drafted(tmp_path, {"final": final, "hours": hours})
    assert (profile.name, profile.title.en) == ("our-school-2025", "our school 2025")
    assert (profile.grade.column, profile.grade.label.en) == ("final", "Final")
    assert text.startswith("# Drafted from our school 2025.csv.")


@pytest.mark.parametrize(
    ("grades", "scale"),
    [
        (lambda n, m, r: round(20 * m), (0, 20, 1)),
        (lambda n, m, r: round(39 * m), (0, 40, 1)),
        (lambda n, m, r: round(200 * m) / 2, (0, 100, 0.5)),
        (lambda n, m, r: round(40 * m) / 10, (0, 4, 0.1)),
        (lambda n, m, r: 1 + round(10 * m) / 2, (1, 6, 0.5)),
        (lambda n, m, r: round(8 + 10 * m), (0, 20, 1)),
        (lambda n, m, r: round(20 * m - 10), (-10, 10, 1)),
    ],
)
def test_draft_finds_the_scale_of_the_target(
    grades: Column, scale: tuple[float, float, float], tmp_path: Path
) -> None:
    grade = drafted(tmp_path, {"final": grades, "hours": hours})[0].grade
    assert (grade.minimum, grade.maximum, grade.step) == scale


def test_draft_finds_which_end_is_better_by_absences(tmp_path: Path) -> None:
    columns: dict[str, Column] = {
        "mark": lambda n, m, r: 1 + round(10 * m) / 2,
        "absences": lambda n, m, r: round(10 * m + r.random()),
    }
    profile, text = drafted(tmp_path, columns)
    assert profile.grade.better == "lower"
    assert 'better = "lower"  # more of absences goes with higher numbers' in text
    assert '# monotone = "lowers"  # uncomment it' in text


def test_draft_takes_what_is_given(tmp_path: Path) -> None:
    profile, text = drafted(
        tmp_path, {"final": final, "hours": hours}, pass_mark=12, better="higher"
    )
    assert profile.grade.pass_mark == 12
    assert re.search(r"pass_mark = 12  # as given; \d+% of the pupils reach it", text)


def test_pass_mark_lets_some_pass_and_some_fail(tmp_path: Path) -> None:
    columns: dict[str, Column] = {"final": lambda n, m, r: round(12 + 7 * m), "hours": hours}
    profile, text = drafted(tmp_path, columns)
    assert 12 < profile.grade.pass_mark <= 19
    assert "so the lower quarter fails" in text


def test_grade_of_those_who_left_is_found_with_what_is_not_recorded(tmp_path: Path) -> None:
    def left(number: int) -> bool:
        return number % 12 == 0

    columns: dict[str, Column] = {
        "final": lambda n, m, r: 0 if left(n) else round(6 + 14 * m),
        "absences": lambda n, m, r: 0 if left(n) else r.randint(0, 20),
        "hours": hours,
    }
    profile, text = drafted(tmp_path, columns)
    assert profile.grade.not_finished == 0
    assert profile.training.unrecorded_when_not_finished == ("absences",)
    assert "they seem to have left" in text


def test_periods_are_found_in_order_and_on_their_own_scale(tmp_path: Path) -> None:
    columns: dict[str, Column] = {
        "final": final,
        "autumn": lambda n, m, r: round(20 * min(max(m + r.gauss(0, 0.1), 0), 1)),
        "winter": lambda n, m, r: round(20 * min(max(m + r.gauss(0, 0.05), 0), 1)),
        "prior_gpa": lambda n, m, r: round(4 * min(max(m + r.gauss(0, 0.2), 0), 1), 2),
        "hours": hours,
    }
    profile, text = drafted(tmp_path, columns)
    assert [p.column for p in profile.period] == ["prior_gpa", "autumn", "winter"]
    assert (profile.period[0].minimum, profile.period[0].maximum) == (0, 4)
    assert profile.period[1].minimum is None
    assert "# on the target's scale, correlation 0.9" in text


def test_period_known_without_the_one_before_is_a_feature(tmp_path: Path) -> None:
    columns: dict[str, Column] = {
        "final": final,
        "autumn": lambda n, m, r: "" if n % 5 == 0 else round(16 * m + 4 * r.random()),
        "winter": lambda n, m, r: round(15 * m + 5 * r.random()),
    }
    profile, _ = drafted(tmp_path, columns)
    assert [p.column for p in profile.period] == ["autumn"]
    assert feature(profile, "winter").kind == "integer"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (lambda n, m, r: r.randint(1, 4), ("integer", 1, 4, "linear")),
        (lambda n, m, r: r.randint(0, 1), ("integer", 0, 1, "linear")),
        (lambda n, m, r: r.randint(0, 2), ("integer", 0, 3, "linear")),
        (lambda n, m, r: r.randint(0, 4), ("integer", 0, 5, "linear")),
        (lambda n, m, r: r.randint(15, 22), ("integer", 13, 24, "linear")),
        (lambda n, m, r: int(r.expovariate(0.3) ** 2), ("integer", 0, None, "log")),
        (lambda n, m, r: round(r.random(), 3), ("number", 0, 1, "linear")),
        (lambda n, m, r: round(100 * r.random(), 1), ("number", 0, 100, "linear")),
        (lambda n, m, r: r.choice(["a", "b", "c"]), ("category", None, None, "linear")),
        (lambda n, m, r: r.randint(-3, 3), ("integer", -5, 5, "linear")),
    ],
)
def test_kind_and_bounds_of_a_feature(
    values: Column, expected: tuple[str, float | None, float | None, str], tmp_path: Path
) -> None:
    found = feature(drafted(tmp_path, {"final": final, "thing": values})[0], "thing")
    kind, low, high, scale = expected
    assert (found.kind, found.minimum, found.scale) == (kind, low, scale)
    assert high is None or found.maximum == high
    assert not found.nullable


def test_empty_cells_make_a_feature_nullable(tmp_path: Path) -> None:
    columns: dict[str, Column] = {
        "final": final,
        "hours": lambda n, m, r: ["", "NA", "n/a", 4, 5, 9][n % 6],
        "track": lambda n, m, r: ["", "a", "b"][n % 3],
    }
    profile, text = drafted(tmp_path, columns)
    assert feature(profile, "hours").nullable
    assert [choice.value for choice in feature(profile, "track").choices] == ["a", "b"]
    assert "nullable = true  # 201 cells are empty" in text


def test_sensitive_columns_references_and_useless_ones_are_no_features(tmp_path: Path) -> None:
    columns: dict[str, Column] = {
        "final": final,
        "hours": hours,
        "Sexe": lambda n, m, r: r.choice("FM"),
        "is_male": lambda n, m, r: r.choice([0, 1]),
        "black": lambda n, m, r: r.choice([0, 1]),
        "blackboard": hours,
        "Student ID": lambda n, m, r: f"S-{n:05d}",
        "Name": lambda n, m, r: f"Pupil {n}",
        "remark": lambda n, m, r: f"{'x' * 120} {n % 7}",
        "year": lambda n, m, r: 2025,
        "twice": lambda n, m, r: 2 * round(20 * m),
        "nothing": lambda n, m, r: "",
    }
    profile, text = drafted(tmp_path, columns)
    assert [f.column for f in profile.feature] == ["hours", "blackboard"]
    assert profile.audit.columns == ("Sexe", "is_male", "black")
    assert profile.reference.also == ("Student ID",)
    for line in (
        "# Name: it seems to name or reach a person, which a model must not know",
        "# remark: it holds free text",
        "# year: it is the same for all pupils",
        "# twice: it says the same as the target, so it was known only afterwards",
        "# nothing: it is empty",
    ):
        assert line in text.splitlines()


def test_titles_that_are_no_column_names_are_mapped(tmp_path: Path) -> None:
    columns: dict[str, Column] = {
        "Note finale (sur 20)": final,
        "Heures d'étude": hours,
        "Heures_d_etude": hours,
        "2nd": hours,
        "last": hours,
        'odd "title"\n# x': hours,
    }
    profile, _ = drafted(tmp_path, columns)
    assert profile.grade.column == "Note_finale_sur_20"
    assert profile.grade.also == ("Note finale (sur 20)",)
    assert [(f.column, f.also) for f in profile.feature] == [
        ("Heures_d_etude_2", ("Heures d'étude",)),
        ("Heures_d_etude", ()),
        ("c_2nd", ("2nd",)),
        ("c_last", ("last",)),
        ("odd_title_x", ('odd "title"\n# x',)),
    ]


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        ({"final": lambda n, m, r: "ABCD"[n % 4], "hours": hours}, "final holds text, and a grade"),
        ({"final": lambda n, m, r: 7, "hours": hours}, "fewer than two different grades"),
        (
            {"final": lambda n, m, r: round(1e6 * m), "hours": hours},
            "divide them by 1,000 first",
        ),
        ({"final": final, "Name": lambda n, m, r: f"P{n}"}, "No column of our school 2025.csv can"),
    ],
)
def test_table_without_a_usable_target_or_feature_is_refused(
    columns: dict[str, Column], sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(DatasetError) as caught:
        drafted(tmp_path, columns)
    assert sentence in caught.value.message
    assert not (tmp_path / "school.toml").exists()


@pytest.mark.parametrize(
    ("grade", "expected"),
    [
        (lambda m: m, (1, 0.01, True)),
        (lambda m: round(99.5 * m, 2), (100, 0.1, True)),
        (lambda m: round(5000 * m), (5000, 5, True)),
        (lambda m: 10 * round(160 * m), (2000, 10, False)),
        # A program that keeps single-precision numbers writes 2.04 like this.
        (lambda m: float(np.float32(round(4 * m, 2))), (4, 0.01, False)),
    ],
)
def test_scale_of_fine_grades_has_at_most_1001_and_rounds_where_it_must(
    grade: Callable[[float], float], expected: tuple[float, float, bool], tmp_path: Path
) -> None:
    columns: dict[str, Column] = {"final": lambda n, m, r: grade(m), "hours": hours}
    profile, _ = drafted(tmp_path, columns)
    assert (profile.grade.maximum, profile.grade.step, profile.grade.rounded) == expected
    assert profile.grade.scale.highest <= 1000


def test_unknown_target_is_refused_with_the_titles_there_are(tmp_path: Path) -> None:
    table = write(tmp_path / "t.csv", {"final": final, "hours": hours})
    with pytest.raises(DatasetError, match=r"no column G3\. Its columns: final, hours\."):
        draft(table, "G3", tmp_path / "school.toml")


def test_existing_profile_is_kept(tmp_path: Path) -> None:
    columns: dict[str, Column] = {"final": final, "hours": hours}
    drafted(tmp_path, columns)
    with pytest.raises(ConfigurationError, match="exists and was not changed"):
        drafted(tmp_path, columns, pass_mark=12)
    assert drafted(tmp_path, columns, pass_mark=12, overwrite=True)[0].grade.pass_mark == 12


@pytest.mark.parametrize("name", SCHOOLS)
def test_draft_finds_grade_and_periods_of_a_made_up_school(name: str, tmp_path: Path) -> None:
    true = write_profile(tmp_path / "true.toml", name)
    table = write_pupils(tmp_path / "pupils.csv", true, pupils=4000)
    # No absences tell here which end of the scale is the better one.
    guess = draft(table, "final", tmp_path / "guess.toml", better=true.grade.better)
    for key in ("minimum", "maximum", "step"):
        assert getattr(guess.grade, key) == getattr(true.grade, key)
    assert {p.column for p in guess.period} <= {p.column for p in true.period}
    assert {p.column for p in true.period} - {"prior"} == {p.column for p in guess.period}
    kinds = {f.column: f.kind for f in guess.feature if f.column != "prior"}
    assert kinds == {f.column: f.kind for f in true.feature}
    assert guess.audit.columns == true.audit.columns


def test_draft_leaves_out_columns_without_a_title(tmp_path: Path) -> None:
    table = write(tmp_path / "pupils.csv", {"final": final, "hours": hours, "a": hours, "b": hours})
    text = table.read_text("utf-8").replace("final,hours,a,b", "final,hours,,", 1)
    table.write_text(text, "utf-8")
    profile = draft(table, "final", tmp_path / "school.toml")
    assert [feature.column for feature in profile.feature] == ["hours"]


def test_draft_refuses_two_columns_of_one_title(tmp_path: Path) -> None:
    table = write(tmp_path / "pupils.csv", {"final": final, "Hours": hours, "hours": hours})
    with pytest.raises(DatasetError, match=r"pupils.csv has two columns hours\. Rename or remove"):
        draft(table, "final", tmp_path / "school.toml")
    assert not (tmp_path / "school.toml").exists()


def test_draft_refuses_a_pass_mark_that_is_no_grade(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"pass_mark is 10\.3, which is no grade"):
        drafted(tmp_path, {"final": final, "hours": hours}, pass_mark=10.3)
    assert not (tmp_path / "school.toml").exists()


def test_draft_gives_a_column_another_name_than_those_of_the_program(tmp_path: Path) -> None:
    profile, _ = drafted(tmp_path, {"final": final, "horizon": hours, "model_dump": hours})
    assert [feature.column for feature in profile.feature] == ["c_horizon", "c_model_dump"]
