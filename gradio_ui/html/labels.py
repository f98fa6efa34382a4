"""Names and figures that several tabs show in the same way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gradio_ui.html.markup import Html, badge
from gradio_ui.texts import Texts
from student_success.domain.students import HORIZONS, Horizon

_HORIZON_KEYS = {HORIZONS[0]: "none", HORIZONS[1]: "g1", HORIZONS[2]: "g1_g2"}


def horizon_key(horizon: str) -> str:
    """Return the part of a text's key that stands for a horizon."""
    return _HORIZON_KEYS[Horizon(horizon)]


def horizon_name(texts: Texts, horizon: str) -> str:
    """Name the grades that were known, in a word or two."""
    return texts(f"horizon.short_{horizon_key(horizon)}")


def version_name(texts: Texts, version: str | None) -> str:
    """Name a model version; the seed model has no number."""
    if version is None:
        return "—"
    return texts("model.seed") if version == "seed" else texts("model.version", version=version)


def decision_name(texts: Texts, passes: bool) -> str:
    """Name the expected outcome."""
    return texts("rank.pass" if passes else "rank.fail")


def decision_badge(texts: Texts, passes: bool) -> Html:
    """Return the expected outcome as a badge."""
    return badge(decision_name(texts, passes), "good" if passes else "low")


def dataset_name(texts: Texts, dataset: Mapping[str, Any] | None) -> str:
    """Name the data that a model was trained on; made-up data are marked."""
    if not dataset:
        return "—"
    name = str(dataset.get("name", "—"))
    return texts("models.synthetic", name=name) if dataset.get("synthetic") else name


def metric(model: Mapping[str, Any], horizon: str, scorer: str, name: str) -> float | None:
    """Return one figure of ``GET /model``, or None if the model came without it.

    Parameters
    ----------
    scorer
        ``"candidate"`` for the model itself, ``"baseline"`` for the rule of thumb.
    """
    value = (model.get("metrics") or {}).get(f"{horizon}/{scorer}/{name}")
    return float(value) if isinstance(value, int | float) else None


def number_or_dash(texts: Texts, value: Any, digits: int = 3) -> str:
    """Write a number, or a dash if there is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "—"
    return texts.number(value, digits, short=digits > 3)
