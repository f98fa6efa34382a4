"""Generate the model card from the evidence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from student_success.domain.students import (
    FEATURES,
    GRADE,
    GRADE_MAX,
    GRADE_MIN,
    HORIZONS,
    PROFILE,
    TARGET,
    Feature,
)
from training.evaluation.fairness import MEASURES

PURPOSE = (
    f"Estimate a pupil's final grade ({TARGET}, {GRADE_MIN:g} to {GRADE_MAX:g}) early enough to "
    "offer help."
)
NOT_FOR = (
    "deciding on a pupil's admission, orientation, discipline or reward",
    "ranking pupils, classes, teachers or schools",
    "pupils of a school unlike those of the training data, before a check on its own pupils",
    "concluding that a change of habit would cause another grade: the model sees associations",
)
UCI_SHA256 = "73b314d7229e25eb31a8bedac494cfe30d4031f079f7d5bfea168453c0a55631"
"""Of the file that `student-success prepare` makes of the published data."""
UCI = "Two Portuguese secondary schools, 2005–2006; mathematics and Portuguese language together."
SYNTHETIC = "Trained on the synthetic sample: nothing it says is about real pupils."
MEASURE_NAMES = {
    "mae": "MAE",
    "mae_rounded": "MAE, rounded to whole grades",
    "rmse": "RMSE",
    "r2": "R²",
    "accuracy": "pass/fail accuracy",
    "recall_failing": "recall of the failing",
    "brier": "Brier score",
    "crps": "CRPS",
    "coverage": "share within the 90 % interval",
    "width": "mean width of the interval",
}
_NAMES = {
    "candidate": "this model",
    "baseline": "rule of thumb",
    "champion": "version served",
    "without_outcomes": "without recorded grades",
}
_FIGURES = {"mae": "MAE", "false_alarms": "false alarms", "missed_failures": "missed failures"}


def make_card(
    *, recipe: Mapping[str, Any], evidence: Mapping[str, Any], frame: pd.DataFrame
) -> tuple[dict[str, Any], str]:
    """Return the card as data and as Markdown.

    Parameters
    ----------
    recipe
        Content of recipe.json.
    evidence
        Content of evaluation.json.
    frame
        The pupils that the model was fitted on: features and target.
    """
    metrics = {
        horizon: {
            name: {
                measure: {"mean": round(value["mean"], 4), "half": round(value["half"], 4)}
                for measure, value in measured.items()
            }
            for name, measured in by_name.items()
        }
        for horizon, by_name in evidence["horizons"].items()
    }
    data = recipe["data"]
    card = {
        "purpose": PURPOSE,
        "not_for": list(NOT_FOR),
        "limits": list(_limits(data, evidence, frame)),
        "data": dict(data),
        "model": {"family": recipe["family"], "params": dict(recipe["params"])},
        "metrics": metrics,
        "alarm": evidence["alarm"],
        "calibration": evidence["calibration"],
        "fairness": [group for group in evidence["groups"] if any(m in group for m in MEASURES)],
        "leaks": {
            "found": evidence["leaks"],
            "checked": evidence["leaks_checked"],
            "features": list(evidence.get("feature_leaks", ())),
        },
    }
    return card, "\n".join(_markdown(card, evidence)) + "\n"


def _limits(
    data: Mapping[str, Any], evidence: Mapping[str, Any], frame: pd.DataFrame
) -> Iterator[str]:
    """Yield what a reader must know of these pupils before using the model for others."""
    outcomes = data.get("outcomes") or {}
    if data.get("synthetic"):
        yield SYNTHETIC
    elif outcomes.get("file_sha256", data["sha256"]) == UCI_SHA256:
        yield UCI
    else:
        yield f"The pupils of {data['name']}; those of another school or year may differ."
    if outcomes.get("rows"):
        effects = "; ".join(
            f"{horizon} {mae['candidate']:.3f}, without {mae['without_outcomes']:.3f}"
            for horizon, mae in evidence["file_pupils"]["mae"].items()
        )
        yield (
            f"{outcomes['rows']} of the {data['rows']} pupils ({outcomes['share']:.0%}) are from "
            f"recorded final grades. Mean error on held-out pupils of the file: {effects}."
        )
    first = str(HORIZONS[0])
    width = evidence["horizons"][first]["candidate"]["width"]["mean"] / (GRADE_MAX - GRADE_MIN)
    yield f"Without period grades the interval spans {width:.0%} of the scale on average."
    if GRADE.not_finished is not None:
        left = int((frame[TARGET] == GRADE.not_finished).sum())
        yield (
            f"{left} of {len(frame)} pupils did not finish and were given {GRADE.not_finished:g}; "
            "who will is hard to foresee."
        )
    if counted := PROFILE.training.unrecorded_when_not_finished:
        names = ", ".join(counted)
        yield (
            f"{names}: the file has one value a pupil, taken as that of the end of the year, and "
            "none is used of those who did not finish. While no grade is known, it changes no "
            "prediction. Earlier in the year a count is lower than those the model learnt from, "
            "so that a prediction with some grades known is rather too good for a pupil who will "
            "miss more. Count since the start of the year; leave it unknown if it is not counted."
        )
    for leak in evidence.get("feature_leaks", ()):
        known = "hidden from the model, as declared" if leak["declared"] else "NOT declared"
        yield f"Known only after the outcome: {leak['feature']} {leak['finding']} ({known})."
    if absent := [text for feature in FEATURES if (text := _absent(feature, frame))]:
        yield f"Allowed, but not in the data: {'; '.join(absent)}."


def _absent(feature: Feature, frame: pd.DataFrame) -> str:
    """Return in words which allowed values no pupil of the data has; empty if there are none."""
    known = frame[feature.name].dropna()
    if known.empty:
        return f"{feature.name} (never known)"
    if feature.kind == "category":
        unused = [str(value) for value in feature.categories if value not in set(known)]
        return f"{feature.name} {', '.join(unused)}" if unused else ""
    low, high = float(known.min()), float(known.max())
    ends = [f"below {low:g}"] if low > feature.bounds[0] else []
    ends += [f"above {high:g}"] if high < feature.bounds[1] else []
    return f"{feature.name} {' and '.join(ends)}" if ends else ""


def _markdown(card: Mapping[str, Any], evidence: Mapping[str, Any]) -> list[str]:
    data = card["data"]
    model = card["model"]
    lines = ["# Model card", "", card["purpose"], "", "**Not for**", ""]
    lines += [f"- {item}" for item in card["not_for"]]
    lines += ["", "**Limits**", ""]
    lines += [f"- {item}" for item in card["limits"]]
    lines += ["", "## Data and model", ""]
    lines += [f"`{data['name']}`, {data['rows']} pupils, SHA-256 `{data['sha256']}`."]
    params = ", ".join(f"{key} {value}" for key, value in sorted(model["params"].items()))
    lines += [f"Family `{model['family']}`: {params}.", ""]
    lines += ["## On pupils the model had not seen", ""]
    lines += ["Mean over the folds ± half its 95 % interval, corrected for their overlap.", ""]
    for horizon, by_name in evidence["horizons"].items():
        lines += [*_figures(horizon, by_name), ""]
    lines += [
        "## Calibration of the pass probability",
        "",
        "| said | passed | pupils |",
        "|--:|--:|--:|",
    ]
    lines += [
        f"| {b['probability']:.2f} | {b['passed']:.2f} | {b['n']} |"
        for b in card["calibration"]["bins"]
    ]
    lines += ["", f"Expected calibration error {card['calibration']['ece']:.3f}.", ""]
    lines += ["## The alarm", "", *_alarm(card["alarm"]), "", "## Fairness", ""]
    return lines + _fairness(card["fairness"])


def _figures(horizon: str, by_name: Mapping[str, Any]) -> list[str]:
    names = list(by_name)
    head = f"| known: {horizon} | " + " | ".join(_NAMES[name] for name in names) + " |"
    rows = [
        f"| {label} | "
        + " | ".join(
            f"{by_name[n][key]['mean']:.3f} ± {by_name[n][key]['half']:.3f}" for n in names
        )
        + " |"
        for key, label in MEASURE_NAMES.items()
    ]
    return [head, "|---" + "|--:" * len(names) + "|", *rows]


def _alarm(alarm: Mapping[str, Any]) -> list[str]:
    lines = [
        f"It is set to find {alarm['recall_asked']:.0%} of the failing pupils. On pupils not seen:",
        "",
        "| known | failing found | passing alarmed in vain |",
        "|---|--:|--:|",
    ]
    return lines + [
        f"| {horizon} | {_share(found['recall'])} | {_share(found['false_alarms'])} |"
        for horizon, found in alarm["horizons"].items()
    ]


def _share(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.1%}"


def _fairness(groups: list[dict[str, Any]]) -> list[str]:
    if not groups:
        return ["The data has no column to audit by."]
    judged = [
        (group, measure, group[measure])
        for group in groups
        for measure in MEASURES
        if measure in group
    ]
    clear = sorted((item for item in judged if item[2]["p"] < 0.05), key=lambda item: item[2]["p"])
    lines = [
        f"{len(judged)} gaps between a group and all other pupils were measured; about "
        f"{0.05 * len(judged):.0f} would look clear (p < 0.05) by chance alone, {len(clear)} do. "
        "The clearest:",
        "",
        "| known | group | measure | group's figure | gap (95 % interval) | p |",
        "|---|---|---|--:|--:|--:|",
    ]
    return lines + [
        f"| {group['horizon']} | {group['attribute']} {group['group']} | {_FIGURES[measure]} "
        f"| {found['value']:.3f} | {found['gap']:+.3f} "
        f"({found['low']:+.3f} to {found['high']:+.3f}) | {found['p']:.3f} |"
        for group, measure, found in clear[:12]
    ]
