"""Conditions of the gate on what the candidate and the served version were trained on."""

from __future__ import annotations

from student_success.lifecycle.gate import Condition
from student_success.model.artefact import Artefact


def conditions(
    candidate: Artefact, champion: Artefact | None, *, allow_synthetic: bool = False
) -> list[Condition]:
    """Compare the training data of a candidate with that of the served version.

    Parameters
    ----------
    champion
        None if nothing is served yet.
    allow_synthetic
        Whether a model of made-up data may replace one of real pupils.
    """
    return [_synthetic(candidate, champion, allow=allow_synthetic)]


def _synthetic(candidate: Artefact, champion: Artefact | None, *, allow: bool) -> Condition:
    made_up = bool(candidate.dataset.get("synthetic"))
    replaces_real = (
        made_up and champion is not None and not champion.dataset.get("synthetic", False)
    )
    detail = "1 if a model of made-up data would replace one of real pupils"
    if replaces_real:
        detail += "; allowed by allow_synthetic" if allow else "; allow_synthetic accepts it"
    return Condition(
        "synthetic_data", allow or not replaces_real, float(replaces_real), 0.0, detail
    )
