from __future__ import annotations

import gc
import re
from datetime import UTC, datetime, timedelta
from html import escape, unescape
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from gradio_ui.api_client import ApiError
from gradio_ui.files.rows import Pupil, ScoredPupil
from gradio_ui.html import class_list, explanation, models, monitoring, result
from gradio_ui.html.grade_scale import distribution, grade_scale, round_grade, rounded_estimate
from gradio_ui.html.history import history_table
from gradio_ui.html.markup import api_error, table
from gradio_ui.html.model_charts import model_charts
from gradio_ui.tabs.pupil_form import KNOWN, REFERENCE, PupilForm, read_form
from gradio_ui.texts import LANGUAGES, Language, Texts
from student_success.core.paths import ROOT
from student_success.domain.students import (
    EXAMPLE,
    FEATURE_NAMES,
    FEATURES,
    PERIODS,
    Horizon,
    StudentFeatures,
)
from student_success.model.predictor import Predictor
from training.data.dataset import read

CHANCES = ("sure", "likely", "rather", "open", "doubtful", "unlikely")

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
def texts(request: pytest.FixtureRequest) -> Texts:
    language: Language = request.param
    return Texts(language)


def _scored(reference: str = "", **changes: Any) -> ScoredPupil:
    return ScoredPupil.from_prediction(Pupil(2, reference, dict(EXAMPLE)), {**ANSWER, **changes})


