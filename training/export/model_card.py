"""Generate the model card from the evidence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from training.evaluation.fairness import MEASURES

PURPOSE = "Estimate a pupil's final grade (G3, 0 to 20) early enough to offer help."
NOT_FOR = (
    "deciding on a pupil's admission, orientation, discipline or reward",
    "ranking pupils, classes, teachers or schools",
    "pupils of a school unlike those of the training data, before a check on its own pupils",
    "concluding that a change of habit would cause another grade: the model sees associations",
)
LIMITS = (
    "Two Portuguese secondary schools, 2005–2006; mathematics and Portuguese language together.",
    "Without period grades the model knows little: the interval spans half of the scale.",
    "Pupils who left and were given 0 are rare and hard to foresee.",
    "Past failures above 3 do not occur in the data, although the form allows 4.",
)
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
_NAMES = {"candidate": "this model", "baseline": "rule of thumb", "champion": "version served"}
_FIGURES = {"mae": "MAE", "false_alarms": "false alarms", "missed_failures": "missed failures"}


def make_card(
    *, recipe: Mapping[str, Any], evidence: Mapping[str, Any]
) -> tuple[dict[str, Any], str]:
    """Return the card as data and as Markdown.

    Parameters
    ----------
    recipe
        Content of recipe.json.
    evidence
        Content of evaluation.json.
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
        "limits": ([SYNTHETIC] if data.get("synthetic") else []) + list(LIMITS),
        "data": dict(data),
        "model": {"family": recipe["family"], "params": dict(recipe["params"])},
        "metrics": metrics,
        "alarm": evidence["alarm"],
        "calibration": evidence["calibration"],
        "fairness": [group for group in evidence["groups"] if any(m in group for m in MEASURES)],
        "leaks": {"found": evidence["leaks"], "checked": evidence["leaks_checked"]},
    }
    return card, "\n".join(_markdown(card, evidence)) + "\n"


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
        f"| {horizon} | {found['recall']:.1%} | {found['false_alarms']:.1%} |"
        for horizon, found in alarm["horizons"].items()
    ]


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
