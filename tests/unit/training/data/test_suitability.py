"""Files from which nothing can be learnt: each is refused or remarked in one clear sentence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from student_success.core.configuration.settings import Settings
from student_success.core.errors import DatasetError
from training.data.dataset import SAMPLE, Dataset, hide_unrecorded, load, read

ROWS = 200
Change = Callable[[pd.DataFrame], pd.DataFrame]


def load_changed(folder: Path, change: Change) -> Dataset:
    """Load the first pupils of the sample after a change."""
    path = folder / "school.csv"
    change(pd.read_csv(SAMPLE, dtype=str).head(ROWS)).to_csv(path, index=False)
    return load(Settings(_env_file=None, data_path=path))  # type: ignore[call-arg]


def final(pupils: pd.DataFrame) -> pd.Series:
    return pupils["G3"].astype(int)


REFUSED: dict[str, tuple[Change, str]] = {
    "too few pupils": (
        lambda t: t.head(20),
        "It has 20 pupils with a G3; a training needs 50 or more. Add pupils of earlier years.",
    ),
    "everyone passes": (
        lambda t: t[final(t) >= 10],
        "Every pupil passes: a model cannot learn the difference. Add pupils who failed",
    ),
    "everyone fails": (
        lambda t: t.assign(G3="9"),
        "Every pupil fails: a model cannot learn the difference. Add pupils who passed",
    ),
    "a feature is the target": (
        lambda t: t.assign(absences=t["G3"]),
        "absences says the same as G3, so it was known only afterwards. Remove it",
    ),
    "a period is the target": (
        lambda t: t.assign(G2=t["G3"]),
        "G2 says the same as G3, so it was known only afterwards. Remove it",
    ),
    "a feature says who passed": (
        lambda t: t.assign(paid=(final(t) >= 10).map({True: "yes", False: "no"})),
        "paid says exactly who passed (0 to 20, pass mark 10), so it was known only afterwards.",
    ),
    "few outcomes are known": (
        lambda t: t.assign(G3=t["G3"].where(t.index < 30, "")),
        "170 of 200 pupils have no G3 and were left out. Fill in the grades that are known.",
    ),
    "no outcome is known": (
        lambda t: t.assign(G3=""),
        "No pupil of school.csv has a final grade (G3): nothing can be learnt. Fill in the column",
    ),
    "copies of few pupils": (
        lambda t: pd.concat([t.head(40)] * 5),
        "160 of 200 rows repeat another row and were left out: each pupil counts once.",
    ),
    "only titles": (lambda t: t.head(0), "The file has no rows below its titles."),
    "a grade off the scale": (
        lambda t: t.assign(G3=t["G3"].where(t.index > 0, "20.5")),
        "school.csv has 1 bad cell in 1 row; nothing was read.",
    ),
    "made for another profile": (
        lambda t: t[["age", "sex"]].rename(columns={"age": "years"}),
        "the file may be for another profile: set PROFILE_PATH to that one, or make one with",
    ),
    "two columns for one feature": (
        lambda t: t.assign(**{"Absences ": "1"}),
        "The columns of school.csv are not right: Absences has more than one column.",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_unsuitable_file_is_refused_with_what_to_do(kind: str, tmp_path: Path) -> None:
    change, sentence = REFUSED[kind]
    with pytest.raises(DatasetError) as caught:
        load_changed(tmp_path, change)
    assert sentence in caught.value.message
    assert str(tmp_path) not in caught.value.message


REMARKED: dict[str, tuple[Change, str, int]] = {
    "some outcomes are unknown": (
        lambda t: t.assign(G3=t["G3"].where(t.index < 150, "")),
        "50 of 200 pupils have no G3 and were left out. Fill in the grades that are known.",
        150,
    ),
    "some copies": (
        lambda t: pd.concat([t, t.head(10)]),
        "10 of 210 rows repeat another row and were left out: each pupil counts once. Remove the "
        "copies.",
        200,
    ),
    "copies under other numbers": (
        lambda t: pd.concat([t] * 3).assign(sex=["F", "M"] * 300, row=range(600)),
        "400 of 600 rows repeat another row and were left out: each pupil counts once. Remove the "
        "copies.",
        200,
    ),
    "copies with another value": (
        lambda t: pd.concat(
            [t, *(t.assign(absences=(t["absences"].astype(int) + n).astype(str)) for n in (1, 2))]
        ),
        "400 of 600 rows repeat another row and were left out: each pupil counts once. Remove the "
        "copies.",
        200,
    ),
    "constant features": (
        lambda t: t.assign(school="GP", age="16"),
        "The same for all pupils: school, age. Nothing is learnt from it. Remove it from the "
        "profile unless it will differ.",
        200,
    ),
    "a period without grades": (
        lambda t: t.assign(G2=""),
        "No pupil has a grade in G2, so the model is not judged for the time when it is known. Add "
        "these grades, or remove the period from the profile.",
        200,
    ),
}


@pytest.mark.parametrize("kind", REMARKED)
def test_doubtful_file_is_read_with_a_remark(kind: str, tmp_path: Path) -> None:
    change, sentence, rows = REMARKED[kind]
    data = load_changed(tmp_path, change)
    assert (data.rows, data.remarks) == (rows, (sentence,))
    assert len(data.frame) == len(data.audit) == rows
    assert data.describe()["remarks"] == [sentence]


def test_good_file_has_no_remark() -> None:
    data = load(Settings(_env_file=None, data_path=SAMPLE))  # type: ignore[call-arg]
    assert data.remarks == ()
    assert "remarks" not in data.describe()


def test_pupils_who_are_equal_by_chance_are_kept(tmp_path: Path) -> None:
    """With few columns of few values many pupils are equal and yet different people."""

    def few_values(pupils: pd.DataFrame) -> pd.DataFrame:
        varied = {"paid", "G1", "G2", "G3"}
        same = pupils.head(1).drop(columns=list(varied)).iloc[0]
        coarse = pupils.assign(**same)
        for grade in ("G1", "G2", "G3"):
            coarse[grade] = (coarse[grade].astype(int) // 7 * 7).astype(str)
        return coarse

    data = load_changed(tmp_path, few_values)
    assert data.rows == ROWS


def test_hide_unrecorded_hides_what_is_not_recorded_of_those_who_left() -> None:
    frame = read(SAMPLE).frame
    hidden = hide_unrecorded(frame)
    left = frame["G3"] == 0
    assert 0 < left.sum() < len(frame)
    assert hidden["absences"].isna().equals(left)
    assert hidden["absences"][~left].equals(frame["absences"][~left].astype(float))
    assert hidden.drop(columns="absences").equals(frame.drop(columns="absences"))
