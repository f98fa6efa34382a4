"""What the evaluation of a candidate measured: written by the training, judged by the gate.

It is the part of `evaluation.json`, in the candidate's artefact, that the gate uses; other keys are
ignored::

    {
      "losses": {                       one entry per loss: "crps" (preferred) or "rmse"
        "crps": {
          "G1+G2": {"candidate": [0.61, …], "baseline": [0.66, …], "champion": [0.62, …] or null},
          "G1":    {…},                 baseline: last known grade (G2, G1) or the median (none),
          "none":  {…}                  given the same conformal treatment if the loss is "crps"
        }
      },
      "n_train": 595.8, "n_test": 66.2, pupils per fold, on average
      "pupils": {"G1+G2": {"failed": 196, "passed": 466}, …},   held-out pupils, each once
      "mae": 0.86, "r2": 0.86,          candidate, with the most period grades that the data has,
                                        mean over the folds
      "leaks": 0,                       out-of-fold predictions by a fit that saw that pupil
      "leaks_checked": 19860,           out-of-fold predictions that were checked
      "champion": "…" or null,          fingerprint of the champion whose recipe was refitted
      "champion_as_served": false,      true: it cannot be refitted, its artefact was run instead
      "file_pupils": {                  only if pupils were added from the recorded outcomes
        "losses": {"G1+G2": {"candidate": […], …, "without_outcomes": […]}, …}
      },                                CRPS on the pupils of the file alone, and of a fit on them
      "feature_leaks": [                if it is absent, the promotion is refused
        {"feature": "absences", "finding": "0: 100% of those who did not …", "declared": true}
      ],
      "fairness": [                     [] if the data has no group to audit; absent is a refusal
        {"attribute": "sex", "group": "F", "horizon": "G1+G2", "measure": "mae",
         "gap": 0.08, "standard_error": 0.07}
      ]
    }

Every list of losses is in the order of the same repeated folds, one number per fold; lower is
better. `measure` is ``"mae"`` (grades), ``"false_alarms"`` or ``"missed_failures"`` (shares, 0 to
1); `gap` is the absolute difference between the group and all other pupils, `standard_error` that
of the difference. The evaluation leaves out groups that are too small to be judged.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from student_success.core import subprocesses
from student_success.core.configuration.settings import Settings
from student_success.core.errors import ArtefactError, PromotionRefusedError, TrainingFailedError
from student_success.core.subprocesses import ChildFailure
from student_success.model.artefact import Artefact

COMPARISON_MEMORY_MB = 4096
LOSSES = ("crps", "rmse")
"""Losses the gate understands; the preferred one comes first."""


@dataclass(frozen=True, slots=True)
class FoldLosses:
    """Losses of one horizon, one number per fold, all in the same order of folds."""

    candidate: tuple[float, ...] = ()
    baseline: tuple[float, ...] = ()
    champion: tuple[float, ...] | None = None
    without_outcomes: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True)
class FairnessGap:
    """How differently one group is treated from all other pupils, in one measure."""

    attribute: str
    group: str
    horizon: str
    measure: str
    gap: float
    standard_error: float


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the evaluation of a candidate measured; missing values are NaN, empty or None.

    Attributes
    ----------
    loss
        Name of the loss in `horizons`.
    n_train, n_test
        Mean number of pupils per fold.
    pupils
        Held-out pupils by horizon: how many failed, and how many passed.
    mae, r2
        Candidate with the most period grades that the data has, mean over the folds.
    leaks, leaks_checked
        Out-of-fold predictions by a fit that saw the pupil, out of how many checked.
    champion
        Fingerprint of the champion compared with; None if there was none.
    champion_as_served
        Whether its artefact was run, which may have been trained on the held-out pupils.
    file_pupils
        As `horizons`, on the pupils of the file alone; empty if none was added to them.
    feature_leaks
        Features that give the outcome away and that the profile does not declare, in words; None
        if they were not looked for.
    """

    loss: str
    horizons: Mapping[str, FoldLosses]
    n_train: float
    n_test: float
    mae: float
    r2: float
    leaks: float
    leaks_checked: float
    pupils: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    champion: str | None = None
    champion_as_served: bool = False
    file_pupils: Mapping[str, FoldLosses] = field(default_factory=dict)
    feature_leaks: tuple[str, ...] | None = None
    fairness: tuple[FairnessGap, ...] | None = None

    @property
    def fewest_pupils(self) -> float:
        """Return the fewest who failed, or passed, at a horizon; NaN if a number is missing."""
        counts = [count for pair in self.pupils.values() for count in pair]
        known = counts and self.pupils.keys() == self.horizons.keys()
        return math.nan if not known or any(map(math.isnan, counts)) else min(counts)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read the content of `evaluation.json`; the gate refuses missing or invalid numbers."""
        losses = _mapping(data.get("losses"))
        loss = next((name for name in LOSSES if name in losses), LOSSES[0])
        gaps = data.get("fairness")
        champion = data.get("champion")
        found = data.get("feature_leaks")
        return cls(
            loss=loss,
            horizons=_by_horizon(losses.get(loss)),
            **{
                key: _number(data.get(key))
                for key in ("n_train", "n_test", "mae", "r2", "leaks", "leaks_checked")
            },
            pupils={
                horizon: (_number(count.get("failed")), _number(count.get("passed")))
                for horizon, each in _mapping(data.get("pupils")).items()
                for count in [_mapping(each)]
            },
            champion=champion if isinstance(champion, str) else None,
            champion_as_served=data.get("champion_as_served") is True,
            file_pupils=_by_horizon(_mapping(data.get("file_pupils")).get("losses")),
            feature_leaks=tuple(
                f"{leak.get('feature')} {leak.get('finding')}"
                for leak in map(_mapping, found)
                if leak.get("declared") is not True
            )
            if isinstance(found, Sequence) and not isinstance(found, str)
            else None,
            fairness=tuple(_gap(_mapping(gap)) for gap in gaps)
            if isinstance(gaps, Sequence)
            else None,
        )


def leak_warnings(served: Artefact) -> list[str]:
    """Return in words that a version knows the outcome from a feature, or was never checked."""
    try:
        found = Evidence.from_json(served.read("evaluation.json")).feature_leaks
    except (OSError, ValueError, AttributeError):
        found = None
    if found is None:
        return [
            "This version was trained before features that give the outcome away were looked for, "
            "so it may rely on one: its figures may be too good. Promote a newer version."
        ]
    return [
        f"This version relies on a feature that gives the outcome away: {leak}. Its figures are "
        "too good. Promote a version without it."
        for leak in found
    ]


def read_evaluation(
    settings: Settings, candidate: Artefact, champion: Artefact | None
) -> Mapping[str, Any]:
    """Read a candidate's evaluation; repeat it if it compares with another champion.

    Raises
    ------
    ArtefactError
        If it cannot be read.
    PromotionRefusedError
        If the comparison fails.
    """
    try:
        evaluation = candidate.read("evaluation.json")
        if champion is not None and evaluation.get("champion") != champion.fingerprint:
            evaluation = _compare(settings, candidate.folder, champion.folder)
        # None: it could not be measured, which the gate refuses in words.
        if not all(isinstance(evaluation[name], int | float | None) for name in ("mae", "r2")):
            raise TypeError
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtefactError(
            "The evaluation of the model cannot be read. Train it again or choose another version."
        ) from error
    return evaluation


def _compare(settings: Settings, candidate: Path, champion: Path) -> dict[str, Any]:
    """Compare in a child process, because the service does not import the training package."""
    compare = subprocesses.run(
        "-m",
        "training",
        "compare",
        f"--candidate={candidate}",
        f"--champion={champion}",
        timeout=settings.train_timeout_seconds,
        memory_mb=COMPARISON_MEMORY_MB,
    )
    try:
        result = asyncio.run(compare)
    except (ChildFailure, TrainingFailedError) as error:
        raise PromotionRefusedError(
            "The candidate was not promoted: it could not be compared with the version served now. "
            "Train it again."
        ) from error
    evaluation: dict[str, Any] = result["evaluation"]
    return evaluation


def _by_horizon(losses: object) -> dict[str, FoldLosses]:
    return {name: _fold_losses(_mapping(folds)) for name, folds in _mapping(losses).items()}


def _fold_losses(folds: Mapping[str, Any]) -> FoldLosses:
    champion, without = folds.get("champion"), folds.get("without_outcomes")
    return FoldLosses(
        _numbers(folds.get("candidate")),
        _numbers(folds.get("baseline")),
        None if champion is None else _numbers(champion),
        None if without is None else _numbers(without),
    )


def _gap(gap: Mapping[str, Any]) -> FairnessGap:
    return FairnessGap(
        attribute=str(gap.get("attribute", "")),
        group=str(gap.get("group", "")),
        horizon=str(gap.get("horizon", "")),
        measure=str(gap.get("measure", "")),
        gap=_number(gap.get("gap")),
        standard_error=_number(gap.get("standard_error")),
    )


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _numbers(value: object) -> tuple[float, ...]:
    is_list = isinstance(value, Sequence) and not isinstance(value, str)
    return tuple(_number(item) for item in value) if is_list else ()  # type: ignore[attr-defined]


def _number(value: object) -> float:
    """Return a JSON number, or NaN for anything else; booleans are not numbers."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    try:
        return float(value)
    except OverflowError:  # JSON has integers of any length.
        return math.nan
