"""The form of another school: large numbers, numbers that are no grades, choices alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.schools import SCHOOLS, run_with_profile

_FILL = """
import json
import gradio as gr
from gradio_ui.tabs.pupil_form import KNOWN, PupilForm, read_form
from gradio_ui.texts import LANGUAGES, Texts
from student_success.domain.students import EXAMPLE

found = {}
for language in LANGUAGES:
    texts = Texts(language)
    with gr.Blocks():
        form = PupilForm(texts)
    filled = form.fill({**EXAMPLE, KNOWN: "none"})
    values = {name: filled[field]["value"] for name, field in form.fields.items()}
    body, problems = read_form(texts, values)
    _, wrong = read_form(texts, values | {"n0": "x", "n1": "x"})
    read = {}
    for word in ("Sci", "sci", "SCI", "art", "Art"):
        body_, problems_ = read_form(texts, values | {"track": word})
        read[word] = None if problems_ else body_["track"]
    helps = {name: field.info for name, field in form.fields.items() if name in EXAMPLE}
    found[language] = [body["n0"], body["n1"], problems, wrong, read, helps]
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def forms(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    text = SCHOOLS["lower-is-better"].replace("maximum = 30", "maximum = 2000000", 1)
    text = text.replace('"track-0", "track-1", "track-2"', '"Sci", "sci", "art"')
    profile: Path = tmp_path_factory.mktemp("school") / "school.toml"
    profile.write_text(f"{text}\n[example]\nn0 = 1250000\nn1 = 0.25\n", "utf-8")
    found: dict[str, list[Any]] = run_with_profile(profile, _FILL)
    return found


@pytest.mark.parametrize("language", ["en", "fr"])
def test_example_of_large_numbers_is_read_as_it_was_filled_in(
    forms: dict[str, list[Any]], language: str
) -> None:
    whole, number, problems, *_ = forms[language]
    assert (whole, number, problems) == (1250000, 0.25, {})


def test_problem_of_a_number_names_its_bounds_and_no_grade(forms: dict[str, list[Any]]) -> None:
    assert forms["en"][3] == {
        "n0": "Enter a whole number from 0 to 2000000.",
        "n1": "Enter a number from 0 to 1; decimals are allowed.",
    }
    assert forms["fr"][3]["n1"].startswith("Indiquez un nombre de 0 à 1")


def test_choice_that_differs_from_another_in_case_only_is_read_as_written(
    forms: dict[str, list[Any]],
) -> None:
    expected = {"Sci": "Sci", "sci": "sci", "SCI": None, "art": "art", "Art": "art"}
    assert forms["en"][4] == expected


def test_label_is_not_repeated_as_help(forms: dict[str, list[Any]]) -> None:
    assert set(forms["en"][5].values()) == {""}


_SHARED = """
import json
from gradio_ui.files.class_file import pupils_of, read_class_table
from student_success.domain.tables.columns import Choices

content = b"reference;n0;n2;n3;track;Mark\\nP-1;1;2;0.5;art;2.5\\nP-2;1;2;0.5;art;3"
content = content.replace(b"n0;", b"n0;n1;").replace(b";1;2", b";1;0.5;2")
found = [pupils_of(read_class_table(content, c)) for c in (None, Choices({"Mark": "autumn"}))]
print(json.dumps([
    [str(problem) for problem in found[0].invalid], len(found[0].pupils),
    [pupil.features.get("autumn") for pupil in found[1].pupils],
    [pupil.features.get("winter") for pupil in found[1].pupils],
]))
"""


def test_title_that_names_two_periods_is_not_read_as_both(tmp_path: Path) -> None:
    text = SCHOOLS["lower-is-better"].replace('"track-0", "track-1", "track-2"', '"sci", "art"')
    for period in ("autumn", "winter"):
        text = text.replace(f'label = "Grade {period}"', 'label = "Mark"')
    (tmp_path / "school.toml").write_text(text, "utf-8")
    assert run_with_profile(tmp_path / "school.toml", _SHARED) == [
        *(["Mark: This title names several expected columns. Say which one it is."], 0),
        *([2.5, 3], [None, None]),
    ]


_ROUND = """
import json
from gradio_ui.html.grade_scale import round_grade, rounded_estimate
from gradio_ui.html.result import chance_in_words
from gradio_ui.texts import Texts

texts = Texts("en")
prediction = {"pass_probability": 0.97, "interval": {"low": 0.7, "high": 1.5}}
print(json.dumps([
    round_grade(0.65), rounded_estimate(texts, 0.65), rounded_estimate(texts, 0.7),
    chance_in_words(texts, prediction) == texts("chance.sure"),
]))
"""


def test_grade_in_steps_of_a_tenth_is_shown_as_it_decides(tmp_path: Path) -> None:
    """0.7 / 0.1 is a little less than 7: a grade that passes was shown as one that fails."""
    scale = "minimum = 0\nmaximum = 10\nstep = 0.1\npass_mark = 0.7"
    text = SCHOOLS["many-schools"].replace("minimum = 0\nmaximum = 10\npass_mark = 5", scale, 1)
    (tmp_path / "school.toml").write_text(text, "utf-8")
    found = run_with_profile(tmp_path / "school.toml", _ROUND)
    assert found == [0.7, "0.65 (rounds to 0.7)", "0.70", True]


_RANK = """
import json
from gradio_ui.files.rows import ScoredPupil
from gradio_ui.html.class_list import sort_by_risk
from student_success.domain.tables.pupils import Pupil

prediction = {
    "interval": {"low": 5, "high": 6}, "pass_probability": 0.0, "decision": "echec",
    "at_risk": True, "horizon": "none", "model_version": "1", "prediction_id": "", "session_id": "",
}
scored = [
    ScoredPupil.from_prediction(Pupil(line, "", {}), prediction | {"predicted_final": grade})
    for line, grade in ((2, 5.2), (3, 5.9), (4, 5.5))
]
print(json.dumps([pupil.pupil.line for pupil in sort_by_risk(scored)]))
"""


def test_worst_grade_comes_first_of_pupils_with_one_chance(tmp_path: Path) -> None:
    (tmp_path / "school.toml").write_text(SCHOOLS["lower-is-better"], "utf-8")
    assert run_with_profile(tmp_path / "school.toml", _RANK) == [3, 4, 2]
