from __future__ import annotations

import gc
from html import escape
from typing import Any
from xml.etree import ElementTree

import pytest

from gradio_ui.api_client import ApiError
from gradio_ui.files.rows import Pupil, Scored
from gradio_ui.html import class_list, explanation, models, result
from gradio_ui.html.grade_scale import grade_scale, over_time
from gradio_ui.html.markup import failure, table
from gradio_ui.tabs import history, monitoring
from gradio_ui.tabs.pupil_form import GRADES, KNOWN, REFERENCE, Form
from gradio_ui.texts import LANGUAGES, Language, Words
from student_success.domain.students import EXAMPLE, FEATURE_NAMES, FEATURES, Horizon

ATTACK = "<img src=x onerror=alert(1)>\"'"
ANSWER: dict[str, Any] = {
    "prediction_id": "p",
    "session_id": "s",
    "predicted_G3": 9.6,
    "decision": "reussite",
    "threshold": 10.0,
    "pass_probability": 0.57,
    "interval": {"low": 8, "high": 11, "level": 0.9},
    "horizon": "G1+G2",
    "at_risk": True,
    "model_version": "3",
    "mlflow_model_version": "3",
    "timestamp": "2026-11-23T08:00:00Z",
}


@pytest.fixture(params=LANGUAGES)
def words(request: pytest.FixtureRequest) -> Words:
    language: Language = request.param
    return Words(language)


def _scored(reference: str = "", **changes: Any) -> Scored:
    return Scored.of(Pupil(2, reference, dict(EXAMPLE)), {**ANSWER, **changes})


