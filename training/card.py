"""The model card: written from the evidence, never by hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_MEASURES = {
    "mae": "MAE",
    "rmse": "RMSE",
    "r2": "R²",
    "accuracy": "pass/fail accuracy",
    "recall_failing": "recall of the failing",
    "brier": "Brier score",
    "crps": "CRPS",
    "coverage": "coverage of the 90 % interval",
    "width": "mean width (grades)",
}


def make_card(
    *, recipe: Mapping[str, Any], evidence: Mapping[str, Any]
) -> tuple[dict[str, Any], str]:
    """Return the card as data and as Markdown."""
    metrics = {
        f"{horizon}/{name}/{measure}": round(value["mean"], 4)
        for horizon, by_name in evidence["horizons"].items()
        for name, measured in by_name.items()
        for measure, value in measured.items()
    }
    card = {
        "purpose": "Estimate a pupil's final grade (G3, 0 to 20) to offer help early.",
        "not_for": [
            "deciding on a pupil's admission, orientation, discipline or reward",
            "ranking pupils, classes, teachers or schools",
            "schools unlike those of the training data, before a check on their own pupils",
        ],
        "data": recipe["data"],
        "model": {"family": recipe["family"], "params": recipe["params"]},
        "metrics": metrics,
    }
    lines = ["# Model card", "", card["purpose"], "", "Not for:", ""]
    lines += [f"- {item}" for item in card["not_for"]]
    lines += ["", "## Figures on pupils not seen", ""]
    for horizon, by_name in evidence["horizons"].items():
        names = list(by_name)
        lines += [f"### {horizon}", "", "| | " + " | ".join(names) + " |"]
        lines += ["|---" * (len(names) + 1) + "|"]
        lines += [
            f"| {label} | "
            + " | ".join(
                f"{by_name[n][key]['mean']:.3f} ± {by_name[n][key]['sd']:.3f}" for n in names
            )
            + " |"
            for key, label in _MEASURES.items()
        ]
        lines.append("")
    return card, "\n".join(lines)