# Gradio leaves the event loops open that a page was laid out with.
@pytest.mark.filterwarnings(
    "ignore:unclosed:ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
def test_pupil_form_contains_every_feature_once(texts: Texts) -> None:
    import gradio as gr

    with gr.Blocks(analytics_enabled=False) as page:
        form = PupilForm(texts)
    del page
    gc.collect()
    assert set(form.fields) == {*FEATURE_NAMES, KNOWN, REFERENCE}
    for feature in FEATURES:
        field = form.fields[feature.name]
        assert field.label == texts.choose(feature.about.label)
        assert field.info == texts.choose(feature.about.help)


@pytest.mark.parametrize("horizon", list(Horizon))
def test_read_form_returns_only_known_grades(texts: Texts, horizon: Horizon) -> None:
    values = {**EXAMPLE, KNOWN: horizon.value, REFERENCE: " A-1 "}
    body, bad = read_form(texts, values)
    assert bad == {}
    assert body[REFERENCE] == "A-1"
    known = {"none": (), "G1": ("G1",), "G1+G2": PERIODS}[horizon.value]
    assert [name for name in PERIODS if body.get(name) is not None] == list(known)


@pytest.mark.parametrize(
    ("field", "value", "key"),
    [
        ("age", "", "cell.fill"),
        ("age", "14", "problem.whole"),
        ("age", "dix-sept", "problem.whole"),
        ("age", "17,5", "problem.whole"),
        ("G1", "21", "problem.grade"),
        ("G1", "", "cell.give_grade"),
        ("G2", "nan", "cell.give_grade"),
        ("G2", "inf", "problem.grade"),
        ("school", None, "cell.choose"),
        ("reference", "x" * 65, "problem.reference"),
    ],
)
def test_read_form_explains_invalid_field(
    texts: Texts, field: str, value: str | None, key: str
) -> None:
    values = {**EXAMPLE, KNOWN: "G1+G2", REFERENCE: "", field: value}
    _, bad = read_form(texts, values)
    assert set(bad) == {field}
    assert bad[field] == texts(key, low={"age": 15}.get(field, 0), high={"age": 22}.get(field, 20))


def test_read_form_accepts_decimal_comma(texts: Texts) -> None:
    body, bad = read_form(texts, {**EXAMPLE, "G1": "10,5", KNOWN: "G1", REFERENCE: ""})
    assert bad == {}
    assert body["G1"] == 10.5


def test_prediction_card_shows_grade_interval_chance_and_alarm(texts: Texts) -> None:
    html = result.prediction_card(texts, EXAMPLE, ANSWER)
    assert texts.number(9.6) in html
    assert texts("result.pass") in html
    assert texts("chance.open") in html
    assert escape(texts("priority.watch_why")) in html
    assert escape(texts("notfor.rank")) in html
    assert html.count("<svg") == 1


def test_prediction_card_names_values_far_from_the_training_data(texts: Texts) -> None:
    label = next(texts.choose(f.about.label) for f in FEATURES if f.name == "absences")
    sentence = escape(texts("result.unusual", values=label))
    assert sentence in result.prediction_card(texts, EXAMPLE, ANSWER | {"unusual": ["absences"]})
    assert "unusual" not in result.prediction_card(texts, EXAMPLE, ANSWER)


@pytest.mark.parametrize("percent", range(0, 101, 5))
@pytest.mark.parametrize(("low", "high"), [(0, 9), (8, 10), (9, 20), (10, 12)])
def test_chance_in_words_follows_the_interval(
    texts: Texts, percent: int, low: int, high: int
) -> None:
    if (low >= 10 and percent < 50) or (high < 10 and percent >= 50):
        return  # The chance is on the side of the grade, which lies in the interval.
    said = {"pass_probability": percent / 100, "interval": {"low": low, "high": high}}
    words = result.chance_in_words(texts, said)
    allowed = CHANCES[:3] if low >= 10 else CHANCES[4:] if high < 10 else CHANCES[1:5]
    assert words in {texts(f"chance.{name}") for name in allowed}
    if low < 10 <= high and 40 <= percent < 60:
        assert words == texts("chance.open")


def test_words_and_grade_beside_the_interval_agree_for_all_real_pupils(
    texts: Texts, real_data_dir: Path
) -> None:
    predictor = Predictor.load(ROOT / "student_success" / "seed", version="seed")
    pupils = read(real_data_dir / "final.csv").frame[list(FEATURE_NAMES)].to_dict("records")
    students = [
        StudentFeatures.model_validate(one | dict.fromkeys(("G1", "G2")[known:]))
        for one in pupils
        for known in range(3)
    ]
    predictions = predictor.predict_many(students)
    assert len(predictions) == 3 * 662
    for one in predictions:
        interval = {"low": one.low, "high": one.high}
        words = result.chance_in_words(
            texts, {"pass_probability": one.pass_probability, "interval": interval}
        )
        named = next(n for n in CHANCES if texts(f"chance.{n}") == words)
        assert one.low <= round_grade(one.grade) <= one.high
        allowed = CHANCES[:3] if one.low >= 10 else CHANCES[4:] if one.high < 10 else CHANCES[1:5]
        assert named in allowed
        shown = rounded_estimate(texts, one.grade)
        assert (texts.number(10, 2, short=True) + ")" in shown) == (9.5 <= one.grade < 10)


@pytest.mark.parametrize(("grade", "low", "high"), [(0, 0, 0), (9.5, 8, 11), (20, 20, 20)])
def test_grade_scale_is_valid_svg_with_description(
    texts: Texts, grade: float, low: int, high: int
) -> None:
    svg = grade_scale(texts, grade=grade, low=low, high=high, passes=grade >= 9.5)
    root = ElementTree.fromstring(svg)
    assert root.attrib["role"] == "img"
    assert texts.number(grade) in root.attrib["aria-label"]
    for rect in root.iter("rect"):
        assert float(rect.attrib["width"]) > 0
        assert 0 <= float(rect.attrib["x"]) <= 400


@pytest.mark.parametrize("pupils", [1, 30, 10_000])
def test_distribution_numbers_fit_their_bars(texts: Texts, pupils: int) -> None:
    scored = [_scored(predicted_G3=grade % 21) for grade in range(pupils)]
    root = ElementTree.fromstring(distribution(texts, scored))
    bars = list(root.iter("rect"))
    titles = [title.text or "" for title in root.iter("title")]
    assert sum(int(title.rpartition(" ")[2]) for title in titles) == pupils
    numbers = [text.text or "" for text in root.iter("text") if text.attrib["class"] == "count"]
    assert all(len(number) * 6 <= float(bars[0].attrib["width"]) + 3 for number in numbers)
    assert bool(numbers) == (pupils < 10_000)


def test_html_escapes_text_of_people_and_of_the_api(texts: Texts) -> None:
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
        table(texts, ATTACK, [ATTACK], [[ATTACK]]),
        class_list.ranking(
            texts, [(1, _scored(ATTACK))], reasons={0: ATTACK, 1: ATTACK, 2: ATTACK}
        ),
        class_list.printed_title(texts, ATTACK, "2026-11-23T08:00:00Z"),
        history_table(texts, [row]),
        explanation.reasons(
            texts,
            {
                "reasons": {"fr": [ATTACK], "en": [ATTACK]},
                "what_if": [
                    {"change": {"studytime": ATTACK}, "predicted_G3": 1.0, "pass_probability": 0.1}
                ],
            },
        ),
        models.gate_conditions(texts, 1, {"passed": False, "conditions": [condition]}),
        models.deployment_log(texts, [deployment]),
        models.version_table(texts, [version], {}),
        models.training_job(texts, {"state": "failed", "error": ATTACK}),
        models.training_job(texts, {"state": "running", "progress": {"step": ATTACK}}),
        api_error(texts, ApiError("x", 500, ATTACK, request_id=ATTACK)),
    ]
    for piece in pieces:
        assert "<img" not in piece
        assert ATTACK not in piece


