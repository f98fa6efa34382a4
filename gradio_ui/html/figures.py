"""Figures of a model as `GET /model` gives them: by horizon, by model, by measure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gradio_ui.texts import Words

BOTH = "G1+G2"
"""The horizon that versions are compared on: both period grades known."""


def measure(model: Mapping[str, Any], horizon: str, who: str, name: str) -> float | None:
    """Return one figure, or None where the model came without."""
    found = (model.get("metrics") or {}).get(f"{horizon}/{who}/{name}")
    return float(found) if isinstance(found, int | float) else None


def figure(words: Words, value: Any, digits: int = 3) -> str:
    """Write a figure, or a dash where there is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "—"
    return words.number(value, digits, short=digits > 3)