# Gradio leaves the event loops open that a page was laid out with.
@pytest.mark.filterwarnings(
    "ignore:unclosed:ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
def test_the_form_has_every_feature_in_a_group_and_none_besides(words: Words) -> None:
    import gradio as gr

    form = Form(words)
    with gr.Blocks(analytics_enabled=False) as page:
        form.build()
    del page
    gc.collect()
    assert set(form.fields) == {*FEATURE_NAMES, KNOWN, REFERENCE}
    for feature in FEATURES:
        field = form.fields[feature.name]
        assert field.label == words.of(feature.about.label)
        assert field.info == words.of(feature.about.help)


@pytest.mark.parametrize("horizon", list(Horizon))
def test_the_form_sends_only_the_grades_that_are_known(words: Words, horizon: Horizon) -> None:
    values = {**EXAMPLE, KNOWN: horizon.value, REFERENCE: " A-1 "}
    body, bad = Form(words).read(values)
    assert bad == {}
    assert body[REFERENCE] == "A-1"
    known = {"none": (), "G1": ("G1",), "G1+G2": GRADES}[horizon.value]
    assert [name for name in GRADES if body.get(name) is not None] == list(known)


@pytest.mark.parametrize(
    ("field", "value", "key"),
    [
        ("age", "", "cell.fill"),
        ("age", "14", "cell.whole"),
        ("age", "dix-sept", "cell.whole"),
        ("age", "17,5", "cell.whole"),
        ("G1", "21", "cell.grade"),
        ("G1", "", "cell.give_grade"),
        ("G2", "nan", "cell.give_grade"),
        ("G2", "inf", "cell.grade"),
        ("reason", None, "cell.choose"),
        ("reference", "x" * 65, "cell.reference"),
    ],
)
def test_a_bad_field_is_named_in_the_readers_language(
    words: Words, field: str, value: str | None, key: str
) -> None:
    values = {**EXAMPLE, KNOWN: "G1+G2", REFERENCE: "", field: value}
    _, bad = Form(words).read(values)
    assert set(bad) == {field}
    assert bad[field] == words(key, low={"age": 15}.get(field, 0), high={"age": 22}.get(field, 20))


def test_a_decimal_comma_is_a_point(words: Words) -> None:
    body, bad = Form(words).read({**EXAMPLE, "G1": "10,5", KNOWN: "G1", REFERENCE: ""})
    assert bad == {}
    assert body["G1"] == 10.5


def test_the_answer_shows_grade_interval_chance_and_alarm(words: Words) -> None:
    html = result.card(words, EXAMPLE, ANSWER)
    assert words.number(9.6) in html
    assert words("result.pass") in html
    assert words("chance.open") in html
    assert escape(words("result.alarm")) in html
    assert words("notfor.rank") in html
    assert html.count("<svg") == 1


@pytest.mark.parametrize("probability", [0.0, 0.2, 0.4, 0.6, 0.8, 0.95, 1.0])
def test_every_probability_has_words(words: Words, probability: float) -> None:
    assert result.chance_in_words(words, probability)


@pytest.mark.parametrize(("grade", "low", "high"), [(0, 0, 0), (9.5, 8, 11), (20, 20, 20)])
def test_the_scale_is_sound_svg_and_says_itself_in_words(
    words: Words, grade: float, low: int, high: int
) -> None:
    svg = grade_scale(words, grade=grade, low=low, high=high, passes=grade >= 9.5)
    root = ElementTree.fromstring(svg)
    assert root.attrib["role"] == "img"
    assert words.number(grade) in root.attrib["aria-label"]
    for rect in root.iter("rect"):
        assert float(rect.attrib["width"]) > 0
        assert 0 <= float(rect.attrib["x"]) <= 400


def test_a_history_of_one_can_be_drawn(words: Words) -> None:
    ElementTree.fromstring(over_time(words, [("now", 9.0, False, 12)]))


def test_nothing_a_person_or_the_api_writes_becomes_markup(words: Words) -> None:
    row = {
        **ANSWER,
        "id": 1,
        "reference": ATTACK,
        "actual_G3": None,
        "inputs_json": dict(EXAMPLE),
    }
    condition = {"name": ATTACK, "passed": False, "value": 1.0, "limit": 1.0, "detail": ATTACK}
    deployment = {
        "at": "2026-11-23T08:00:00Z",
        "action": "promote",
        "actor": ATTACK,
        "reason": ATTACK,
        "from_version": ATTACK,
        "to_version": ATTACK,
    }
    version = {"version": ATTACK, "best_model": ATTACK, "dataset": {"name": ATTACK}}
    pieces = [
        table(words, ATTACK, [ATTACK], [[ATTACK]]),
        class_list.ranking(words, [(1, _scored(ATTACK))], 0),
        history._table(words, [row]),
        explanation.reasons(
            words,
            {
                "reasons": {"fr": [ATTACK], "en": [ATTACK]},
                "what_if": [{"change": ATTACK, "predicted_G3": 1.0, "pass_probability": 0.1}],
            },
        ),
        models.conditions(words, 1, {"passed": False, "conditions": [condition]}),
        models.log(words, [deployment]),
        models.versions(words, [version], {}),
        models.job(words, {"state": "failed", "error": ATTACK}),
        models.job(words, {"state": "running", "progress": {"step": ATTACK}}),
        failure(words, ApiError("x", 500, ATTACK, request_id=ATTACK)),
    ]
    for piece in pieces:
        assert "<img" not in piece
        assert ATTACK not in piece


def test_pupils_are_ranked_by_risk_and_can_be_filtered() -> None:
    safe = _scored("safe", pass_probability=0.9, at_risk=False)
    lost = _scored("lost", pass_probability=0.1, decision="echec", predicted_G3=5.0)
    ranked = class_list.ranked([safe, lost])
    assert [one.pupil.reference for one in ranked] == ["lost", "safe"]
    assert [rank for rank, _ in class_list.chosen(ranked, "pass", "")] == [2]
    assert [rank for rank, _ in class_list.chosen(ranked, "fail", "")] == [1]
    assert [rank for rank, _ in class_list.chosen(ranked, "at_risk", "")] == [1]
    assert [rank for rank, _ in class_list.chosen(ranked, "all", "SAF")] == [2]


def test_the_what_if_of_the_contract_is_said_in_words(words: Words) -> None:
    told = {
        "reasons": {"fr": ["un", "deux", "trois", "quatre"], "en": ["a", "b", "c", "d"]},
        "what_if": [
            {"change": {"studytime": 3}, "predicted_G3": 11.0, "pass_probability": 0.9},
            {"change": {"unheard_of": 3}, "predicted_G3": 11.0, "pass_probability": 0.9},
        ],
    }
    html = explanation.reasons(words, told)
    assert html.count("<li>") == 4
    studytime = next(feature for feature in FEATURES if feature.name == "studytime")
    assert studytime.about.choices is not None
    assert words.of(studytime.about.choices[3]) in html


def test_drift_is_shown_feature_by_feature(words: Words) -> None:
    entry = {"distance": 0.2, "p_adjusted": 0.01, "count": 120, "verdict": "drift"}
    html = monitoring._drift(
        words, {"features": {"age": entry}, "predictions": {**entry, "verdict": "stable"}}
    )
    assert words("drift.drift") in html
    assert words("drift.stable") in html


def test_the_live_figures_are_read_from_the_metrics(words: Words) -> None:
    text = (
        "# HELP student_success_predictions_total x\n"
        'student_success_predictions_total{decision="reussite",horizon="G1"} 3.0\n'
        'student_success_predictions_total{decision="echec",horizon="G1"} 2.0\n'
        'student_success_live_mae{horizon="G1"} 1.25\n'
        'student_success_live_mae{horizon="none"} NaN\n'
        "student_success_live_interval_coverage 0.9\n"
    )
    html = monitoring._live(words, text)
    assert ">5<" in html
    assert words.number(1.25, 2) in html
    assert words.percent(0.9) in html


def test_fairness_that_holds_is_folded_away_and_what_does_not_is_shown(words: Words) -> None:
    names = ("fairness.sex=F.mae.G1", "fairness.sex=M.mae.G1")
    listed = [
        {"name": name, "passed": name == names[0], "value": 0.1, "limit": 0.5, "detail": ""}
        for name in names
    ]
    html = models.conditions(words, 4, {"passed": False, "conditions": listed})
    shown, folded = html.split("<details>")
    assert "sex=M" in shown
    assert "sex=F" in folded
    assert words("gate.fair", count=1) in folded


def test_a_refused_condition_comes_first(words: Words) -> None:
    good = {"name": "mae", "passed": True, "value": 0.9, "limit": 1.0, "detail": ""}
    bad = {"name": "r2", "passed": False, "value": 0.7, "limit": 0.8, "detail": ""}
    html = models.conditions(words, 4, {"passed": False, "conditions": [good, bad]})
    assert html.index(words("gate.no")) < html.index(words("gate.yes"))