def test_class_list_is_sorted_by_risk_and_filtered() -> None:
    safe = _scored("safe", pass_probability=0.9, at_risk=False)
    failing = _scored("lost", pass_probability=0.1, decision="echec", predicted_G3=5.0)
    ranked = class_list.sort_by_risk([safe, failing])
    assert [scored.pupil.reference for scored in ranked] == ["lost", "safe"]
    assert [rank for rank, _ in class_list.select(ranked, "none", "")] == [2]
    assert [rank for rank, _ in class_list.select(ranked, "act", "")] == [1]
    assert [rank for rank, _ in class_list.select(ranked, "watch", "")] == []
    assert [rank for rank, _ in class_list.select(ranked, "all", "SAF")] == [2]


def test_reasons_describe_suggested_changes_in_words(texts: Texts) -> None:
    answer = {
        "reasons": {"fr": ["un", "deux", "trois", "quatre"], "en": ["a", "b", "c", "d"]},
        "what_if": [
            {"change": {"studytime": 3}, "predicted_G3": 11.0, "pass_probability": 0.9},
            {"change": {"goout": 1, "absences": 2}, "predicted_G3": 11.0, "pass_probability": 0.9},
        ],
    }
    html = explanation.reasons(texts, answer)
    assert html.count("<li>") == 5
    studytime = next(feature for feature in FEATURES if feature.name == "studytime")
    assert studytime.about.choices is not None
    assert texts.choose(studytime.about.choices[3]) in html


def test_reasons_say_so_if_no_change_would_move_the_estimate(texts: Texts) -> None:
    answer = {"reasons": {"fr": ["un"], "en": ["a"]}, "what_if": []}
    html = unescape(explanation.reasons(texts, answer))
    assert texts("explain.no_ideas") in html
    assert texts("explain.ideas") not in html


@pytest.mark.parametrize(
    ("shares", "expected"),
    [
        # Help that was given, because it was needed, lowers no one's grade.
        ({"schoolsup": -0.5, "failures": -0.3, "G1": 0.4}, "failures"),
        ({"schoolsup": -0.5, "G1": 0.4}, "G1"),
        ({"schoolsup": -0.5}, None),
        ({"goout": -0.6, "failures": -0.3}, "failures"),
        # Beside a grade stands the strongest other reason with the same effect, where one counts.
        ({"G1": -4.0, "failures": -0.3, "absences": -0.4}, "G1, absences"),
        ({"G1": -1.0, "G2": -4.0, "failures": -0.3, "absences": 0.9}, "G2, failures"),
        ({"G1": -4.0, "G2": -1.0, "failures": -0.3}, "an earlier grade, failures"),
        # What speaks for a pass is no reason of a risk.
        ({"G1": -4.0, "absences": 0.9}, "G1"),
        ({"G1": 4.0, "absences": 0.9}, "G1, absences"),
        ({"G1": -4.0, "failures": -0.01, "schoolsup": -0.5}, "G1"),
        ({"G1": 4.0, "failures": -0.3}, "failures"),
        ({"schoolsup": 0.5, "failures": 0.3}, "schoolsup"),
    ],
)
def test_main_reasons_are_those_that_count(
    texts: Texts, shares: dict[str, float], expected: str | None
) -> None:
    values = {"schoolsup": "yes", "failures": 2, "goout": 1, "absences": 14, "G1": 6.0, "G2": 7.0}
    contributions = [
        {"feature": name, "value": values[name], "share": share} for name, share in shares.items()
    ]
    said = explanation.main_reasons(texts, {"contributions": contributions})
    if expected is None:
        assert said == texts("rank.no_reason")
    else:
        names = expected.split(", ")
        last = texts("rank.last_grade")
        grades = {
            "an earlier grade": explanation.value_in_words(texts, "G1", 6.0),
            **{n: explanation.value_in_words(texts, n, values[n], last) for n in ("G1", "G2")},
        }
        words = [
            grades[name]
            if name in grades
            else explanation.value_in_words(texts, name, values[name])
            for name in names
        ]
        shown = re.sub(r" \([+−][\d.,]+\)", "", said)
        assert shown == texts.listed(words)


