"""Draw the plots of the model report from the evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from student_success.domain.students import HORIZONS
from training.evaluation.held_out import BASELINE, CANDIDATE, HeldOut
from training.evaluation.scores import calibration_bins

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLOURS = {CANDIDATE: "#1f5a8a", BASELINE: "#b0752a"}
_LABELS = {CANDIDATE: "this model", BASELINE: "rule of thumb"}


def draw(held_out: Sequence[HeldOut], folder: Path) -> list[tuple[str, str]]:
    """Draw all plots in a folder and return the file name and caption of each."""
    plots = (
        (
            "calibration.png",
            "Predicted and observed pass rates, five bins of equally many pupils",
            _reliability,
        ),
        ("errors.png", "Mean absolute error by final grade", _errors),
        ("intervals.png", "Width of the 90 % interval, and the share of pupils it held", _widths),
        ("predictions.png", "Final grade against prediction, pupils not seen", _scatter),
    )
    folder.mkdir(parents=True, exist_ok=True)
    for name, _, plot in plots:
        _figure(held_out, folder / name, plot)
    return [(name, caption) for name, caption, _ in plots]


def _figure(held_out: Sequence[HeldOut], path: Path, plot: Any) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.4), layout="constrained")
    axes = figure.subplots(1, len(HORIZONS))
    for at, horizon in zip(axes, HORIZONS, strict=True):
        here = [part for part in held_out if part.horizon == horizon]
        plot(at, here)
        at.set_title(f"known: {horizon}", fontsize=10)
        at.spines[["top", "right"]].set_visible(False)
    # Without the software version, equal data gives an equal file.
    figure.savefig(path, dpi=110, metadata={"Software": None})


def _together(parts: Sequence[HeldOut], name: str, what: str) -> np.ndarray[Any, Any]:
    return np.concatenate([getattr(part.calibrated[name], what) for part in parts])


def _actual(parts: Sequence[HeldOut]) -> np.ndarray[Any, Any]:
    return np.concatenate([part.actual for part in parts])


def _reliability(at: Axes, parts: Sequence[HeldOut]) -> None:
    at.plot([0, 1], [0, 1], color="#999999", linewidth=0.8, linestyle="--")
    for name, colour in _COLOURS.items():
        bins = calibration_bins(_together(parts, name, "probability"), _actual(parts) >= 10)
        predicted, observed = [b["probability"] for b in bins], [b["passed"] for b in bins]
        at.plot(predicted, observed, marker="o", color=colour, label=_LABELS[name])
    at.set_xlabel("predicted pass probability")
    at.set_ylabel("share that passed")
    at.legend(fontsize=8, frameon=False)


def _errors(at: Axes, parts: Sequence[HeldOut]) -> None:
    actual = _actual(parts)
    grades = np.unique(actual)
    for name, colour in _COLOURS.items():
        error = np.abs(_together(parts, name, "grade") - actual)
        at.plot(
            grades,
            [error[actual == grade].mean() for grade in grades],
            color=colour,
            label=_LABELS[name],
        )
    at.set_xlabel("final grade")
    at.set_ylabel("mean absolute error")
    at.legend(fontsize=8, frameon=False)


def _widths(at: Axes, parts: Sequence[HeldOut]) -> None:
    low, high = _together(parts, CANDIDATE, "low"), _together(parts, CANDIDATE, "high")
    actual = _actual(parts)
    held = ((low <= actual) & (actual <= high)).mean()
    at.hist(
        high - low + 1, bins=np.arange(0.5, 22.5).tolist(), density=True, color=_COLOURS[CANDIDATE]
    )
    at.set_xlabel("whole grades in the interval")
    at.set_ylabel("share of pupils")
    at.text(0.97, 0.93, f"held {held:.1%}", transform=at.transAxes, ha="right", fontsize=9)


def _scatter(at: Axes, parts: Sequence[HeldOut]) -> None:
    # The first repeat alone: each pupil once.
    pupils = np.unique(np.concatenate([part.pupils for part in parts]))
    repeat = np.cumsum([len(part.pupils) for part in parts]) <= len(pupils)
    first = [part for part, is_first in zip(parts, repeat, strict=True) if is_first]
    at.plot([0, 20], [0, 20], color="#999999", linewidth=0.8, linestyle="--")
    at.scatter(
        _together(first, CANDIDATE, "grade"), _actual(first), s=7, alpha=0.4, color="#1f5a8a"
    )
    at.set_xlabel("prediction")
    at.set_ylabel("final grade")