@pytest.mark.parametrize(
    ("grade", "expected"),
    [
        (11.52, ("changed", "12", "+0.04")),
        (11.08, ("changed", "11", "−0.4")),
        (11.48, ("same", "11", "")),
    ],
)
def test_what_if_writes_any_change_of_the_estimate(
    grade: float, expected: tuple[str, str, str]
) -> None:
    """A change of 0.04 may be one of the rounded grade, too."""
    texts, (name, rounded, change) = Texts("en"), expected
    answer = {"interval": {"low": 8, "high": 14}, "decision": "reussite", "pass_probability": 0.8}
    html = explanation.what_if_result(
        texts, answer | {"predicted_G3": 11.48}, answer | {"predicted_G3": grade}
    )
    assert texts(f"explain.{name}", grade=f"{rounded} / 20", change=change) in html


def test_overview_counts_the_pupils_to_help(texts: Texts) -> None:
    safe = _scored("safe", pass_probability=0.9, at_risk=False)
    failing = _scored("lost", pass_probability=0.1, decision="echec", predicted_G3=5.0)
    html = class_list.overview(texts, [failing, safe, failing])
    _, found, rest = html.partition(texts("class.to_help"))
    assert found
    assert ">2<" in rest[:60], rest[:200]


def test_drift_shows_each_feature(texts: Texts) -> None:
    entry = {"distance": 0.2, "p_adjusted": 0.01, "count": 120, "verdict": "drift"}
    html = monitoring.drift(
        texts,
        {
            "verdict": "drift",
            "features": {"age": entry},
            "predictions": {**entry, "verdict": "stable"},
        },
    )
    assert texts("drift.drift") in html
    assert texts("drift.stable") in html


@pytest.mark.parametrize(
    ("health", "changed", "graded", "expected"),
    [
        ({"model_loaded": False, "status": "unavailable"}, (), 0, "banner.unavailable"),
        ({"status": "degraded"}, ("age",), 0, "conclusion.degraded"),
        ({}, ("age", "failures"), 0, "conclusion.drift"),
        ({}, (), 100, "conclusion.wide"),
        ({}, (), 5, "conclusion.stable"),
    ],
)
def test_conclusion_says_first_what_matters_most(
    texts: Texts, health: dict[str, Any], changed: tuple[str, ...], graded: int, expected: str
) -> None:
    live = monitoring.LiveFigures(outcomes={"G1": graded}, coverage=0.5)
    verdict = {name: {"verdict": "drift"} for name in changed}
    drift = {
        "verdict": "drift" if changed else "stable",
        "rows": 60,
        "minimum_count": 50,
        "features": {**verdict, "traveltime": {"verdict": "stable"}},
        "predictions": {"verdict": "stable"},
    }
    html = monitoring.conclusion(
        texts, {"model_loaded": True, "status": "ok", **health}, live, drift
    )
    start = escape(texts(expected, names="", count=0, needed=0, share="").split("(")[0])
    assert start in html
    labels = [feature.about.label for feature in FEATURES if feature.name in changed]
    assert expected != "conclusion.drift" or all(texts.choose(label) in html for label in labels)


@pytest.mark.parametrize("graded", [3, 42])
def test_live_figures_are_shown_with_their_number_once_there_are_enough(
    texts: Texts, graded: int
) -> None:
    text = (
        "# HELP student_success_predictions_total x\n"
        'student_success_predictions_total{decision="reussite",horizon="G1"} 3.0\n'
        'student_success_predictions_total{decision="echec",horizon="G1"} 2.0\n'
        'student_success_live_mae{horizon="G1"} 1.25\n'
        'student_success_live_mae{horizon="none"} NaN\n'
        "student_success_live_interval_coverage 0.9\n"
        f'student_success_live_outcomes{{horizon="G1"}} {graded}.0\n'
    )
    html = monitoring.live_figures(texts, monitoring.LiveFigures.read(text))
    assert ">5<" in html
    is_enough = graded >= monitoring.ENOUGH_OUTCOMES
    assert (texts.number(1.25, 2) in html) == is_enough
    assert (texts.percent(0.9) in html) == is_enough
    assert str(graded) in html


def test_gate_conditions_fold_fairness_conditions_that_are_met(texts: Texts) -> None:
    names = ("fairness.sex=F.mae.G1", "fairness.sex=M.mae.G1")
    listed = [
        {"name": name, "passed": name == names[0], "value": 0.1, "limit": 0.5, "detail": ""}
        for name in names
    ]
    html = models.gate_conditions(texts, 4, {"passed": False, "conditions": listed})
    shown, folded = html.split("<details>")
    # Groups have the words of the profile, not its codes.
    boys, girls = {"fr": ("garçons", "filles"), "en": ("boys", "girls")}[texts.language]
    assert f"{boys}, {texts('measure.mae')}, G1" in shown
    assert f"{girls}, {texts('measure.mae')}, G1" in folded
    assert "sex" not in html
    assert texts("gate.fair", count=1) in folded


def test_gate_conditions_are_explained_in_the_language_of_the_reader(texts: Texts) -> None:
    def condition(name: str, passed: bool, value: float | None = 0.2) -> dict[str, Any]:
        limit = None if value is None else 0.05
        return {"name": name, "passed": passed, "value": value, "limit": limit, "detail": "ENGLISH"}

    known = [
        *(condition(name, passed) for name in ("mae", "r2", "no_leak") for passed in (True, False)),
        *(condition(f"not_below_{other}.G1", False) for other in ("baseline", "champion")),
        *(
            condition(name, passed)
            for name in (
                "enough_pupils",
                "horizons",
                "population",
                "recorded_outcomes",
                "file_pupils.x",
            )
            for passed in (True, False)
        ),
        *(condition("synthetic_data", passed) for passed in (True, False)),
        {**condition("recorded_outcomes", True), "value": None},
        {**condition("feature_leaks", False), "detail": "ENGLISH: bulletin"},
        condition("skill_over_baselines", False),
        condition("champion_is_the_one_compared", False, None),
        condition("fairness.sex=F.mae.G1", False),
        condition("fairness", True, None),
    ]
    html = models.gate_conditions(texts, 4, {"passed": False, "conditions": known})
    assert "ENGLISH" not in html
    assert "bulletin" in html
    assert texts.number(0.2, 4, short=True) in html
    for name in ("mae", "not_below_champion", "fairness"):
        assert escape(texts(f"advice.{name}")) in html
    new = models.gate_conditions(
        texts, 4, {"passed": False, "conditions": [condition("of_a_later_version", False)]}
    )
    assert 'lang="en">ENGLISH' in new
    assert escape(texts("advice.other")) in new


def test_families_offered_are_those_of_a_training(texts: Texts) -> None:
    from training.fitting.families import FAMILIES

    assert [code for _, code in models.family_choices(texts)] == ["", *FAMILIES]


@pytest.mark.parametrize(("share", "minutes"), [(0.01, None), (0.5, 2), (0.9, 1)])
def test_running_training_has_a_forecast(texts: Texts, share: float, minutes: int | None) -> None:
    started = datetime.now(UTC) - timedelta(seconds=110)
    job = {"state": "running", "created_at": started.isoformat(), "progress": {"share": share}}
    html = models.training_job(texts, job)
    forecasts = [texts.count("models.minutes_left", n) for n in (1, 2)]
    shown = None if minutes is None else texts.count("models.minutes_left", minutes)
    assert [text for text in forecasts if text in html] == ([shown] if shown else [])


@pytest.mark.parametrize("code", ["dataset_invalid", "interrupted", "of_a_later_version", None])
def test_failed_training_is_explained_in_the_language_of_the_reader(
    texts: Texts, code: str | None
) -> None:
    job = {"state": "failed", "error": "ENGLISH", "error_code": code}
    shown, found, folded = models.training_job(texts, job).partition("<details")
    why = texts.get(f"failed.{code}", texts("failed.other"))
    assert escape(texts("models.train_failed", why=why)) in shown
    assert "ENGLISH" not in shown
    assert found
    assert 'lang="en">ENGLISH' in folded


def test_gate_conditions_show_unmet_conditions_first(texts: Texts) -> None:
    good = {"name": "mae", "passed": True, "value": 0.9, "limit": 1.0, "detail": ""}
    bad = {"name": "r2", "passed": False, "value": 0.7, "limit": 0.8, "detail": ""}
    html = models.gate_conditions(texts, 4, {"passed": False, "conditions": [good, bad]})
    assert html.index(texts("gate.no")) < html.index(texts("gate.yes"))


def test_model_charts_draw_what_the_card_has(texts: Texts) -> None:
    card: dict[str, Any] = {
        "calibration": {"bins": [{"n": 40, "probability": 0.1, "passed": 0.25}]},
        "fairness": [
            {"attribute": "<b>", "group": "x", "horizon": "G1+G2", "pupils": 9, "mae": {"value": 0}}
        ],
    }
    html = model_charts(texts, {"model_card": card})
    assert html.count("<svg") == 2
    assert texts.percent(0.25) in html
    assert "<b> x" not in html
    for other in ({}, {"model_card": None}, {"model_card": {"calibration": None, "fairness": []}}):
        assert model_charts(texts, other) == ""
    unmeasured = {**card, "fairness": [{**card["fairness"][0], "mae": None}]}
    assert model_charts(texts, {"model_card": unmeasured}).count("<svg") == 1
